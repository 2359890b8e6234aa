"""One prompt, several models, side by side."""

from __future__ import annotations

import json
from typing import Any

from driving import on_screen, shown, type_text, until
from pace_engine import PaceEngine
from stored import add_model
from textual.widgets import SelectionList, Static

from ai_router.asking import EnginePool
from ai_router.models import ModelSpec
from ai_router.routing.evidence import Evidence
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.compare.dialog import ModelsDialog
from ai_router.tui.compare.screen import CompareScreen

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
        dialog.query_one(SelectionList).select_all()
        for _ in range(len(app.registry.all()) - 3):
            dialog.query_one(SelectionList).deselect(len(app.registry.all()) - 1)
        dialog.query_one("#compare-use").press()  # type: ignore[attr-defined]
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
