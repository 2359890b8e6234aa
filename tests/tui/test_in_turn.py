"""Keys that are typed ahead of what they are for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from driving import on_screen as appears
from driving import until
from stored import make_job
from textual import events
from textual.pilot import Pilot
from textual.screen import Screen

from ai_router.settings import Workspace
from ai_router.tui import palette
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.prompt_area import PromptArea
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.jobs.view import NOT_READ, read_jobs
from ai_router.tui.menu import MenuScreen
from ai_router.tui.results.reading import ReadingScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.settings.screen import SettingsScreen
from ai_router.tui.widgets.table import VirtualTable

SLOW = 0.4


def typed_at_once(app: RouterApp, *keys: str) -> None:
    """All in one piece, as from a terminal that was held up."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, as from a disk that is far away."""

    def later(*args: Any) -> Any:
        time.sleep(SLOW)
        return work(*args)

    return later


async def at_home(pilot: Pilot[Any]) -> MenuScreen:
    """The menu, with its jobs."""
    menu = await appears(pilot, MenuScreen, 10)
    await until(pilot, lambda: menu._view.known)
    return menu


def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read of jobs takes a while."""
    for place in ("jobs.screen.read_jobs", "results.screen.read_job", "results.reading.read_result"):
        module, _, name = f"ai_router.tui.{place}".rpartition(".")
        monkeypatch.setattr(f"{module}.{name}", slowly(getattr(__import__(module, fromlist=[name]), name)))


async def test_they_wait_for_lists_that_are_read_slowly(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        prompts = [f"prompt {number}.{at}" for at in range(4)]
        make_job(workspace.checkpoints, prompts, dict.fromkeys(range(4), "x"), at=f"2025-03-0{5 - number}T10:00:00")
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        slow_disk(monkeypatch)
        typed_at_once(app, "3", "down", "enter", "down", "down", "enter", "p")  # second job, third item, the one before
        reading = await appears(pilot, ReadingScreen, 10)
        await until(pilot, lambda: reading._result is not None and reading._result.prompt == "prompt 1.1", 10)


async def test_escape_takes_back_what_waits(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(workspace.checkpoints, ["one"], {0: "x"})
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        slow_disk(monkeypatch)
        typed_at_once(app, "3", "enter")
        jobs = await appears(pilot, JobsScreen, 10)
        assert not jobs._view.known
        typed_at_once(app, "escape")
        await appears(pilot, MenuScreen, 10)
        await asyncio.sleep(SLOW)
        await pilot.pause()
        assert isinstance(app.screen, MenuScreen)


async def test_a_list_that_is_never_read_holds_no_keys_up(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_router.tui.in_turn.MOST_READING", 0.05)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        monkeypatch.setattr(JobsScreen, "waits_for", lambda *_: True)
        typed_at_once(app, "3", "question_mark")
        await until(pilot, lambda: type(app.screen).__name__ == "HelpScreen", 10)


async def test_letters_go_to_the_field_of_the_screen_before_it_is_drawn(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        typed_at_once(app, "1", *"4321 q?")  # each of them is a key of the menu
        screen = await appears(pilot, AskScreen, 10)
        await until(pilot, lambda: screen.query_one(PromptArea).text == "4321 q?", 10)


async def test_keys_before_the_first_screen(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        typed_at_once(app, "down", "down", "enter")
        await appears(pilot, JobsScreen, 10)


@pytest.mark.parametrize("slow", [False, True])
async def test_enter_in_the_palette_takes_what_was_typed_last(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    if slow:  # a search is cancelled by the next letter, and what it waits for is not
        monkeypatch.setattr("ai_router.tui.palette.read_things", slowly(palette.read_things))
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        typed_at_once(app, "colon", *"settings", "enter")
        await appears(pilot, SettingsScreen, 10)


async def test_a_key_for_a_question_that_is_read_for(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(workspace.checkpoints, ["one", "two"], {0: "x", 1: None})
    monkeypatch.setattr("ai_router.tui.jobs.actions._counts", slowly(lambda path: {"all": 2, "done": 1, "failed": 1}))
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        await at_home(pilot)
        app.go("jobs")
        screen = await appears(pilot, JobsScreen, 10)
        await until(pilot, lambda: screen.query_one(VirtualTable).count)
        typed_at_once(app, "a", "right")  # the second button, not a key of the list
        dialog = await appears(pilot, ConfirmDialog, 10)
        await until(pilot, lambda: dialog.focused is not None and dialog.focused.id == "button-failed", 10)


@pytest.mark.parametrize(
    ("keys", "comes"), [("r", RunScreen), ("o", ResultsScreen), (("tab", "down", "o"), ResultsScreen)]
)
async def test_what_is_done_with_a_job_waits_for_the_jobs_of_the_menu(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, keys: Sequence[str], comes: type[Screen[Any]]
) -> None:
    for number in range(2):
        make_job(workspace.checkpoints, ["a", "b"], {0: "c"}, job_id=f"aaaaaaa{number}")
    monkeypatch.setattr("ai_router.tui.menu.read_jobs", slowly(read_jobs))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        menu = await appears(pilot, MenuScreen, 10)
        typed_at_once(app, *keys)
        assert not menu._view.known
        await appears(pilot, comes, 10)


async def test_the_way_to_a_place_waits_for_no_jobs(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        menu = await at_home(pilot)
        assert not menu.waits_for("r")
        menu._view = NOT_READ
        assert menu.waits_for("r") and menu.waits_for("tab") and not menu.waits_for("4")
        await pilot.resize_terminal(40, 12)  # no list stands there
        await until(pilot, lambda: not menu.waits_for("r"))
