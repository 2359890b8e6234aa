"""GLEU against the values that gec-metrics publishes for it (its test of the official and of the counting form)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.gleu import gleu, gleu_score, gleu_stats, sentence_gleu

SOURCES = [
    "This sentences contain gramamtical error .",
    "This is a sentence .",
    "This is no change .",
    "I bought a pen to write a letter to a friend .",
]
HYPOTHESES = [
    "This sentence contains a grammatical error .",
    "the sentence was corrected into completely different one .",
    "This is no change .",
    "I bought a pen to write a letter to a friend .",
]
REFERENCES = [
    [
        "This sentence contains a grammatical error .",
        "dummy sentence .",
        "This is no change .",
        "I bought a pen to write a letter to the friend .",
    ],
    [
        "These sentences contain grammatical errors .",
        "another dummy sentence .",
        "This is no change .",
        "I bought a pen to write the letter to the friend .",
    ],
]
TOKENS = st.lists(st.sampled_from("abc"), max_size=12)


def split(texts: list[str]) -> list[list[str]]:
    return [text.split() for text in texts]


ALL = split(SOURCES), split(HYPOTHESES), [split(texts) for texts in REFERENCES]


def test_official_values() -> None:
    assert gleu(*ALL) == pytest.approx(0.369131, abs=1e-6)
    assert sentence_gleu(*ALL) == pytest.approx([0.5, 0.0, 1.0, 0.2640485], abs=1e-6)


def test_values_of_the_counting_form() -> None:
    assert gleu(*ALL, form="counted") == pytest.approx(0.2913773302697463, abs=1e-12)
    assert sentence_gleu(*ALL, form="counted") == pytest.approx([0.5, 0.0, 1.0, 0.2578313459119911], abs=1e-12)


def test_the_forms_differ_where_the_input_says_something_once_too_often() -> None:
    source, hypothesis, reference = list("aba"), list("aba"), list("abc")
    assert gleu_stats(source, hypothesis, reference)[2:4] == [2, 3]
    assert gleu_stats(source, hypothesis, reference, counted=True)[2:4] == [1, 3]


@given(TOKENS, TOKENS)
def test_the_reference_itself_is_the_best_there_is(source: list[str], reference: list[str]) -> None:
    score = gleu_score(gleu_stats(source, reference, reference))
    assert score == (1.0 if len(reference) >= 4 else 0.0)


@given(TOKENS, TOKENS, TOKENS)
def test_it_lies_between_0_and_1(source: list[str], hypothesis: list[str], reference: list[str]) -> None:
    for counted in (False, True):
        assert 0 <= gleu_score(gleu_stats(source, hypothesis, reference, counted=counted)) <= 1
