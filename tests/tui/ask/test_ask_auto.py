"""Asking in auto: the model and why in one line, the next one by a key, and the choice as evidence."""

from __future__ import annotations

from dataclasses import replace

from driving import on_screen, type_text, until
from stored import add_model
from textual.widgets import OptionList

from ai_router.routing.evidence import Evidence
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.dialogs import ModelDialog
from ai_router.tui.ask.screen import AskScreen
from tests.tui.ask.test_ask import Engines, answer, status


async def test_the_model_and_why_the_next_and_the_best(workspace: Workspace) -> None:
    for name in ("small", "large"):
        add_model(workspace, name)
    with workspace.models_file.open("a", encoding="utf-8") as file:
        file.write("routes:\n  - match: {keywords: [station]}\n    use: large\n  - use: small\n")
    app = RouterApp(Workspace(workspace.root, replace(workspace.settings, model="auto")))
    engines = Engines()
    app.engines = engines.pool
    async with app.run_test(size=(110, 30)) as pilot:
        app.go("ask")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: screen._auto is not None)
        await type_text(pilot, "Where is the station?")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        assert "→ large: route in line" in answer(screen) and "says 'station'" in answer(screen)
        await pilot.press("f5")
        await until(pilot, lambda: "→ small: the next to try, 2 of 2" in answer(screen))
        await until(pilot, lambda: "✓ done" in status(screen) and screen._shown == "over")
        await pilot.press("f8")
        evidence = Evidence.of(workspace)
        await until(pilot, lambda: len(evidence.rates().overall) == 2)
        assert {name: rate.right for name, rate in evidence.rates().overall.items()} == {"large": 0, "small": 1}
        await pilot.press("f5")
        await pilot.pause()
        assert screen._asking is not None and screen._asking.model == "small", "there is no third"
        await pilot.press("f2")
        dialog = await on_screen(pilot, ModelDialog)
        assert dialog.query_one(OptionList).highlighted == len(app.registry.all()), "auto, which is chosen, stands last"
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen)
        assert "auto" in screen.context_text
