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
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.jump import JumpScreen


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


async def test_letters_stand_on_their_targets_and_go_as_they_are_typed(workspace: Workspace) -> None:
    for number in range(30):
        make_job(workspace.checkpoints, [JAPANESE], job_id=f"{number:08x}")
    app = RouterApp(workspace)
    async with app.run_test(size=(60, 50)) as pilot:
        app.go("jobs")
        await until(pilot, lambda: "30 jobs" in shown(app))
        below = shown(app).split("\n")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, JumpScreen) and app.screen.letters and shown(app))
        screen = app.screen
        assert isinstance(screen, JumpScreen) and {len(letters) for letters in screen.targets} == {1, 2}

        def seen() -> bool:
            """Each letter where its target is, and everything else as it was."""
            strips = app.screen._compositor.render_strips(app.size)
            marked = {}
            for at, letters in screen.letters.items():
                marked[at] = strips[at.y].crop(at.x, at.x + len(letters)).text == letters
            others = set(range(50)) - {at.y for at in screen.letters}
            return all(marked.values()) and all(strips[y].text.rstrip() == below[y] for y in others)

        await until(pilot, seen)
        pair = next(letters for letters in screen.targets if len(letters) == 2)
        await pilot.press(pair[0])
        await until(pilot, seen)
        assert screen.letters and all(letters.startswith(pair[0]) for letters in screen.letters.values())
        await pilot.press(pair[1])
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


async def test_what_lies_below_an_opaque_screen_is_not_drawn(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        menu = app.screen
        assert menu.is_current
        app.go("jobs")
        await until(pilot, lambda: type(app.screen).__name__ == "JobsScreen")
        await pilot.pause()
        assert app.screen.is_current and not menu.is_current
        drawn: list[object] = []
        app.screen.refresh = lambda *regions, **_: drawn.append(regions)  # type: ignore[method-assign,assignment]
        menu.query_one("#menu").refresh()
        menu.query_one("#menu-title").refresh(layout=True)
        await pilot.pause()
        assert drawn == []
        await pilot.press("question_mark")
        await until(pilot, lambda: type(app.screen).__name__ == "HelpScreen")
        app.push_screen(ConfirmDialog("Really?", "", [("yes", "Yes", "primary")]))
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        assert app.screen_stack[-2].is_current, "it is seen through the dialog"
