"""The picture of codebook use, and blocks of codes as a checkpoint keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batch.items import BatchItem, Request
from batch.semantic_ids.blocks import BlockCore, pack, unpack
from batch.semantic_ids.encode import Codes
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.report import BARS, UNUSED, use_picture

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=300)


@given(counts=COUNTS, width=st.integers(1, 140), height=st.integers(1, 5))
def test_a_picture_stays_within_its_cells(counts: list[int], width: int, height: int) -> None:
    lines = use_picture(counts, width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    assert set("".join(lines)) <= {*BARS, UNUSED}


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=64))
def test_never_chosen_is_told_from_rarely_chosen(counts: list[int]) -> None:
    bars = use_picture(counts, len(counts))[0].ljust(len(counts))
    assert [bar == UNUSED for bar in bars] == [count == 0 for count in counts]
    highest = max(counts)
    assert all(bars[i] == "█" for i, count in enumerate(counts) if count == highest and count)


def test_higher_counts_are_higher_bars() -> None:
    assert use_picture(range(9), 9) == ["·▁▂▃▄▅▆▇█"]
    assert use_picture([1, 8], 2, 2) == [" █", "▂█"]
    assert use_picture([4, 0, 4, 4], 2) == ["▄█"]  # two codewords a cell, their mean
    assert use_picture([0, 0], 9) == ["·· ··"]


@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.integers(0, 31)),
    st.sampled_from([32, 40_000]),
)
def test_codes_come_back_from_an_answer(codes: np.ndarray, codewords: int) -> None:
    codes = codes.copy()
    codes[0] = -1
    answer = pack(Codes(codes, [0], 1.5, 2.5, 3), codewords)
    assert answer.extra is not None and answer.text.strip()
    assert np.array_equal(unpack(answer.extra), codes)
    assert answer.extra["bad"] == [0]


@pytest.mark.parametrize(
    "harm", [{"codes": "!"}, {"codes": "AAA="}, {"type": "O"}, {"levels": 0}, {"levels": "x"}, {"codes": None}]
)
def test_damaged_codes_are_one_sentence(harm: dict[str, object]) -> None:
    answer = pack(Codes(np.zeros((3, 3), np.int32), [], 0.0, 0.0, 0), 8)
    assert answer.extra is not None
    with pytest.raises(SemanticIdError, match="damaged"):
        unpack({**answer.extra, **harm})


def test_a_block_without_rows_is_a_failure_and_the_next_one_runs() -> None:
    class Table:
        rows = 4

        def prefetch(self, start: int, stop: int) -> None:
            pass

        release = prefetch

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.zeros((stop - start, 2), np.float32)

    class Encoder:
        def encode(self, features: np.ndarray, *, reconstruction: bool) -> Codes:
            return Codes(np.zeros((len(features), 3), np.int32), [], 0.0, 0.0, 0)

    core = BlockCore(None, Encoder(), Table(), 8, {})  # type: ignore[arg-type]
    core.submit(BatchItem(1, Request("rows ?", {})))
    core.submit(BatchItem(2, Request("rows 0–3", {"first": 0, "last": 3})))
    core.submit(BatchItem(3, Request("rows 0–3", {"first": 0, "last": 3})))
    core.cancel(3)
    first, second = core.step(), core.step()
    assert first[0].error is not None and "names no rows" in first[0].error.message
    assert second[0].data is not None and second[0].tokens_input == 4
    assert not core.busy and core.step() == []
