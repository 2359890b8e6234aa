"""The list of jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driving import footer, on_screen, shown, until
from pace_engine import PaceEngine
from stored import make_job
from test_menu import fill
from textual.widgets import Input, Static

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.widgets.table import VirtualTable
from batch.checkpoint import CheckpointStore, JobLock


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> PaceEngine:
    """In the place of every model."""
    engine = PaceEngine()
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    return engine


async def opened(pilot: object, app: RouterApp, count: int, mode: str = "list") -> JobsScreen:
    """The list, read."""
    app.push_screen(JobsScreen(mode))  # type: ignore[arg-type]
    screen = await on_screen(pilot, JobsScreen)  # type: ignore[arg-type]
    await until(pilot, lambda: screen.query_one(VirtualTable).count == count)  # type: ignore[arg-type]
    return screen


def ids(screen: JobsScreen) -> str:
    """The first letters of the jobs, in order."""
    return "".join(line.info.job_id[0] for line in screen._shown)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace,
    size: tuple[int, int],
    golden: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    frozen: None,
) -> None:
    for module in ("screen", "details"):
        monkeypatch.setattr(f"ai_router.tui.jobs.{module}.home", lambda path: f"~/work/{path.name}")
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, 4)
        await pilot.press("down")
        await until(pilot, lambda: size[0] < 120 or "First items" in shown(app))
        await pilot.pause()
        golden(app, "jobs")


async def test_sorting(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app, 4)
        assert ids(screen) == "abcd"
        await pilot.press("S")
        assert ids(screen) == "dcba"
        await pilot.press("s", "s")
        assert (screen.sort_column, ids(screen)) == (1, "abcd")
        await pilot.click(VirtualTable, offset=(5, 1))
        assert screen.sort_column == 0
        await pilot.click(VirtualTable, offset=(5, 1))
        assert not screen.ascending


async def test_the_cursor_stays_on_its_job_when_the_order_changes(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app, 4)
        await pilot.press("down", "S")
        line = screen.line_at_hand()
        assert line is not None and line.info.job_id == "bbbbbbbb"


async def test_filter(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app, 4)
        await pilot.press("slash", *"resume")
        await until(pilot, lambda: ids(screen) == "a" and "to the list" in footer(app))
        assert "1 of 4 jobs" in shown(app)
        await pilot.press("enter")
        assert screen.query_one(VirtualTable).has_focus
        await pilot.press("slash", *"xyz")
        await until(pilot, lambda: "No job has that text" in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: ids(screen) == "abcd")
        assert not screen.query_one(Input).display
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, JobsScreen))


async def test_delete_asks_first(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    path = workspace.checkpoints / "batch_aaaaaaaa.db"
    async with app.run_test() as pilot:
        await opened(pilot, app, 4)
        await pilot.press("d", "enter")  # the button that keeps is the first
        await on_screen(pilot, JobsScreen)
        assert path.exists()
        await pilot.press("d", "escape")
        await on_screen(pilot, JobsScreen)
        assert path.exists()
        await pilot.press("delete")
        await on_screen(pilot, ConfirmDialog)
        assert "4 answers of 6 prompts" in shown(app)
        await pilot.press("d")
        await until(pilot, lambda: not path.exists())
        screen = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: ids(screen) == "bcd")


async def test_a_running_job_is_not_deleted(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {}, status="running")
    lock = JobLock(path)
    lock.acquire()
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        screen = await opened(pilot, app, 1)
        assert screen.job_is_running()
        await pilot.press("d")
        await until(pilot, lambda: "Could not do that" in shown(app) and "stop it" in shown(app))
        assert path.exists()
    lock.release()


async def test_unreadable_files_are_named_with_the_reason(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 4)
        assert "1 file unreadable" in shown(app)
        await pilot.press("u")
        await on_screen(pilot, ConfirmDialog)
        assert "batch_eeeeeeee.db" in shown(app) and "Damaged checkpoint" in shown(app)
        await pilot.press("c")
        await on_screen(pilot, JobsScreen)


async def test_the_first_items_stand_beside_the_list(workspace: Workspace) -> None:
    make_job(workspace.checkpoints, ["What is a deque?", "And then?", "Last"], {0: "A queue\nof two ends", 1: None})
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await opened(pilot, app, 1)
        await until(pilot, lambda: "A queue⏎of two ends" in shown(app))
        assert "the server closed the connection" in shown(app) and "◌ no answer yet" in shown(app)


async def test_only_what_can_be_done_is_offered(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(pilot, app, 4)
        await pilot.pause()
        assert "resume" in footer(app) and "retry failed" not in footer(app)
        await pilot.press("down")  # done
        await pilot.pause()
        assert "resume" not in footer(app) and "retry failed" not in footer(app)
        await pilot.press("down")  # with a failure
        await pilot.pause()
        assert "retry failed" in footer(app)


async def test_an_empty_list_offers_nothing(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 0)
        await until(pilot, lambda: "No jobs yet" in shown(app))
        await pilot.press("enter", "r", "t", "d", "e", "o", "i", "i")
        assert isinstance(app.screen, JobsScreen)


async def test_resume_runs_what_is_missing(workspace: Workspace, engine: PaceEngine) -> None:
    path = make_job(workspace.checkpoints, [f"Question {i}" for i in range(6)], dict.fromkeys(range(4), "Yes."))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 1)
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: all(run.wait(0) for run in app.runs.values()))
    assert sorted(map(int, engine.answered)) == [4, 5]
    with CheckpointStore(path) as store:
        assert store.counts() == (6, 0)


async def test_retry_runs_the_failed_ones(workspace: Workspace, engine: PaceEngine) -> None:
    path = make_job(workspace.checkpoints, ["a", "b", "c"], {0: "x", 1: None, 2: None}, status="completed")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 1)
        await pilot.press("t")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: all(run.wait(0) for run in app.runs.values()))
    assert sorted(map(int, engine.answered)) == [1, 2]
    with CheckpointStore(path) as store:
        assert store.counts() == (3, 0)


async def test_a_model_that_is_gone_is_a_message_with_a_retry(workspace: Workspace) -> None:
    make_job(workspace.checkpoints, ["a"], {}, model="demmo")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 1)
        await pilot.press("r")
        await on_screen(pilot, ConfirmDialog)
        assert "Unknown model: demmo; did you mean demo?" in " ".join(shown(app).split())
        await pilot.press("t")  # try again
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("b")
        await on_screen(pilot, JobsScreen)


async def test_the_mode_resume_lists_what_is_left(workspace: Workspace, engine: PaceEngine) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app, 2, "resume")
        assert ids(screen) == "ad"
        await pilot.press("enter")
        run_screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run_screen.snapshot is not None and run_screen.snapshot.state.over)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and ids(screen) == "d")


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
async def test_details_can_be_shown_and_hidden(workspace: Workspace, size: tuple[int, int]) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app, 4)
        details, text = screen.query_one("#jobs-details"), screen.query_one("#jobs-about", Static)
        assert details.display == (size[0] >= 80)
        for shown in (not details.display, details.display):
            await pilot.press("i")
            await pilot.pause()
            assert details.display == shown
            assert not shown or "prompts from" in str(text.render())


async def test_results_and_back(workspace: Workspace) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 4)
        await pilot.press("o")
        await on_screen(pilot, ResultsScreen)
        await pilot.press("escape")
        await on_screen(pilot, JobsScreen)


async def test_other_weights_are_asked_about_first(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workspace)
    monkeypatch.setattr(
        "ai_router.jobs.model_changed", lambda registry, job, plan: "Its answers came from other weights"
    )
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 4)
        await pilot.press("r")
        dialog = await on_screen(pilot, ConfirmDialog)
        await until(pilot, lambda: "Its answers came from other weights" in shown(app))
        await pilot.press("c")
        assert not isinstance(app.screen, ConfirmDialog) and not app.runs
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog) and app.screen is not dialog)
        await pilot.press("g")
        await on_screen(pilot, RunScreen)
        assert app.runs
