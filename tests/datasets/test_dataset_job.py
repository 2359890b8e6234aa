"""A dataset job beside its engine: rows, summary, score, the end when it is sure, and going on after a stop."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch import BatchProcessor
from batch.datasets import CleaningEngine, open_dataset
from batch.datasets.observer import DatasetObserver
from batch.datasets.results import check_output, summary_path
from batch.engines.function import FunctionEngine
from batch.errors import ExportError, FatalError, PermanentError
from batch.evaluation.pairs import read_results
from batch.job import BatchJob, JobStatus
from batch.options import RunOptions
from batch.running.live import Watch
from batch.running.progress import RunState, Score
from batch.running.run import Run

LINE = re.compile(r"Processed (\d+)/(\d+) examples \(avg: \d+\.\d\ds/example, ETA: \d+\.\ds\)")


class Bench:
    """A job over a data set of `count` examples, whose right answer is the input in capitals."""

    def __init__(self, folder: Path, count: int, **details: Any) -> None:
        self.processor = BatchProcessor(folder / "checkpoints")
        self.output = folder / "results" / "r.jsonl"
        rows = [
            {"messages": [{"role": "user", "content": f"Fix the grammar: word{i}"},
                          {"role": "assistant", "content": f"WORD{i}"}], "error_type": "even" if i % 2 else "odd"}
            for i in range(1, count + 1)
        ]  # fmt: skip
        folder.mkdir(exist_ok=True)
        test = folder / "test.jsonl"
        test.write_text("".join(json.dumps(row) + "\n" for row in rows))
        details = {"output_file": str(self.output), "output_name": "results/r.jsonl", "skipped": 2, **details}
        config = {"kind": "dataset", "details": details}
        self.job = self.processor.create_job("m", open_dataset(test), config=config)

    def run(self, answer: Callable[[str], str] = str.upper, *, workers: int = 1, retry_failed: bool = False) -> Run:
        assert self.job.checkpoint_file is not None
        self.job = self.processor.open_job(self.job.checkpoint_file)
        self.observer = DatasetObserver(self.job)
        engine = CleaningEngine(FunctionEngine(answer, workers=workers))
        run = self.processor.run(
            self.job, engine, RunOptions(workers=workers, retries=0), observer=self.observer, retry_failed=retry_failed
        )
        assert run.wait(60)
        return run

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(summary_path(self.output).read_text(encoding="utf-8"))
        return found

    def stored(self) -> BatchJob:
        assert self.job.checkpoint_file is not None
        return self.processor.open_job(self.job.checkpoint_file)


def test_rows_and_summary_are_the_references(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 12)

    def answer(text: str) -> str:
        if text == "word3":
            raise PermanentError("Generation failed")
        return "wrong" if text == "word5" else f"<think>hm</think>{text.upper()}<|im_end|>"

    run = bench.run(answer, workers=4)
    assert [row["example_id"] for row in bench.rows] == list(range(1, 13))
    assert bench.rows[0] == {
        "input": "word1", "expected": "WORD1", "predicted": "WORD1", "example_id": 1, "error_type": "even",
    }  # fmt: skip
    assert bench.rows[2] == {
        "input": "word3", "expected": "WORD3", "predicted": "word3", "example_id": 3, "error": "Generation failed",
        "error_type": "even",
    }  # fmt: skip
    summary = bench.summary
    assert list(summary)[:5] == [
        "total_examples", "successful_predictions", "failed_predictions", "output_file", "timestamp",
    ]  # fmt: skip
    assert (summary["total_examples"], summary["successful_predictions"], summary["failed_predictions"]) == (12, 11, 1)
    assert (summary["output_file"], summary["skipped"]) == ("results/r.jsonl", 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", summary["timestamp"])
    assert summary["score"]["n"] == 11, "the failed one is no answer, right or wrong"
    assert summary["score"]["value"] == pytest.approx(10 / 11)
    assert Score.of(bench.stored().config["details"]["score"]) == run.snapshot().score
    pairs = list(read_results(bench.output))
    assert [pair.error for pair in pairs].count("Generation failed") == 1


def test_progress_lines_come_every_ten_and_at_the_end(tmp_path: Path) -> None:
    run = Bench(tmp_path, 25).run()
    found = [LINE.fullmatch(line) for line in run.news()]
    assert [match and match.groups() for match in found] == [("10", "25"), ("20", "25"), ("25", "25")]
    assert run.news() == []


def test_rows_are_there_as_they_finish(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 6)
    seen: list[int] = []

    def answer(text: str) -> str:
        if bench.output.exists():
            seen.append(len(bench.output.read_text().splitlines()))
        return text.upper()

    bench.run(answer)
    assert seen[0] == 0
    assert seen == sorted(seen)


def test_it_stops_when_it_is_sure_and_goes_on_when_asked_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 400, until_interval=0.05)

    def slowly(text: str) -> str:
        time.sleep(0.003)  # results are committed in groups, and those of a group are in before it is judged
        return text.upper()

    run = bench.run(slowly)
    assert run.satisfied
    snapshot = run.snapshot()
    assert snapshot.state is RunState.STOPPED
    assert 30 < snapshot.processed < 400
    assert "known to within 5 points" in str(run.job.reason)
    assert bench.summary["not_run"] == 400 - snapshot.processed
    assert bench.summary["reason"] == run.job.reason
    assert [row["example_id"] for row in bench.rows] == list(range(1, snapshot.processed + 1))
    again = bench.run()
    assert not again.satisfied
    assert again.job.status == JobStatus.COMPLETED
    score = again.snapshot().score
    assert score is not None
    assert score.n == 400
    assert len(bench.rows) == 400


def test_a_score_that_is_not_sure_stops_nothing(tmp_path: Path) -> None:
    run = Bench(tmp_path, 20, until_interval=0.01).run()
    assert run.job.status == JobStatus.COMPLETED


def test_a_resumed_job_counts_what_it_had_and_mends_its_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 30)

    def answer(text: str) -> str:
        if text == "word11":
            raise FatalError("gone")
        return text.upper()

    run = bench.run(answer)
    assert run.snapshot().state is not RunState.FINISHED
    with bench.output.open("ab") as file:
        file.write(b'{"input": "torn')
    bench.run()
    assert [row["example_id"] for row in bench.rows] == list(range(1, 31))
    score = Score.of(bench.summary["score"])
    assert score is not None
    assert (score.n, score.value) == (30, 1.0)


def test_failures_are_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5)

    def failing(text: str) -> str:
        if text in ("word2", "word4"):
            raise PermanentError("no")
        return text.upper()

    bench.run(failing)
    assert [row["example_id"] for row in bench.rows if "error" in row] == [2, 4]
    run = bench.run(retry_failed=True)
    assert [row["predicted"] for row in bench.rows] == [f"WORD{i}" for i in range(1, 6)]
    score = run.snapshot().score
    assert score is not None
    assert (score.n, bench.summary["failed_predictions"]) == (5, 0)
    assert LINE.fullmatch(run.news()[-1])


def test_answers_may_be_right_in_other_ways(tmp_path: Path) -> None:
    def chatty(text: str) -> str:
        return f"I say {text.upper()}!"

    exact = Bench(tmp_path / "exact", 4).run(chatty).snapshot().score
    contains = Bench(tmp_path / "contains", 4, match="contains").run(chatty).snapshot().score
    assert exact is not None
    assert contains is not None
    assert (exact.name, exact.value) == ("exact match", 0.0)
    assert (contains.name, contains.value) == ("contains match", 1.0)


def test_other_processes_see_the_score(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5)
    bench.run()
    assert bench.job.checkpoint_file is not None
    score = Watch(bench.job.checkpoint_file).snapshot().score
    assert score is not None
    assert score.text == "exact match 100.0 % (56.6–100.0, n=5)"


def test_a_results_file_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 5)
    bench.output.parent.write_text("a file where the folder should be")
    with pytest.raises(ExportError, match="is a file, not a folder"):
        bench.run()
    bench.output.parent.unlink()
    assert bench.run().job.completed == 5, "the lock is free, and nothing is lost"


def test_only_results_are_written_over(tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    assert not check_output(output)
    output.write_text('{"input": "a", "expected": "b", "predicted": "c", "example_id": 1}\n')
    assert check_output(output)
    for text in ('{"messages": []}\n', "notes\n", "\x00\x01"):
        output.write_text(text)
        with pytest.raises(ExportError, match="something else than results"):
            check_output(output)
    with pytest.raises(ExportError, match="in use"):
        check_output(output, [output])
