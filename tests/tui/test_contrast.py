"""Text can be read on the ground it stands on: 4.5 : 1 at least, in both themes of the house."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from contrast import LEAST, colours, contrast, hard_to_read
from driving import on_screen, until
from stored import JAPANESE, make_job
from textual.app import App, ComposeResult
from textual.color import Color
from textual.theme import Theme
from textual.widgets import Button
from textual.widgets.button import ButtonVariant

import ai_router.tui
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.themes import DARK, LIGHT

STYLES = Path(ai_router.tui.__file__).with_name("app.tcss")
TINTS = (("accent", 0.18), ("foreground", 0.10))  # of a cursor, of a button or a field


def grounds(theme: Theme) -> Iterator[tuple[str, Color]]:
    """What text stands on."""
    for name in ("background", "surface", "panel"):
        ground = Color.parse(getattr(theme, name))
        yield name, ground
        for tint, share in TINTS if name != "panel" else ():
            yield f"{name} with {tint}", ground.blend(Color.parse(getattr(theme, tint)), share)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_every_colour_of_text_on_every_ground(theme: Theme) -> None:
    texts = {name: getattr(theme, name) for name in ("accent", "success", "warning", "error", "foreground")}
    assert {name: theme.variables[f"text-{name}"] for name in texts if name != "foreground"}.items() <= texts.items()
    texts["muted"] = theme.variables["text-muted"]
    hard = {
        (name, where): round(contrast(Color.parse(str(text)), ground), 2)
        for name, text in texts.items()
        for where, ground in grounds(theme)
        if contrast(Color.parse(str(text)), ground) < LEAST
    }
    assert not hard


def test_the_measure_is_that_of_wcag() -> None:
    """The examples of its own: black on white, and the grey that just passes."""
    white = Color.parse("#ffffff")
    assert round(contrast(Color.parse("#000000"), white), 2) == 21
    assert 4.5 <= contrast(Color.parse("#767676"), white) < 4.55


class Disabled(App[None]):
    """Buttons that cannot be pressed, in the styles of the house."""

    CSS_PATH = STYLES

    def compose(self) -> ComposeResult:
        for variant in get_args(ButtonVariant):
            yield Button("word", variant=variant, disabled=True)


async def test_a_disabled_button_is_read_in_every_theme() -> None:
    """3 : 1 at least, though it may be as faint as one likes (WCAG 2.1, 1.4.3)."""
    app = Disabled()
    async with app.run_test(size=(60, 10)) as pilot:
        app.register_theme(DARK)
        app.register_theme(LIGHT)
        for theme in app.available_themes:
            app.theme = theme
            await pilot.pause()
            drawn = [
                colours(style)
                for strip in app.screen._compositor.render_strips(app.size)
                for text, style, _ in strip
                if style is not None and text.strip() == "word"
            ]
            assert len(drawn) == len(get_args(ButtonVariant))
            assert all(contrast(*pair) >= 3 for pair in drawn if None not in pair), theme  # type: ignore[arg-type]


async def test_a_screen_as_it_is_drawn(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, [JAPANESE, "two", "three"], {0: "an answer", 1: None})
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: screen.table.count)
        for theme in ("dark", "light"):
            app.theme = theme
            for keys in (("down",), ("slash", *"two"), ("escape", "K"), ("colon", "down"), ("escape",)):
                await pilot.press(*keys)
                assert not list(hard_to_read(app))
