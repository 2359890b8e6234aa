"""The list of jobs is made once, and stands as it was left."""

from __future__ import annotations

from driving import on_screen, shown, styled_as_by_textual, until
from stored import make_job

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.menu import MenuScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.widgets.table import VirtualTable


async def test_the_list_stands_as_it_was_left_with_what_came_meanwhile(workspace: Workspace) -> None:
    for number in range(3):
        make_job(workspace.checkpoints, ["a", "b"], {0: "c"}, job_id=f"0000000{number}")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 34)) as pilot:
        await pilot.press("3")
        screen = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: "3 jobs" in shown(app))
        await pilot.press("s", "s", "down")  # by id, and on the second
        at_hand = screen.job_at_hand()
        assert screen.sort_column == 1 and at_hand is not None
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        make_job(workspace.checkpoints, ["d"], {}, job_id="00000009")
        app.jobs_changed.publish(None)
        app.apply_theme("light")
        await pilot.press("3")
        assert await on_screen(pilot, JobsScreen) is screen
        await until(pilot, lambda: "4 jobs" in shown(app))
        assert screen.sort_column == 1 and screen.job_at_hand() == at_hand
        assert screen.query_one(VirtualTable).has_focus
        styled_as_by_textual(app)
        await pilot.press("o")
        await on_screen(pilot, ResultsScreen)
        app.go("jobs")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and "4 jobs" in shown(app))
        assert app.screen is not screen, "never the one that is shown further down"
