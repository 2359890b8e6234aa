"""The main menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driving import footer, on_screen, shown, until
from pace_engine import PaceEngine
from stored import make_job

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.menu import MenuScreen
from ai_router.tui.models.screen import ModelsScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.settings.screen import SettingsScreen
from ai_router.tui.setup.menu import BatchMenuScreen
from ai_router.tui.widgets.menu_list import MenuList
from ai_router.tui.widgets.table import VirtualTable
from batch.checkpoint import JobLock

PLACES = {"1": AskScreen, "2": ModelsScreen, "3": JobsScreen, "4": SettingsScreen, "5": BatchMenuScreen}


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_an_empty_workspace_says_what_to_do(
    workspace: Workspace, size: tuple[int, int], golden: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_router.tui.menu.home", lambda path: "~/work")
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "No jobs yet" in shown(app))
        golden(app, "menu-empty")


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_the_last_jobs_are_beside_the_menu(
    workspace: Workspace,
    size: tuple[int, int],
    golden: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    frozen: None,
) -> None:
    monkeypatch.setattr("ai_router.tui.menu.home", lambda path: "~/work")
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "r resume" in shown(app))
        golden(app, "menu")


def fill(workspace: Workspace) -> None:
    """Jobs in four states, and a file that is none."""
    folder = workspace.checkpoints
    make_job(folder, [f"Question {i}" for i in range(6)], dict.fromkeys(range(4), "Yes."), job_id="aaaaaaaa")
    make_job(folder, ["日本語"] * 3, dict.fromkeys(range(3), "はい。"), job_id="bbbbbbbb", status="completed",
             source="data/日本語の質問.jsonl", at="2025-02-28T10:00:00")  # fmt: skip
    make_job(folder, ["a", "b"], {0: None, 1: "x"}, job_id="cccccccc", status="completed", at="2025-02-20T10:00:00")
    make_job(folder, ["a"], {}, job_id="dddddddd", status="pending", source="", at="2024-12-24T10:00:00")
    (folder / "batch_eeeeeeee.db").write_bytes(b"no database")


@pytest.mark.parametrize("key", PLACES)
async def test_number_keys(workspace: Workspace, key: str) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press(key)
        await on_screen(pilot, PLACES[key])
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)


async def test_zero_leaves(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("0")
        await until(pilot, lambda: app.return_value == 0)


async def test_arrows_and_enter(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("down", "up", "up", "j", "enter")
        await on_screen(pilot, ModelsScreen)
        await pilot.press("escape", "end", "k", "k", "k", "right")
        await on_screen(pilot, BatchMenuScreen)


async def test_the_mouse(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.hover(MenuList, offset=(10, 3))
        assert app.screen.query_one(MenuList).cursor == 2
        await pilot.click(MenuList, offset=(10, 3))
        await on_screen(pilot, JobsScreen)


async def test_the_palette_goes_everywhere(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("colon")
        await pilot.press(*"settings")
        await until(pilot, lambda: "Go to: Settings" in shown(app))
        await pilot.press("enter")
        await on_screen(pilot, SettingsScreen)


async def test_a_job_is_opened_from_the_menu(workspace: Workspace) -> None:
    make_job(workspace.checkpoints, ["a"], {0: "b"}, status="completed")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query_one(VirtualTable).count == 1)
        await pilot.press("tab", "enter")
        await on_screen(pilot, ResultsScreen)


async def test_a_new_job_appears_by_itself(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.tui.menu.REFRESH_SECONDS", 0.05)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "No jobs yet" in shown(app))
        make_job(workspace.checkpoints, ["a"], {0: "b"})
        await until(pilot, lambda: app.screen.query_one(VirtualTable).count == 1)


async def test_wrong_keys_do_nothing(workspace: Workspace) -> None:
    app: Any = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("escape", "z", "9", "f9", "ctrl+t", "delete", "x")
        assert isinstance(app.screen, MenuScreen)
        assert app.is_running
        assert footer(app)[-1] == "help"
        assert "back" not in footer(app)


@pytest.mark.parametrize("size", [(40, 10), (20, 6), (160, 50)])
async def test_any_size(workspace: Workspace, size: tuple[int, int]) -> None:
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await on_screen(pilot, JobsScreen)
        await pilot.resize_terminal(80, 24)
        await pilot.resize_terminal(*size)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)


async def test_r_goes_on_with_the_chosen_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaceEngine()
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 30)) as pilot:
        table = app.screen.query_one(VirtualTable)
        await until(pilot, lambda: table.count == 4 and "resume" in footer(app))
        done = next(at for at in range(4) if table.row(at)[1] == "日本語の質問.jsonl")  # type: ignore[index]
        table.move_cursor(done)
        await until(pilot, lambda: "resume" not in footer(app))
        table.move_cursor(0)
        await until(pilot, lambda: "resume" in footer(app))
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: len(engine.answered) == 2 and not app.live_runs())


async def test_one_key_goes_on_with_the_newest_job_that_has_something_left(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PaceEngine()
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    make_job(workspace.checkpoints, ["a"], {0: "x"}, status="completed", at="2025-03-03T10:00:00")
    make_job(workspace.checkpoints, ["b", "c"], {0: "x"}, at="2025-03-02T10:00:00")
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 30)) as pilot:
        await until(pilot, lambda: "resume" in footer(app) and "watch" not in footer(app))
        assert app.screen.query_one(MenuList).has_focus
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: engine.answered == [1] and not app.live_runs())
        make_job(workspace.checkpoints, ["d", "e"], {0: "x"}, at="2025-03-01T10:00:00")
        app.action_home()
        await until(pilot, lambda: isinstance(app.screen, MenuScreen) and "resume" in footer(app))
        assert app.screen.query_one(VirtualTable).cursor == 2


async def test_a_running_job_is_watched(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["b", "c"], {0: "x"})
    app = RouterApp(workspace)
    lock = JobLock(path)
    lock.acquire()
    try:
        async with app.run_test(size=(110, 30)) as pilot:
            await until(pilot, lambda: "watch" in footer(app) and "resume" not in footer(app))
            await pilot.press("r")
            await on_screen(pilot, RunScreen)
    finally:
        lock.release()


async def test_the_footer_offers_only_what_is_in_sight(workspace: Workspace) -> None:
    """On a few lines there is no room for the last jobs: nothing is done to one that is not seen."""
    fill(workspace)
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "r resume" in shown(app))
        assert "last jobs" in footer(app)
        await pilot.press("tab")
        await until(pilot, lambda: "menu" in footer(app) and "last jobs" not in footer(app))
        await pilot.press("tab")
        await until(pilot, lambda: app.screen.query_one(MenuList).has_focus)
        await pilot.resize_terminal(40, 12)
        await until(pilot, lambda: "resume" not in footer(app))
        assert not {"last jobs", "results", "again"} & set(footer(app))
        await pilot.press("o", "tab")
        await pilot.pause()
        assert isinstance(app.screen, MenuScreen) and app.screen.query_one(MenuList).has_focus
