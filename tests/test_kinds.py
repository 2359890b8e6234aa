"""The one table of kinds of jobs, and that nothing else asks for a kind by its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ai_router
from ai_router.jobs import JobPlan
from ai_router.kinds import KINDS, JobKind, kind_of
from ai_router.tui.places import PLACES
from batch.job import BatchJob


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_answers_to_its_name_and_its_places_are_there(name: str) -> None:
    kind = kind_of(name)
    assert isinstance(kind, JobKind) and kind.name == name
    assert PLACES[kind.results].of_job
    config = JobPlan("m", kind=name, details={"a": 1}).as_config()
    assert BatchJob("x", "m", [], 0, config=config).kind == name


def test_a_kind_of_a_later_version_is_treated_as_prompts() -> None:
    assert kind_of("of-next-year").name == "prompts"


def test_only_the_table_knows_the_kinds_by_name() -> None:
    package = Path(ai_router.__file__).parent
    names = set(KINDS) - {"prompts"}
    found = []
    for file in package.rglob("*.py"):
        if file.parent.name == "kinds":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = {c.value for c in node.comparators if isinstance(c, ast.Constant)}
                left = {node.left.value} if isinstance(node.left, ast.Constant) else set()
                if (words | left) & names:
                    found.append(f"{file.relative_to(package)}:{node.lineno}")
    assert not found
