"""The bare input in a prompt, templates, and chats written as one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.datasets.extract import Template, TemplateError, bare_input, known_input
from batch.datasets.transcripts import split_transcript

SENTENCE = "山下先生は母をしています。"


@pytest.mark.parametrize(
    "prompt",
    [
        f"Please correct the grammar in the following Japanese sentence: {SENTENCE}",
        f"次の日本語文を文法的に正しく修正してください：{SENTENCE}",
        f"次の日本語文を文法的に正しく修正してください: {SENTENCE}",
        f"[FIX] Correct the grammar in this Japanese sentence: {SENTENCE}",
        f"[FIX] {SENTENCE}",
        f"  [CORRECT] {SENTENCE}\n",
        f"Correct the grammar of the following Japanese sentence.\n{SENTENCE}",
        f"次の文を修正してください。\n{SENTENCE}",
        f"Fix the grammar: {SENTENCE}",
    ],
)
def test_known_prefixes_go(prompt: str) -> None:
    assert known_input(prompt) == SENTENCE
    assert bare_input(prompt) == SENTENCE


def test_the_text_after_the_last_prefix_counts() -> None:
    prefix = "Please correct the grammar in the following Japanese sentence: "
    assert bare_input(f"{prefix}例。\nanswer: 例。\n{prefix}{SENTENCE}") == SENTENCE


def test_a_prefix_may_have_a_colon_in_its_sentence() -> None:
    assert bare_input("Fix the grammar: 時間：3時に来ます。") == "時間：3時に来ます。"


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Translate to French: good morning", "good morning"),
        ("訳してください：おはよう", "おはよう"),
        ("First: one. Then: two", "two"),
        ("What is a deadlock?", "What is a deadlock?"),
        ("Answer this:", "Answer this:"),
        ("see http://example.org/a", "see http://example.org/a"),
    ],
)
def test_else_what_follows_the_last_colon_or_all_of_it(prompt: str, found: str) -> None:
    assert known_input(prompt) is None
    assert bare_input(prompt) == found


@given(st.text(min_size=1), st.text(alphabet="abc ,.\n", max_size=20), st.text(alphabet="xyz!\n", max_size=20))
def test_a_template_takes_out_what_it_put_in(text: str, before: str, after: str) -> None:
    template = Template.parse(f"{before}{{input_text}}{after}")
    filled = template.fill(text)
    assert filled == before + text + after
    if before.strip() and before.strip() not in text and not (after.strip() and after.strip() in text):
        assert template.take_out(filled) == text.strip()


def test_nothing_else_in_a_template_is_interpreted() -> None:
    template = Template.parse("{0} {input_text.__class__} {{x}} {input_text}")
    assert template.fill("{y}") == "{0} {input_text.__class__} {{x}} {y}"


def test_a_template_in_chatml_has_a_system_turn() -> None:
    template = Template.parse(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nFix: {input}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (template.system, template.fill("x")) == ("Be brief.", "Fix: x")


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(TemplateError, match="input_text"):
        Template.parse("Correct this sentence.")


@given(st.text())
def test_any_prompt_has_some_input(prompt: str) -> None:
    assert bool(bare_input(prompt)) == bool(prompt.strip())
    split_transcript(prompt)


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n",
        "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s>",
        "<|system|>\nS<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\nA<|end|>",
        "System: S\nUser: Q\nAssistant: A",
    ],
)
def test_chats_written_as_text(text: str) -> None:
    assert split_transcript(text) == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
    ]


def test_gemma_and_alpaca() -> None:
    gemma = "<start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>"
    alpaca = "Below is an instruction.\n\n### Instruction:\nQ\n\n### Input:\nI\n\n### Response:\nA"
    assert split_transcript(gemma)[-1] == {"role": "assistant", "content": "A"}
    assert split_transcript(alpaca) == [{"role": "user", "content": "Q\nI"}, {"role": "assistant", "content": "A"}]
    assert split_transcript("nothing of the kind") == []
