"""Keys beside the screen and their editor, the documentation, themes of one's own, the tour."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from driving import footer, on_screen, shown, until
from hypothesis import given
from hypothesis import strategies as st
from stored import make_job
from textual.widgets import Button

from ai_router.settings import Settings, Workspace, load_settings
from ai_router.tui import manual, own_themes
from ai_router.tui.actions import ACTIONS
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.docs import DocsScreen
from ai_router.tui.help import HelpScreen
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.menu import MenuScreen
from ai_router.tui.places import PLACES
from ai_router.tui.results.columns import ColumnsDialog
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.settings.keys import KeyDialog, KeysScreen, bound_together, conflicts, names_of
from ai_router.tui.settings.screen import SettingsScreen
from ai_router.tui.tour import STEPS, TourDialog, tour_is_due
from ai_router.tui.widgets.keys_panel import KeysPanel

ROOT = Path(__file__).parents[2]


# -- documentation ----------------------------------------------------------------------------------------------------


def test_every_place_has_a_section_and_every_file_is_in_the_wheel() -> None:
    titles = {section.title for section in manual.sections()}
    assert {*manual.SCREENS.values(), *manual.PARTS.values()} <= titles
    for place in PLACES.values():
        if place.screen and not place.screen.endswith("Dialog"):
            assert place.screen.partition(":")[2] in manual.SCREENS, place.name
    files = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert set(manual.ORDER) == files
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["force-include"] == {f"docs/{name}": f"ai_router/docs/{name}" for name in sorted(files)}


@given(
    st.lists(st.sampled_from(["# a", "## b", "### c", "#### d", "text", "```", "# in code", "", "~~~"]), max_size=30)
)
def test_sections_lose_nothing(lines: list[str]) -> None:
    text = "\n".join(["# first", *lines])
    found = list(manual.split("x.md", text))
    assert "\n".join(section.text for section in found) == text
    assert all(section.level <= manual.DEEPEST for section in found)


async def test_f1_opens_the_section_of_what_has_the_focus(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 30)) as pilot:
        app.go("jobs")
        await on_screen(pilot, JobsScreen)
        await pilot.press("f1")
        await on_screen(pilot, DocsScreen)
        await until(pilot, lambda: "Every job is a file" in shown(app))
        await pilot.press("n")
        await until(pilot, lambda: "All items of a job" in shown(app))
        await pilot.press("slash", *"osc", "space", "5")
        await until(pilot, lambda: "(OSC 52)" in shown(app))
        await pilot.press("escape", "question_mark")
        await on_screen(pilot, HelpScreen)
        await until(pilot, lambda: "Read the folder again" in shown(app))  # the keys of the jobs
        await pilot.press("escape", "escape")
        await on_screen(pilot, JobsScreen)
        app.go("ask")  # where ? is typed, the footer names the documentation
        await on_screen(pilot, AskScreen)
        await until(pilot, lambda: footer(app)[-1:] == ["help"] and "f1" in shown(app).splitlines()[-1])


async def test_f1_in_a_dialog_is_about_it_or_the_screen_below(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x"})
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:

        async def about(title: str) -> None:
            await pilot.press("f1")
            docs = await on_screen(pilot, DocsScreen)
            await until(pilot, lambda: docs._shown is not None)
            assert docs._shown is not None and docs._shown.title == title
            await pilot.press("escape")

        app.go("results", path)
        screen = await on_screen(pilot, ResultsScreen)
        for key, kind in (("C", ColumnsDialog), ("a", ConfirmDialog)):
            await pilot.press(key)
            await on_screen(pilot, kind)
            await about("Results")
            await on_screen(pilot, kind)
            await pilot.press("escape")
            await on_screen(pilot, ResultsScreen)
        for part, title in (("bench-jobs", "Jobs and results"), ("results-preview", "Reading one item")):
            screen.query_one(f"#{part}").focus()
            await about(title)
            await on_screen(pilot, ResultsScreen)


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_the_panel_of_keys_follows_the_focus_and_stays(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.press("K")
        await until(pilot, lambda: len(app.screen.query(KeysPanel)) == 1 and "Everywhere" in shown(app))
        await pilot.press("3")
        screen = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: "Tables" in shown(app) and "half page down" in shown(app))
        await pilot.resize_terminal(60, 20)
        await pilot.press("K")
        await until(pilot, lambda: not screen.query(KeysPanel))
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await until(pilot, lambda: not app.screen.query(KeysPanel))


def test_what_a_key_does_already_is_known() -> None:
    together = bound_together()
    assert [action.id for action in conflicts("jobs.delete", "e", {}, together)] == ["jobs.export"]
    assert [action.id for action in conflicts("jobs.delete", "e", {"jobs.export": "f6"}, together)] == []
    assert "table.down" in {action.id for action in conflicts("jobs.delete", "j", {}, together)}
    assert "run.pause" not in {action.id for action in conflicts("jobs.delete", "p", {}, together)}  # another screen
    assert {"app.help"} <= {action.id for action in conflicts("jobs.delete", "question_mark", {}, together)}
    assert names_of("Q") == "Q,shift+q" and names_of("q") == "q" and names_of("ctrl+k") == "ctrl+k"


async def test_a_key_is_changed_named_where_it_is_taken_and_given_back(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 30)) as pilot:
        app.go("settings")
        await on_screen(pilot, SettingsScreen)
        await pilot.press("f3")
        screen = await on_screen(pilot, KeysScreen)
        await until(pilot, lambda: not screen.working("together"))
        assert "⏎ change" in shown(app)  # though it is the table that takes the key
        await pilot.press("slash", *"jobs.delete", "enter")
        await until(pilot, lambda: "1 action ·" in shown(app))
        assert f"jobs.delete  {ACTIONS['jobs.delete'].help}" in shown(app)  # no column has room for all of it
        await pilot.press("enter")
        dialog = await on_screen(pilot, KeyDialog)
        dialog.query_one("#key-again", Button).active_effect_duration = 0  # else deaf for a moment to another press
        dialog._take("ctrl+q")  # that one never comes so far
        await until(pilot, lambda: "always. Press another one" in shown(app))
        await pilot.press("e")
        await until(pilot, lambda: "Jobs: export has it already (jobs.export)" in shown(app))
        await pilot.press("tab", "enter", "ctrl+m")
        await until(pilot, lambda: "cannot tell it from enter" in shown(app))
        await pilot.press("tab", "enter", "X", "enter")
        await until(pilot, lambda: workspace.config_file.is_file())
        await until(pilot, lambda: app.workspace.settings.keymap == {"jobs.delete": "X,shift+x"})
        assert load_settings(workspace.config_file).keymap == {"jobs.delete": "X,shift+x"}
        await until(pilot, lambda: "1 changed" in shown(app))
        await pilot.press("backspace")
        await until(pilot, lambda: app.workspace.settings.keymap == {})
        assert ACTIONS["jobs.delete"].keys == "d,delete"


# -- themes -----------------------------------------------------------------------------------------------------------


async def test_a_theme_of_ones_own_is_taken_watched_and_told_on(workspace: Workspace) -> None:
    folder = workspace.root / "themes"
    folder.mkdir()
    path = folder / "ocean.yaml"
    path.write_text('dark: true\nprimary: "#112233"\nmuted: grey\n', encoding="utf-8")
    (folder / "bad.yaml").write_text('primary: "#112233"\nsecondray: "#fff"\n', encoding="utf-8")
    (folder / "dark.yaml").write_text("dark: true\n", encoding="utf-8")
    app = RouterApp(Workspace(workspace.root, Settings(theme="ocean")))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        assert app.theme == "ocean" and app.current_theme.accent == "#112233"
        assert app.current_theme.variables["text-muted"] == "grey"
        await until(pilot, lambda: len(app._notifications) == 2)
        said = " ".join(note.message for note in app._notifications)
        assert "line 2: no such colour: secondray; did you mean secondary?" in said and "of the house" in said
        path.write_text("dark: false\nprimary: '#445566'\n", encoding="utf-8")
        app._look_at_themes()
        assert app.current_theme.primary == "#445566" and app.has_class("-light-mode")
        app.begin_theme()
        assert app.theme == "mine" and app.current_theme.primary == "#445566"
        (folder / "mine.yaml").unlink()
        app._look_at_themes()
        assert app.theme == "dark"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("primary: #fff\n", "begins a comment"),
        ("primary: nocolour\n", "line 1: primary: 'nocolour' is no colour"),
        ("dark: sometimes\n", "dark is true or false"),
        ("- a\n", "x.yaml"),
        ("a: [\n", "line"),
    ],
)
def test_what_is_no_theme_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(own_themes.ThemeError, match=said):
        own_themes.read_theme(path)


def test_a_theme_that_is_begun_is_the_one_of_now(tmp_path: Path) -> None:
    for theme in (own_themes.themes.DARK, own_themes.themes.LIGHT):
        read = own_themes.read_theme(own_themes.begin_theme(tmp_path / "themes", theme))
        for name in (*own_themes.COLOURS, "dark", "variables"):
            assert getattr(read, name) == getattr(theme, name)
    assert {path.name for path in (tmp_path / "themes").iterdir()} == {"mine.yaml", "mine-2.yaml"}


# -- the tour ---------------------------------------------------------------------------------------------------------


async def test_the_tour_comes_once_and_again_from_the_palette(workspace: Workspace, tmp_path: Path) -> None:
    assert tour_is_due(tmp_path / "new") and not tour_is_due(tmp_path / "new")
    assert len(STEPS) == 6
    app = RouterApp(workspace, tour=True)
    async with app.run_test(size=(40, 12)) as pilot:
        dialog = await on_screen(pilot, TourDialog)
        await pilot.press("enter", "enter", "p")
        await until(pilot, lambda: dialog.step == 1)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await app.run_action("tour")
        dialog = await on_screen(pilot, TourDialog)
        await pilot.press(*["enter"] * (len(STEPS) - 1))
        await until(pilot, lambda: "Begin" in shown(app))  # a longer word than the one before
        assert "palette (:)" not in shown(app)
        await pilot.press(*["down"] * 9)
        await until(pilot, lambda: "palette (:)" in shown(app))
        await pilot.press("enter")
        await on_screen(pilot, MenuScreen)
