"""Text can be read on the ground it stands on: 4.5 : 1 at least, in both themes of the house."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contrast import LEAST, contrast, hard_to_read
from driving import on_screen, until
from stored import JAPANESE, make_job
from textual.color import Color
from textual.theme import Theme

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.themes import DARK, LIGHT

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
