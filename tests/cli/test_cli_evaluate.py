"""`ai-router evaluate`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from program import Program
from test_cli_start import HEAVY, modules_after

from ai_router.cli.text import cells

GIVEN, WANTED = "私が本は読む。", "私が本を読みます。"


def results(path: Path, *predicted: str | None, **more: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for at, text in enumerate(predicted, 1):
            row = {"input": GIVEN, "expected": WANTED, "predicted": text or GIVEN, "example_id": at, **more}
            file.write(json.dumps(row if text else {**row, "error": "timed out"}, ensure_ascii=False) + "\n")
    return path


@pytest.fixture
def run(program: Program) -> Path:
    made = [WANTED, WANTED, "私が本を読む。", GIVEN, "彼が本を読みます。", None]
    return results(program.home / "run.jsonl", *made, error_type="particle_of_a_kind_with_a_long_name")


def test_the_scores_fit_80_columns_and_say_how_they_were_made(program: Program, run: Path) -> None:
    assert program("evaluate", run, "--samples", "50", "--tokenizer", "script") == 0
    assert program.err == ""
    assert program.out.startswith("run.jsonl: 6 pairs, 5 scored, 1 failed\n")
    assert "match exact · task correction · tokens script · normalisation none" in program.out
    assert re.search(r"^Exact match +40\.0 +11\.8 – 76\.9 +█+$", program.out, re.MULTILINE)
    assert re.search(r"^Edits, F0\.5 +\d+\.\d ", program.out, re.MULTILINE)
    assert re.search(r"^! failed +1 +16\.7", program.out, re.MULTILINE) and "timed out" in program.out
    assert "Over-corrected (1 of 1)\n+ 5  particle" in program.out
    assert "  predicted  [-私-]{+彼+}が本を読みます。\n" in program.out
    assert max(cells(line) for line in program.out.splitlines() if ":" not in line) <= 80


def test_two_runs_are_compared(program: Program, run: Path) -> None:
    before = results(program.home / "old" / "run.jsonl", GIVEN, WANTED, WANTED, GIVEN, WANTED, WANTED)
    assert program("evaluate", run, "--against", before, "--samples", "50", "--show", "1") == 0
    assert "Against old/run.jsonl: 5 questions scored in both, 1 only in old/run.jsonl" in program.out
    assert re.search(r"fixed +1  right now, not before\n +broken +2  right before, not now", program.out)
    assert "Broken (1 of 2)\nx 3  particle" in program.out and "McNemar" in program.out
    assert re.search(r"^Exact match +60\.0 +40\.0 +-20\.0 .* 1\.000  unclear$", program.out, re.MULTILINE)


def test_json_is_all_of_it(program: Program, run: Path) -> None:
    assert program("evaluate", run, "--against", run, "--json", "--samples", "20") == 0
    found = json.loads(program.out)
    assert found["sentence_level_metrics"]["exact_match_accuracy"] == 0.4
    assert found["comparison"]["fixed"] == found["comparison"]["broken"] == 0
    assert found["settings"]["bootstrap_samples"] == 20


def test_markdown(program: Program, run: Path) -> None:
    assert program("evaluate", run, "--markdown", "--samples", "20") == 0
    assert program.out.startswith("# Evaluation of run\\.jsonl\n") and "| Exact match | 40.0 |" in program.out


def test_html_goes_beside_the_results_or_where_one_says(program: Program, run: Path) -> None:
    for words, path in (
        ([run, "--html"], run.with_suffix(".html")),
        (["--html", run], run.with_suffix(".html")),
        ([run, "--html", "reports/one.html"], Path("reports/one.html")),
    ):
        assert program("evaluate", *words, "--samples", "20") == 0
        assert program.out == f"{path}\n" and program.err == f"Wrote the report: {path}\n"
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        path.unlink()
    assert program("evaluate", run, "--html", "-", "--samples", "20") == 0
    assert program.out.startswith("<!DOCTYPE html>")


def test_a_report_never_takes_the_place_of_results(program: Program, run: Path) -> None:
    kept = run.read_bytes()
    assert program("evaluate", run, "--html", run) == 2
    assert program.err == f"Error: {run} holds the results and is not written over; choose another file\n"
    assert run.read_bytes() == kept and program.out == ""


def test_lines_that_were_skipped_are_narrated(program: Program, run: Path) -> None:
    with run.open("a") as file:
        file.write("broken\n" * 5)
    assert program("evaluate", run, "--json", "--samples", "0") == 0
    said = program.err.splitlines()
    assert said[0].startswith("run.jsonl, line 7: not JSON") and said[-1] == "run.jsonl: 5 lines skipped in all"
    assert json.loads(program.out)["evaluation_summary"]["skipped_lines"] == 5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none.jsonl"], "There is no file none.jsonl"),
        ([], "name the results file to score: ai-router evaluate RESULTS"),
        (["empty.jsonl"], "empty.jsonl holds no results to score"),
        (
            ["other.jsonl"],
            'other.jsonl holds no results to score; 1 line skipped, the first is line 1: the row has no "e',
        ),
        (["run.jsonl", "--match", "fuzzy"], "match: 'fuzzy' is none of exact, contains,"),
        (["run.jsonl", "--normalise", "upper"], "normalise: 'upper' is no normalisation; there are nfkc,"),
        (["run.jsonl", "--samples", "-1"], "samples: -1 is below the least allowed, 0"),
        (["run.jsonl", "--show", "x"], "argument --show: 'x' is not a whole number from 0 on"),
        (["run.jsonl", "--json", "--html"], "argument --html: not allowed with argument --json"),
        (["."], ". is a folder; name a results file in it"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence(
    program: Program, run: Path, words: list[str], sentence: str
) -> None:
    Path("empty.jsonl").touch()
    Path("other.jsonl").write_text('{"prompt": "x"}\n')
    assert program("evaluate", *words) == 2
    assert program.err.startswith(f"Error: {sentence}") and program.err.count("\n") == 1
    assert program.out == ""


def test_a_job_with_known_answers_is_scored_from_its_checkpoint(program: Program) -> None:
    rows = [("one", "ONE"), ("two", "TOO"), ("fail now", "FAIL NOW")]
    test_set = program.home / "test.jsonl"
    test_set.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    assert program("dataset", "run", "--model-path", "quick", "--test-file", test_set, "--output-file", "o.jsonl") == 1
    job = program.job()
    for name in (job.job_id, job.job_id[:4], str(job.checkpoint_file), "o.jsonl"):
        assert program("evaluate", name, "--json", "--samples", "0") == 0
        found = json.loads(program.out)["evaluation_summary"]
        assert (found["total_examples"], found["scored"], found["failed_predictions"]) == (3, 2, 1)
    assert program("evaluate", job.job_id, "--html", "--samples", "0") == 0
    assert Path(program.out.strip()) == program.home / "outputs" / f"evaluation_{job.job_id}.html"
    assert program("evaluate", job.job_id, "--against", "o.jsonl", "--samples", "0") == 0
    assert "Against o.jsonl: 2 questions scored in both\n" in program.out


def test_a_job_without_known_answers_is_not(program: Program) -> None:
    assert program("run", program.prompts("one")) == 0
    job = program.job()
    for name in (job.job_id, str(job.checkpoint_file)):
        assert program("evaluate", name) == 2
        assert f"job {job.job_id} has no expected answers to score against" in program.err
    assert program("evaluate", "zzz") == 2
    assert program.err == "Error: zzz is neither a results file nor a job; ai-router jobs lists those there are\n"


def test_on_a_terminal_differences_have_colour_unless_nobody_wants_it(
    program: Program, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"input": GIVEN, "expected": WANTED, "predicted": "\x1b[2J\u202e", "example_id": "\x1b]0;x\x07"}
    run.write_text(json.dumps(row))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for no_colour in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        if no_colour:
            monkeypatch.setenv("NO_COLOR", "1")
        assert program("evaluate", run, "--samples", "0") == 0
        codes = set(re.findall(r"\x1b[^m]*m?", program.out))
        assert codes == (set() if no_colour else {"\x1b[31m", "\x1b[32m", "\x1b[0m"})
        assert "{+␛[2J\\u202e+}" in program.out and "␛]0;x␇" in program.out and "\u202e" not in program.out


def test_nothing_heavy_is_imported(program: Program, run: Path) -> None:
    assert not HEAVY & modules_after(program, "evaluate", "--help")
    modules = modules_after(program, "evaluate", str(run), "--tokeniser", "script", "--no-fluency", "--samples", "0")
    assert not (HEAVY | {"numpy", "sacrebleu", "MeCab", "errant", "asyncio"}) & modules
