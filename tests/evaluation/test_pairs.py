"""Results files as they are found: broken lines, missing values, ids that come twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batch.errors import SourceError
from batch.evaluation.pairs import Pair, read_results
from batch.evaluation.tally import ScoreTally, wilson


def row(name: Any, **more: Any) -> dict[str, Any]:
    return {"input": "i", "expected": "e", "predicted": "p", "example_id": name, **more}


def written(path: Path, *lines: Any) -> Path:
    texts = (line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines)
    path.write_bytes(b"\n".join(texts))
    return path


def test_rows_become_pairs(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.jsonl",
        row(1, error_type="particle", error=""),
        row("b", error="timed out", predicted=None),
        row(3, error={"code": 500}),
    )
    assert list(read_results(path)) == [
        Pair("i", "e", "p", "1", None, "particle"),
        Pair("i", "e", "", "b", "timed out", None),
        Pair("i", "e", "p", "3", '{"code":500}', None),
    ]


def test_lines_that_cannot_be_used_are_left_out_and_named(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.jsonl",
        b"\xef\xbb\xbf" + json.dumps(row(1)).encode(),
        b"{broken",
        b"",
        [1],
        {"input": "i"},
        row(2, predicted=None),
        row([3]),
        row(True),
        b"\xff\xfe",
        row(4),
    )
    reader = read_results(path)
    assert [pair.example_id for pair in reader] == ["1", "4"]
    assert reader.skipped == 7
    assert [problem.line for problem in reader.problems] == [2, 4, 5, 6, 7, 8, 9]
    messages = [problem.message for problem in reader.problems]
    assert messages[0].startswith("not JSON") and messages[0].endswith(": {broken")
    assert messages[1] == "a row must be an object, not a list"
    assert messages[2] == 'the row has no "expected"'
    assert messages[3] == '"predicted" must be a text, not null'
    assert messages[4] == '"example_id" must be a number or a text, not a list'


def test_of_an_id_that_comes_again_the_last_row_holds(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.jsonl", row(1, error="lost"), row(2), row(1, error="again"), row(3), row(1, predicted="good")
    )
    reader = read_results(path)
    assert [(pair.example_id, pair.predicted, pair.error) for pair in reader] == [
        ("2", "p", None),
        ("3", "p", None),
        ("1", "good", None),
    ]
    assert reader.superseded == 2 and reader.skipped == 0


def test_a_line_of_a_megabyte_is_a_line(tmp_path: Path) -> None:
    (pair,) = read_results(written(tmp_path / "r.jsonl", row(1, predicted="長" * 400_000)))
    assert len(pair.predicted) == 400_000


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no file"):
        next(read_results(tmp_path / "none.jsonl"))
    with pytest.raises(SourceError, match="is a folder"):
        next(read_results(tmp_path))


def test_the_running_score_counts_failures_apart() -> None:
    score = ScoreTally()
    assert (score.score, score.interval) == (0.0, (0.0, 1.0))
    for pair, right in [
        (Pair("i", "e", "e", "1"), True),
        (Pair("i", "e", "x", "2"), False),
        (Pair("e", "e", "e", "3", error="lost"), None),  # the input stands in for a prediction and is no answer
        (Pair("i", "", "x", "4"), None),
    ]:
        assert score.add(pair) is right
    assert (score.n, score.right, score.failed, score.unscorable, score.score) == (2, 1, 1, 1, 0.5)
    assert score.interval == wilson(1, 2)
    assert score.half_width == pytest.approx((score.interval[1] - score.interval[0]) / 2)


def test_wilson_s_interval_has_the_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: method 3.
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)
