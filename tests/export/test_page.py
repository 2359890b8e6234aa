"""A job as a page of HTML, and what its plots are made from."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.checkpoint.pace import Point, course, read_pace
from batch.evaluation.forms.curves import ceiling, curve
from batch.export import export, page
from batch.export.picture import latency_bins, picture_of
from batch.items import Request
from batch.job import BatchJob, BatchResult
from batch.processor import BatchProcessor

HOSTILE = "<script>alert(1)</script> \x1b[31m\u202e 日本語 👩‍💻 \"'&"


class Texts(HTMLParser):
    """The page's texts, and the tags that are open at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "line", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "path", "rect", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def make(folder: Path, count: int = 20, **config: object) -> BatchJob:
    """A job of which every fifth item has failed; the last two are without a result."""
    processor = BatchProcessor(folder)
    requests = [Request(f"{HOSTILE} {at}", {"input": "a", "expected": f"answer {at % 4}", "error_type": f"t{at % 2}"})
                for at in range(count)]  # fmt: skip
    job = processor.create_job("demo", requests if config else [r.text for r in requests], config=config)
    results = [
        BatchResult(at, requests[at].text, f"answer {at % 4}", 3, 5, 0.1 * at, at % 5 != 0, None if at % 5 else HOSTILE,
                    None if at % 5 else "transient", model=("demo", "other")[at % 2], cost=1_000_000 * at)
        for at in range(count - 2)
    ]  # fmt: skip
    processor.save_checkpoint(job, results)
    return job


def written(job: BatchJob, target: Path) -> Texts:
    """The page of a job, read."""
    from batch.checkpoint import CheckpointStore

    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        export(store.job(), store.iter_results(), target, "html")
    found = Texts()
    found.feed(target.read_text(encoding="utf-8"))
    return found


def test_a_page_holds_all_there_is_and_obeys_nothing(tmp_path: Path) -> None:
    job = make(tmp_path, source="data/questions.jsonl", kind="prompts")
    assert job.checkpoint_file is not None
    with sqlite3.connect(job.checkpoint_file) as connection:  # as if it had taken a minute
        connection.execute("DELETE FROM pace")
        connection.executemany("INSERT INTO pace VALUES (?, 1, 0, 7, 1000000)", [(at,) for at in range(60)])
    connection.close()
    found = written(job, tmp_path / "page.html")
    assert found.open == [] and "script" not in found.tags
    for said in ("questions.jsonl", "Items a second", "Tokens a second", "Cost so far", "Right by category",
                 "t0", "How long answers took", "Who answered", "What failed", "# 18", "answer 3"):  # fmt: skip
        assert said in found.text, said
    assert "日本語" in found.text and "100 %" in found.text and "4 × transient: " in found.text
    assert "\x1b" not in found.text and "\u202e" not in found.text and found.text.count("Failed: transient") == 4


def test_of_very_many_rows_the_first_are_shown_and_failures_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_ROWS", 6)
    monkeypatch.setattr(page, "MOST_FAILED", 1)
    text = written(make(tmp_path), tmp_path / "page.html").text
    shown = [int(number) for number in re.findall(r"# (\d+)", text)]
    assert shown == [1, 2, 3, 4, 5, 6, 11] and "and 11 more results" in text


def test_scores_by_category_are_counts_of_right_answers(tmp_path: Path) -> None:
    job = make(tmp_path, kind="dataset")
    assert job.checkpoint_file is not None
    look = picture_of(job.checkpoint_file)
    assert {c.name: (c.n, c.right) for c in look.categories} == {"t0": (7, 7), "t1": (7, 7)}
    assert all(c.low < 1 <= c.high for c in look.categories)
    assert sum(number for _, number in latency_bins(look.total.latency)) == look.job.completed == 14


def test_examples_without_categories_are_all_together(tmp_path: Path) -> None:
    requests = [Request(f"{at}", {"input": "a", "expected": "b"}) for at in range(3)]
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("demo", requests, config={"kind": "dataset"})
    processor.save_checkpoint(job, [BatchResult(at, f"{at}", "b", 1, 1, 0.1, True) for at in range(3)])
    assert job.checkpoint_file is not None
    assert [(c.name, c.n, c.right) for c in picture_of(job.checkpoint_file).categories] == [("all", 3, 3)]


def test_the_pace_is_kept_with_the_results(tmp_path: Path) -> None:
    job = make(tmp_path)
    assert job.checkpoint_file is not None
    pace = read_pace(job.checkpoint_file)
    assert pace is not None
    points = pace.points
    assert sum(point.answered for point in points) == 14 and sum(point.failed for point in points) == 4
    assert sum(point.tokens for point in points) == 18 * 5 and pace.spent[-1] == sum(range(18)) * 1_000_000
    with sqlite3.connect(job.checkpoint_file) as connection:
        connection.execute("DROP TABLE pace")  # as a version before this one wrote it
    connection.close()
    assert read_pace(job.checkpoint_file) is None
    assert "Items a second" not in written(job, tmp_path / "page.html").text


@given(st.dictionaries(st.integers(0, 100_000), st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 150))
def test_no_answer_is_lost_between_stretches(came: dict[int, int], most: int) -> None:
    pace = course([Point(second, count) for second, count in sorted(came.items())], most)
    assert len(pace.points) <= most
    assert sum(point.answered for point in pace.points) == sum(came.values())
    assert pytest.approx(sum(pace.rates) * pace.width) == sum(came.values())


def test_a_job_that_ends_within_a_stretch_does_not_seem_to_slow_down() -> None:
    seconds = [Point(second, 10, 0, 100) for second in range(5)]
    pace = replace(course(seconds, 3), seconds=5.0)
    assert pace.width == 2 and pace.rates == [10, 10, 10] and pace.token_rates == [100, 100, 100]
    assert replace(pace, seconds=0).rates == replace(pace, seconds=9).rates == [10, 10, 5]
    assert replace(pace, seconds=4.1).lengths == [2, 2, 0.5]


@given(st.lists(st.floats(0, 1e12), max_size=30))
def test_a_curve_stays_in_its_frame(values: list[float]) -> None:
    top = ceiling(max(values, default=0.0))
    assert top >= max(values, default=0.0) and (not values or top <= max(1e-300, 10 * max(values)) or max(values) == 0)
    drawn = curve(values, "title", ("0", "1"), "{:g}".format)
    for line in re.findall(r' d="M([^"]*)"', drawn):
        for _, y in re.findall(r"([\d.]+) ([\d.]+)", line):
            assert 0 <= float(y) <= 200
