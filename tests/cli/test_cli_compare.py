"""`ai-router compare`: models side by side, the linked jobs of a file, the test of the difference, the choice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Program

from ai_router.routing.evidence import Evidence
from batch.evaluation.bootstrap import mcnemar_p


@pytest.fixture
def other(program: Program) -> Program:
    program.add_model("other")
    program.answers_of["other"] = {"a b c": "A X C", "5": "six"}
    return program


def known(program: Program) -> Path:
    """Ten questions whose answer is the text in capitals; "5" has none."""
    path = program.home / "known.jsonl"
    path.write_text("".join(json.dumps({"prompt": str(n), "completion": str(n)}) + "\n" for n in range(10)))
    return path


def test_one_prompt_side_by_side_with_the_differences_marked(other: Program) -> None:
    assert other("compare", "--prompt", "a b c", "--models", "quick,other") == 0
    assert "1  quick  (5 tokens, 0.0 s)\n   A B C" in other.out
    assert "2  other  (5 tokens, 0.0 s)\n   A [-B-]{+X+} C" in other.out
    assert not other.files()
    assert other("compare", "--prompt", "a b c", "--models", "quick,other", "--json") == 0
    row = json.loads(other.out)["rows"][0]
    assert row["differs"] and [answer["text"] for answer in row["answers"]] == ["A B C", "A X C"]


def test_a_file_is_linked_jobs_that_are_scored_and_tested(other: Program) -> None:
    assert other("compare", known(other), "--models", "quick,other", "--json") == 0
    said = json.loads(other.out)
    assert [(model["model"], model["right"], model["scored"]) for model in said["models"]] == [
        ("quick", 10, 10), ("other", 9, 10),
    ]  # fmt: skip
    (pair,) = said["pairs"]
    assert (pair["same"], pair["only_first_right"], pair["only_second_right"]) == (9, 1, 0)
    assert pair["mcnemar_p"] == mcnemar_p(1, 0)
    assert said["differing"] == 1 and [row["number"] for row in said["rows"] if row["differs"]] == [6]
    jobs = [model["job"] for model in said["models"]]
    assert other("compare", jobs[1], "--markdown") == 0, "a job finds those it is linked with"
    assert f"quick \\(job {jobs[0]}\\)" in other.out and "## Prompt 6" in other.out and "*six*" not in other.out
    assert other("compare", *jobs) == 0
    assert "The answers to 1 of 10 prompts are not all the same." in other.out
    # What was scored is evidence, with no word more.
    assert other("evidence", "--json") == 0
    assert {row["model"]: row["n"] for row in json.loads(other.out) if not row["category"]} == {
        "quick": 10,
        "other": 10,
    }


def test_the_choice_is_evidence(other: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr("ai_router.cli.compare.can_ask", lambda: True)
    for said, right in (("2\n", {"quick": 0, "other": 1}), ("a\n", {"quick": 1, "other": 1}), ("\n", None)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        evidence = Evidence(other.home / "evidence.db")
        evidence.path.unlink(missing_ok=True)
        assert other("compare", "--prompt", "a b c", "--models", "quick,other") == 0
        assert {name: rate.right for name, rate in evidence.rates().overall.items()} == (right or {})
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    assert other("compare", other.prompts("a b c", "same"), "--models", "quick,other", "--choose") == 0
    assert other.err.count("best of 1, 2") == 1, "only where they differ"
    assert {name: rate.right for name, rate in evidence.rates().overall.items()} == {"quick": 1, "other": 0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "quick", "--prompt", "a"], "A comparison is of 2 to 4 models, not of 1"),
        (["--models", "quick,quick", "--prompt", "a"], "quick would be compared with itself"),
        (["--models", "quick,nobody", "--prompt", "a"], "Unknown model: nobody"),
        (["--models", "quick,other", "--prompt", " "], "There is nothing to ask"),
        (["--models", "quick,other"], "Which prompts? Name one file"),
        (["--models", "quick,other", "x", "--prompt", "a"], "Either a file or --prompt"),
        ([], "Which models?"),
        (["00000000"], "Unknown job"),
    ],
)
def test_what_cannot_be_compared_is_said(other: Program, words: list[str], said: str) -> None:
    assert other("compare", *words) == 2
    assert said in other.err and not other.files()


def test_jobs_that_ask_different_things(other: Program) -> None:
    for text in ("one", "two"):
        assert other("run", other.prompts(text)) == 0
    names = [name.removeprefix("batch_").removesuffix(".db") for name in other.files() if name.endswith(".db")]
    assert other("compare", *names) == 2
    assert "prompt 1 is not the same in all of them" in other.err
    assert other("compare", names[0]) == 2 and "belongs to no comparison" in other.err
