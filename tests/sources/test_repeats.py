"""Which prompts and ids come twice, however many there are and whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.sources import from_prompts, repeats, validate
from batch.sources.repeats import Repeats

TEXTS = st.text(st.sampled_from("ab\0é日\ud800"), max_size=3)
KEYS = st.tuples(TEXTS | TEXTS.map(lambda text: text * 40), st.sampled_from([b"", b"with more"]))
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(st.lists(KEYS, max_size=60), st.integers(1, 7), st.integers(0, 4))
def test_a_dictionary_would_find_the_same(
    monkeypatch: pytest.MonkeyPatch, keys: list[tuple[str, bytes]], at_once: int, limit: int
) -> None:
    monkeypatch.setattr(repeats, "_AT_ONCE", at_once)
    found, known, again = Repeats(), dict[Any, int](), list[tuple[int, int]]()
    for position, (text, sort) in enumerate(keys, 1):
        found.add(text, position, sort)
        if (first := known.setdefault((text, sort), position)) != position:
            again.append((first, position))
    assert found.found(limit) == (len(again), again[:limit])
    assert found.lost is None


def test_the_first_ones_are_shown_of_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_SETTINGS", (*repeats._SETTINGS, "cache_size=4"))  # pages: the rest is on disk
    found = Repeats()
    for position in range(30_000):
        found.add(f"key {position % 20_000} " * 9, position)
    assert found.found(3) == (10_000, [(0, 20_000), (1, 20_001), (2, 20_002)])


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_SETTINGS", (*repeats._SETTINGS, "max_page_count=8"))
    report = validate(from_prompts(["the same"] * 5_000))
    assert report.ok and report.total == 5_000 and not report.duplicates
    assert [problem.text for problem in report.problems] == [
        "nobody looked for repeated prompts and ids: database or disk is full"
    ]


def test_one_prompt_for_two_models_is_no_repetition() -> None:
    rows = [{"prompt": "a", "model": model} for model in ("m", "n", "m")]
    from batch.sources.rows import TableSource

    pa = pytest.importorskip("pyarrow")
    report = validate(TableSource(pa.Table.from_pylist(rows), per_row={"model": "model"}))
    assert (report.duplicates, report.duplicate_pairs) == (1, [(1, 3)])
