"""What lies behind a dialog is what Textual draws there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from driving import shown, until
from rich.segment import Segment
from rich.style import Style
from stored import JAPANESE, make_job
from textual.color import Color
from textual.renderables.background_screen import BackgroundScreen

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.behind import Behind, Palette
from ai_router.tui.jobs.screen import JobsScreen


def cells(segments: Iterable[Segment]) -> Iterator[tuple[str, Style | None]]:
    for text, style, control in segments:
        assert not control
        yield from ((character, style) for character in text if character != "\n")


@pytest.mark.parametrize("color", [Color(0, 0, 0, 0), Color(10, 20, 30, 0.6)])
async def test_the_screen_behind_is_mixed_as_by_textual(workspace: Workspace, color: Color) -> None:
    make_job(workspace.checkpoints, [JAPANESE, "b"], {0: "c", 1: None})
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        app.go("jobs")
        await until(pilot, lambda: "1 job" in shown(app) and isinstance(app.screen, JobsScreen))
        screen = app.screen
        strips = Behind(screen, color).render_strips(80, 24, app.screen.visual_style, None)  # type: ignore[arg-type]
        ours = [pair for strip in strips for pair in cells(strip)]
        console, options = app.console, app.console_options
        theirs = list(cells(console.render(BackgroundScreen(screen, color), options.update_dimensions(80, 24))))
        assert ours == theirs
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, Palette) and "Search for" in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)
