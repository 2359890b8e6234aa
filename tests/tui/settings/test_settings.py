"""The settings as a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from driving import on_screen, shown, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from ai_router.settings import Settings, Workspace, load_workspace, save_settings
from ai_router.tui import themes
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.menu import MenuScreen
from ai_router.tui.settings.screen import SettingsScreen
from ai_router.tui.widgets.form import OptionForm


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


@pytest.mark.parametrize("size", [(80, 24), (110, 30), (140, 40)])
async def test_no_help_is_cut(workspace: Workspace, size: tuple[int, int]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app)
        await pilot.pause()
        for field in screen.query_one("#settings-form OptionForm", OptionForm).fields.values():
            place = field.query(".field--help")
            if place and place.first().region.width:
                text = " ".join(line.strip() for line in _lines_of(app, place.first().region))
                assert " ".join(text.split()) == field.help_text()


def _lines_of(app: RouterApp, region: Region) -> list[str]:
    return [line.text[region.x : region.right] for line in app.screen._compositor.render_strips(app.size)][
        region.y : region.bottom
    ]


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


COMMENTED = """\
# mine
theme: light   # for the day

# what answers
model: "demo"
keymap:
  app.quit: f10   # not q
# the end
"""


def test_saving_keeps_comments_order_and_quotes(workspace: Workspace) -> None:
    workspace.config_file.write_text(COMMENTED)
    kept = load_workspace(workspace.root).settings
    changed = replace(kept, theme="dark", outputs="elsewhere", keymap={"app.quit": "f9"})
    save_settings(Workspace(workspace.root, changed))
    text = workspace.config_file.read_text()
    assert text == COMMENTED.replace("light ", "dark  ").replace("f10", "f9 ").replace(
        "# the end\n", "# the end\noutputs: elsewhere\n"
    )
    save_settings(Workspace(workspace.root, Settings()))
    assert load_workspace(workspace.root).settings == Settings()
    assert "# what answers" in workspace.config_file.read_text()


WORDS = st.one_of(
    st.sampled_from(
        ["yes", "on", "null", "1_000", "12:30", "0x1f", "~", "- a", "a: b", "# no", "'", '"', "é: #", "日本"]
    ),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.builds(Settings, model=WORDS, outputs=WORDS, bell=st.booleans()),
    after=st.builds(Settings, model=WORDS, theme=WORDS, osc9=st.booleans(), keymap=st.dictionaries(WORDS, WORDS)),
)
def test_whatever_is_saved_is_read_again(workspace: Workspace, before: Settings, after: Settings) -> None:
    workspace.config_file.unlink(missing_ok=True)
    for wanted in (before, after, before):
        save_settings(Workspace(workspace.root, wanted))
        assert load_workspace(workspace.root).settings == wanted
