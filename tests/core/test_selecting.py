"""The order in which a job's items are listed, beside that of Python."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.checkpoint import CheckpointStore, selecting
from batch.checkpoint.selecting import Condition, select_ids
from batch.job import BatchResult
from batch.processor import BatchProcessor

FIELDS = {
    "id": lambda result: result.prompt_index,
    "tokens": lambda result: result.tokens_output,
    "time": lambda result: result.duration,
    "cost": lambda result: result.cost,
    "model": lambda result: result.model,
    "class": lambda result: result.error_class,
    "error": lambda result: result.error_message,
}
ANSWERED = st.tuples(
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.5, 1e-9, 12.25]),
    st.sampled_from([None, 0, 7]),
    st.sampled_from([None, "a", "é", "日本"]),
)


def results_of(drawn: list[tuple[bool, int, float, int | None, str | None] | None]) -> dict[int, BatchResult]:
    """A result for each item that has one."""
    return {
        at: BatchResult(
            at, f"p{at}", "fine" if one[0] else "", 1, one[1], one[2], one[0], None if one[0] else "gone, far,away",
            None if one[0] else "transient", 1, model=one[4], cost=one[3],
        )
        for at, one in enumerate(drawn)
        if one is not None
    }  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.lists(st.none() | ANSWERED, min_size=1, max_size=30), st.integers(1, 6))
def test_every_order_is_that_of_python(
    drawn: list[tuple[bool, int, float, int | None, str | None] | None], piece: int
) -> None:
    results = results_of(drawn)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "PIECE", piece)  # the list of ids is read in many pieces
        processor = BatchProcessor(Path(folder))
        job = processor.create_job("m", [f"p{at}" for at in range(len(drawn))])
        processor.save_checkpoint(job, list(results.values()))
        assert job.checkpoint_file is not None
        parts = {
            "all": list(range(len(drawn))),
            "done": [at for at, result in results.items() if result.success],
            "failed": [at for at, result in results.items() if not result.success],
            "pending": [at for at in range(len(drawn)) if at not in results],
        }
        with CheckpointStore(job.checkpoint_file) as store:
            for part, ids in parts.items():
                for name, value in FIELDS.items():
                    known = {at: value(store.result(at)) if at in results else None for at in ids}
                    if name == "id":
                        known = {at: at for at in ids}
                    for down in (False, True):
                        expected = [at for at in ids if known[at] is not None]
                        expected.sort(key=known.__getitem__, reverse=down)  # equal ones stay as they were
                        expected += [at for at in ids if known[at] is None]
                        found = select_ids(store, part, by=name, descending=down)  # type: ignore[arg-type]
                        assert list(found) == expected, (part, name, down)
            some = select_ids(store, "all", (Condition("tokens", ">", 1),), by="tokens", descending=True)
            assert set(some) == {at for at, result in results.items() if result.tokens_output > 1}
