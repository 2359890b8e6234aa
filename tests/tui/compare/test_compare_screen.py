"""One prompt, several models, side by side."""

from __future__ import annotations

import json
from typing import Any

import pytest
from driving import on_screen, shown, type_text, until
from pace_engine import PaceEngine
from stored import add_model, make_job
from textual.widgets import OptionList, Static

from ai_router.asking import EnginePool
from ai_router.models import ModelSpec
from ai_router.routing.evidence import Evidence
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.compare.dialog import FileDialog, ModelsDialog
from ai_router.tui.compare.screen import CompareScreen
from ai_router.tui.compare.table import ComparedRowScreen, ComparedScreen

ANSWERS = {"demo": "the red house", "small": "the blue house", "large": "the red house"}


def made(spec: ModelSpec) -> Any:
    return PaceEngine(answer=lambda _: ANSWERS[spec.id])


async def test_answers_side_by_side_the_best_by_a_key_and_the_files(workspace: Workspace) -> None:
    for name in ("small", "large"):
        add_model(workspace, name)
    app = RouterApp(workspace)
    app.engines = EnginePool(made)
    evidence = Evidence.of(workspace)
    async with app.run_test(size=(130, 34)) as pilot:
        app.go("compare")
        screen = await on_screen(pilot, CompareScreen)
        await until(pilot, lambda: len(screen.models) == 2)
        await pilot.press("f2")
        dialog = await on_screen(pilot, ModelsDialog)
        listed = [str(option.prompt) for option in dialog.query_one(OptionList).options]
        assert sum(line.startswith("●") for line in listed) == 2  # a mark is seen without colours too
        third = next(at for at, line in enumerate(listed) if line.startswith("○"))
        await pilot.press(*["down"] * third, "space", "enter")
        await until(pilot, lambda: app.screen is screen and len(screen.models) == 3)
        names = [spec.id for spec in screen.models]
        await type_text(pilot, "Which house?")
        await pilot.press("enter")
        await until(pilot, lambda: screen.whole)
        await until(pilot, lambda: "Which is best? 1–3" in str(screen.query_one("#compare-status", Static).render()))
        assert "the [-red-]{+blue+} house" in shown(app)
        await pilot.press(str(names.index("small") + 1))
        await until(pilot, lambda: len(evidence.rates().overall) == 3)
        assert {name: rate.right for name, rate in evidence.rates().overall.items()} == {
            "demo": 0,
            "small": 1,
            "large": 0,
        }
        await pilot.press("e")
        await until(pilot, lambda: len(list(workspace.outputs.glob("comparison-*"))) == 2)
    (file,) = workspace.outputs.glob("comparison-*.json")
    assert [answer["text"] for answer in json.loads(file.read_text())["rows"][0]["answers"]] == [
        ANSWERS[n] for n in names
    ]
    (page,) = workspace.outputs.glob("comparison-*.md")
    assert "**small**" in page.read_text()


async def test_a_file_is_linked_jobs_their_figures_and_the_rows_that_differ(workspace: Workspace) -> None:
    link: dict[str, object] = {"compared": {"group": "0a", "models": ["small", "large"]}}
    for name, answers in (("small", ["a", "b", "the c", "the d"]), ("large", ["a", "b", "the x", "all new"])):
        make_job(workspace.checkpoints, list("1234"), dict(enumerate(answers)), model=name, config=link)
    app = RouterApp(workspace)
    evidence = Evidence.of(workspace)
    async with app.run_test(size=(130, 34)) as pilot:
        app.go("jobs")
        await until(pilot, lambda: "2 jobs" in shown(app))
        await pilot.press("equals_sign")
        screen = await on_screen(pilot, ComparedScreen)
        await until(pilot, lambda: "2 of 4 prompts" in shown(app))
        assert "small, large" in shown(app) and "2 (50%)" in shown(app)
        await pilot.press("enter")
        row = await on_screen(pilot, ComparedRowScreen)
        await until(pilot, lambda: "the [-c-]{+x+}" in shown(app))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "all new" in shown(app) and "[-the" not in shown(app))  # nothing alike to mark
        await pilot.press("2")
        await until(pilot, lambda: len(evidence.rates().overall) == 2)
        assert {name: rate.right for name, rate in evidence.rates().overall.items()} == {"small": 0, "large": 1}
        assert row.row.number == 4
        await pilot.press("escape", "e")
        await until(pilot, lambda: app.screen is screen and len(list(workspace.outputs.glob("comparison-*"))) == 2)
    (file,) = workspace.outputs.glob("comparison-*.json")
    assert [row["differs"] for row in json.loads(file.read_text())["rows"]] == [False, False, True, True]


async def test_a_file_is_asked_for_and_each_model_gets_its_job(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model(workspace, "small")
    prompts = workspace.root / "asked.txt"
    prompts.write_text("one\ntwo\n")
    begun: list[str] = []
    app = RouterApp(workspace)
    monkeypatch.setattr(app.turns, "start", lambda jobs: begun.extend(job.model_id for job in jobs))
    async with app.run_test(size=(130, 34)) as pilot:
        app.go("compare")
        screen = await on_screen(pilot, CompareScreen)
        await until(pilot, lambda: len(screen.models) == 2)
        await pilot.press("f3")
        await on_screen(pilot, FileDialog)
        await type_text(pilot, str(prompts))
        await pilot.press("enter")
        await on_screen(pilot, ComparedScreen)
        await until(pilot, lambda: "No answers yet" in shown(app))
    assert begun == [spec.id for spec in screen.models]
