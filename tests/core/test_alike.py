"""Messages that differ in numbers and ids alone are one kind; where they differ stands an ellipsis."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batch import BatchProcessor
from batch.alike import Alike
from batch.checkpoint import CheckpointStore
from batch.job import BatchResult


def test_numbers_and_ids_make_no_kind_of_their_own() -> None:
    kinds = Alike()
    for number in (7, 57, 107):
        kinds.add(f"127.0.0.1:8000 refused the request (400): the prompt {number} is refused, at most 4,096 tokens")
    kinds.add("127.0.0.1:8000 refused the request (413): the prompt 9 is refused, at most 4,096 tokens")
    for request in ("0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"):
        kinds.add(f"no model gpt4 (request {request})", 5)
    kinds.add("HTTP 500")
    kinds.add("HTTP 503")
    assert kinds.most_common() == [
        ("no model gpt4 (request …)", 10),
        ("127.0.0.1:8000 refused the request (400): the prompt … is refused, at most 4,096 tokens", 3),
        ("127.0.0.1:8000 refused the request (413): the prompt 9 is refused, at most 4,096 tokens", 1),
        ("HTTP 500", 1),
        ("HTTP 503", 1),
    ]
    assert len(kinds.most_common(2)) == 2


@given(st.lists(st.tuples(st.text(), st.integers(1, 9)), max_size=20))
def test_none_is_lost_and_a_text_alone_stands_as_it_is(texts: list[tuple[str, int]]) -> None:
    kinds = Alike(texts).most_common()
    assert sum(number for _, number in kinds) == sum(number for _, number in texts)
    assert [number for _, number in kinds] == sorted((number for _, number in kinds), reverse=True)
    for text, number in texts[:1]:
        assert Alike([(text, number)]).most_common() == [(text, number)]


def test_failures_of_a_job_are_counted_by_kind(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", [f"prompt {at}" for at in range(40)])
    results = [
        BatchResult(
            at,
            f"prompt {at}",
            "",
            1,
            0,
            0.1,
            False,
            f"prompt {at} is too long",
            ("permanent", "transient")[at % 4 == 0],
        )
        for at in range(40)
    ]
    processor.save_checkpoint(job, results)
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        kinds = [("permanent", "prompt … is too long", 30), ("transient", "prompt … is too long", 10)]
        assert store.error_counts() == kinds and store.error_counts(1) == kinds[:1]
