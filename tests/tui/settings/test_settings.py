"""The settings as a form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driving import on_screen, shown, until
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from ai_router.settings import Settings, Workspace, load_workspace
from ai_router.tui import themes
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.menu import MenuScreen
from ai_router.tui.settings.screen import SettingsScreen


async def opened(pilot: Pilot[Any], app: RouterApp) -> SettingsScreen:
    """The screen."""
    app.go("settings")
    return await on_screen(pilot, SettingsScreen)


def field(screen: SettingsScreen, name: str) -> Input:
    """A text field."""
    return screen.query_one(f"#field-{name} Input", Input)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace, size: tuple[int, int], golden: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_router.tui.settings.screen.home", lambda path: f"~/work/{path.name}")
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app)
        await pilot.pause()
        golden(app, "settings")


async def test_a_theme_is_shown_as_the_cursor_moves(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app)
        assert app.theme == "dark"
        await pilot.press("down")
        await until(pilot, lambda: app.theme == "light")
        assert screen.is_changed()
        await pilot.press("escape")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("d")  # discard
        await on_screen(pilot, MenuScreen)
        assert app.theme == "dark"


async def test_saving_says_where_and_keeps(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app)
        field(screen, "outputs").value = "results"
        screen.query_one("#themes", OptionList).highlighted = 2
        await pilot.pause()
        await pilot.press("f2")
        await on_screen(pilot, ConfirmDialog)
        assert "ai-router.yaml will say" in shown(app) and "outputs: results" in shown(app)
        assert not workspace.config_file.exists()
        await pilot.press("enter")
        await until(pilot, lambda: workspace.config_file.exists() and not screen.is_changed())
        assert app.workspace.outputs == workspace.root / "results"
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
    assert load_workspace(workspace.root).settings == Settings(outputs="results", theme="light")


async def test_undo(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app)
        field(screen, "model").value = "other"
        await pilot.press("down", "f4")
        await until(pilot, lambda: app.screen is not screen)
        again = await on_screen(pilot, SettingsScreen)
        await until(pilot, lambda: app.theme == "dark")
        assert field(again, "model").value == "demo"
        assert not again.is_changed()


async def test_a_file_that_cannot_be_written_is_a_message(workspace: Workspace) -> None:
    workspace.config_file.mkdir()
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot, app)
        field(screen, "model").value = "other"
        await pilot.press("f2", "enter")
        await until(pilot, lambda: "Cannot write" in shown(app))
        assert screen.is_changed()


def test_auto_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, theme in (("15;0", "dark"), ("0;15", "light"), ("0;default;7", "light"), ("", "dark"), ("x", "dark")):
        monkeypatch.setenv("COLORFGBG", value)
        assert themes.choose_theme("auto") == theme
    assert themes.choose_theme("nord") == "nord"


@pytest.mark.parametrize(
    ("answer", "dark"),
    [
        (b"\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[?64c", True),
        (b"\x1b]11;rgb:ffff/ffff/ffff\x07\x1b[?64c", False),
        (b"\x1b]11;rgb:fd/f6/e3\x07", False),
        (b"\x1b[?64;1c", None),
        (b"", None),
    ],
)
def test_what_a_terminal_answers(answer: bytes, dark: bool | None) -> None:
    assert themes._is_dark(answer) is dark


async def test_an_unknown_theme_is_said(workspace: Workspace) -> None:
    workspace.settings.theme = "nrod"
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        await until(pilot, lambda: "No theme 'nrod'" in shown(app))
        assert app.theme == "dark"


@pytest.mark.parametrize("theme", ["light", "nord", "ansi-dark"])
async def test_every_screen_draws_in_every_kind_of_theme(workspace: Workspace, theme: str) -> None:
    workspace.settings.theme = theme
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        for place in ("models", "jobs", "settings", "ask", "batch", "home"):
            app.go(place)
            await pilot.pause()
        assert app.theme == theme
