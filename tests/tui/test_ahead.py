"""What is got ready behind the first frame."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import shown, until

import ai_router.tui
from ai_router.settings import Workspace
from ai_router.tui import ahead
from ai_router.tui.app import RouterApp
from ai_router.tui.places import PLACES


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_thawed")
async def test_all_screens_and_their_styles_are_there_before_anybody_goes_to_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[bool] = []

    def get_ready(app: RouterApp) -> None:
        began.append("No jobs yet" in shown(app) or app.screen.query_one("#menu").is_mounted)
        ahead.get_ready(app)

    monkeypatch.setattr("ai_router.tui.app.get_ready", get_ready)
    monkeypatch.setattr("ai_router.tui.app.BEHIND_SECONDS", 0.001)
    folder = Path(ai_router.tui.__file__).resolve().parent
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        paths = [str(path) for path in folder.rglob("*.tcss")]
        await until(pilot, lambda: all(app.stylesheet.has_source(path) for path in paths))
        assert began == [True], "once, and not before the first frame"
        names = {place.screen.partition(":")[0] for place in PLACES.values() if place.screen}
        assert names <= sys.modules.keys()
        rules = app.stylesheet.rules
        app.go("settings")
        await until(pilot, lambda: "Theme" in shown(app))
        new = [rule for rule in app.stylesheet.rules if not any(rule is old for old in rules)]
        assert all(rule.is_default_rules for rule in new), "no style sheet was read again"


def test_what_places_do_not_name_is_there_to_be_imported() -> None:
    for name in ahead.OTHERS:
        assert importlib.import_module(f"ai_router.tui.{name}")
