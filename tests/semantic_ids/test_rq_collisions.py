"""Collisions, suffixes and use, against counting by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.semantic_ids.collisions import count_collisions, pack, sid_text, suffixes
from batch.semantic_ids.errors import SemanticIdError

CODES = st.lists(
    st.one_of(st.tuples(*[st.integers(0, 3)] * 3), st.just((-1, -1, -1))),
    max_size=60,
).map(lambda rows: np.array(rows, dtype=np.int32).reshape(-1, 3))


@settings(max_examples=200, deadline=None)
@given(CODES)
def test_the_report_is_what_counting_gives(codes: np.ndarray) -> None:
    rows = [tuple(row) for row in codes.tolist() if row[0] >= 0]
    buckets = Counter(rows)
    report = count_collisions(codes, 4)
    assert report.items == len(rows)
    assert report.skipped == len(codes) - len(rows)
    assert report.unique == len(buckets)
    assert report.collided_sids == sum(1 for n in buckets.values() if n > 1)
    assert report.collided_items == sum(n for n in buckets.values() if n > 1)
    assert report.largest == max(buckets.values(), default=0)
    assert report.rate == pytest.approx(1 - len(buckets) / len(rows) if rows else 0)
    for level, use in enumerate(report.levels):
        counts = Counter(row[level] for row in rows)
        assert use.counts == tuple(counts[k] for k in range(4))
        assert use.used == len(counts)
        entropy = -sum(n / len(rows) * math.log2(n / len(rows)) for n in counts.values())
        assert use.entropy == pytest.approx(entropy, abs=1e-12)
        assert use.perplexity == pytest.approx(2**entropy)


@settings(max_examples=200, deadline=None)
@given(CODES)
def test_suffixes_count_shared_ids_in_row_order(codes: np.ndarray) -> None:
    rows = [tuple(row) for row in codes.tolist()]
    buckets, seen, expected = Counter(rows), Counter(), []
    for row in rows:
        expected.append(seen[row] if row[0] >= 0 and buckets[row] > 1 else -1)
        seen[row] += 1
    found = suffixes(codes, 4)
    assert found.tolist() == expected
    texts = [text for text in sid_text(codes, found) if text]
    assert len(set(texts)) == len(texts)


def test_texts_have_a_letter_a_level() -> None:
    codes = np.array([[4, 17, 25], [4, 17, 25], [0, 1, 2], [-1, -1, -1]], dtype=np.int32)
    assert sid_text(codes) == ["<a_4><b_17><c_25>", "<a_4><b_17><c_25>", "<a_0><b_1><c_2>", ""]
    assert sid_text(codes, suffixes(codes, 32)) == [
        "<a_4><b_17><c_25><d_0>",
        "<a_4><b_17><c_25><d_1>",
        "<a_0><b_1><c_2>",
        "",
    ]
    with pytest.raises(SemanticIdError, match="26 levels"):
        sid_text(np.zeros((1, 26), dtype=np.int32))


def test_an_even_use_has_all_the_entropy_there_is() -> None:
    codes = np.repeat(np.arange(32), 5)[:, None].astype(np.int32)
    use = count_collisions(codes, 32).levels[0]
    assert (use.used, use.entropy, use.perplexity) == (32, pytest.approx(5), pytest.approx(32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_small_integer_types_do_not_overflow(dtype: type) -> None:
    codes = np.array([[99, 99, 98], [99, 99, 99], [99, 99, 98]]).astype(dtype)
    report = count_collisions(codes, 100)
    assert (report.unique, report.collided_items) == (2, 2)


def test_more_ids_than_a_number_can_hold_are_told_apart_too() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4096, (50, 8)).astype(np.int32)
    codes[7] = codes[31]
    assert len(np.unique(pack(codes, 4096))) == 49
    assert count_collisions(codes, 4096).collided_items == 2
    assert np.flatnonzero(suffixes(codes, 4096) >= 0).tolist() == [7, 31]


def test_codes_of_another_model_are_refused() -> None:
    with pytest.raises(SemanticIdError, match="outside 0 to 31"):
        count_collisions(np.array([[1, 40, 2]], dtype=np.int32), 32)
