"""Typed prompts: add, change, delete, take back, paste, finish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from driving import footer, on_screen, paste, shown, type_text, until
from pace_engine import PaceEngine
from textual import events
from textual.pilot import Pilot

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.manual import ManualScreen, PromptList
from ai_router.tui.setup.menu import BatchMenuScreen
from ai_router.tui.setup.options import OptionsScreen
from ai_router.tui.widgets.prompt_input import PromptInput
from ai_router.tui.widgets.table import VirtualTable


@asynccontextmanager
async def manual(workspace: Workspace) -> AsyncIterator[tuple[Pilot[int], ManualScreen]]:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await on_screen(pilot, BatchMenuScreen)
        await pilot.press("2")
        yield pilot, await on_screen(pilot, ManualScreen)


def test_every_change_can_be_taken_back() -> None:
    prompts = PromptList()
    states = [[]]
    for change in (
        lambda: prompts.add(["a"]),
        lambda: prompts.add(["b", "c", "d"]),
        lambda: prompts.change(1, "B"),
        lambda: prompts.delete(0),
        lambda: prompts.add(["x", "y"], 1),
        lambda: prompts.delete(3),
    ):
        change()
        states.append(list(prompts.prompts))
    for state in reversed(states[:-1]):
        assert prompts.undo()
        assert prompts.prompts == state
    assert prompts.undo() is None


async def test_type_add_edit_delete_undo(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        for text in ("a", "b", "c"):
            await type_text(pilot, text)
            await pilot.press("enter")
        assert screen.list.prompts == ["a", "b", "c"]
        assert "Prompt 4" in shown(pilot.app)
        await pilot.press("up", "up")  # into the list, to the second
        assert isinstance(screen.focused, VirtualTable)
        assert {"edit", "delete"} <= set(footer(pilot.app))  # type: ignore[arg-type]
        await pilot.press("enter")
        await pilot.pause()
        assert screen.editing == 1
        await type_text(pilot, "!")
        await pilot.press("enter")
        assert screen.list.prompts == ["a", "b!", "c"]
        await pilot.press("up", "d")
        assert len(screen.list.prompts) == 2
        await pilot.press("u", "u")
        await pilot.pause()
        assert screen.list.prompts == ["a", "b", "c"]


async def test_letters_are_text_while_one_types(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "deuaq?:0 d")
        await pilot.press("enter")
        assert screen.list.prompts == ["deuaq?:0 d"]


async def test_paste_of_many_lines_is_many_prompts(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "say ")
        await paste(pilot, "one\r\ntwo [bold]x[/bold]\r\n\r\n  日本語\x1b[31m  \nlast")
        await until(pilot, lambda: len(screen.list.prompts) == 4)
        assert screen.list.prompts == ["say one", "two [bold]x[/bold]", "日本語\x1b[31m", "last"]
        assert "[bold]x[/bold]" in shown(pilot.app)
        assert "\x1b" not in shown(pilot.app)
        await pilot.press("ctrl+z")
        assert screen.list.prompts == []


async def test_lines_that_come_faster_than_messages_stay_apart(workspace: Workspace) -> None:
    """What a terminal without bracketed paste sends: all keys at once, line ends among them."""
    async with manual(workspace) as (pilot, screen):
        for character in "one\rtwo\rthree\r":
            key = "enter" if character == "\r" else character
            pilot.app.post_message(events.Key(key, character))
        await until(pilot, lambda: len(screen.list.prompts) == 3)
        assert screen.list.prompts == ["one", "two", "three"]
        assert screen.query_one(PromptInput).value == ""


async def test_paste_of_one_line_stays_in_the_field(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "ab")
        await pilot.press("left")
        await paste(pilot, "XY\n")
        assert screen.query_one(PromptInput).value == "aXYb"
        assert screen.list.prompts == []


async def test_a_hundred_thousand_pasted_lines(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await paste(pilot, "\n".join(f"prompt {n}" for n in range(100_000)))
        await until(pilot, lambda: len(screen.list.prompts) == 100_000)
        assert "100,000 prompts" in shown(pilot.app)
        await until(pilot, lambda: "prompt 99999" in shown(pilot.app))


async def test_escape_leaves_an_edit_as_it_was_and_brings_the_draft_back(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "one")
        await pilot.press("enter")
        await type_text(pilot, "draft")
        await pilot.press("up", "enter")
        await type_text(pilot, "zzz")
        await pilot.press("escape")
        await pilot.pause()
        assert screen.list.prompts == ["one"]
        assert screen.editing is None
        assert screen.query_one(PromptInput).value == "draft"


async def test_empty_line_finishes_and_nothing_typed_says_so(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await pilot.press("enter")
        await pilot.pause()
        assert pilot.app.screen is screen
        await type_text(pilot, "only one")
        await pilot.press("enter", "enter")
        chosen = await on_screen(pilot, ChooseModelScreen)
        assert [request.text for request in chosen.source.requests()] == ["only one"]
        assert chosen.total == 1


async def test_f2_takes_what_stands_in_the_field(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, _):
        await type_text(pilot, "one")
        await pilot.press("enter")
        await type_text(pilot, "two")
        await pilot.press("f2")
        chosen = await on_screen(pilot, ChooseModelScreen)
        assert [request.text for request in chosen.source.requests()] == ["one", "two"]


async def test_leaving_asks_before_typed_prompts_are_gone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "one")
        await pilot.press("enter", "escape")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert screen.list.prompts == ["one"]
        monkeypatch.setattr("ai_router.tui.setup.manual.MOST_KEPT", 2)
        await pilot.press("escape")
        await on_screen(pilot, ConfirmDialog)
        assert "too much to be kept" in shown(pilot.app)
        await pilot.press("s")
        await until(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("escape")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("d")
        await on_screen(pilot, BatchMenuScreen)


async def test_after_an_edit_the_letters_of_the_list_are_keys(workspace: Workspace) -> None:
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "a")
        await pilot.press("enter")
        for ending in ("enter", "escape"):
            if not isinstance(screen.focused, VirtualTable):
                await pilot.press("up")
            await pilot.press("e")
            await type_text(pilot, "!")
            await pilot.press(ending)
            await pilot.pause()
            assert isinstance(screen.focused, VirtualTable)
        assert screen.list.prompts == ["a!"]
        await pilot.press("u")
        await pilot.pause()
        assert screen.list.prompts == ["a"] and screen.query_one(PromptInput).value == ""


async def test_what_was_typed_is_there_again_until_it_has_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: PaceEngine())
    async with manual(workspace) as (pilot, screen):
        await type_text(pilot, "one")
        await pilot.press("enter", *"two", "escape")
        await on_screen(pilot, ConfirmDialog)
        assert "2 prompts typed so far" in shown(pilot.app)
        await pilot.press("k")
        await on_screen(pilot, BatchMenuScreen)
    async with manual(workspace) as (pilot, screen):  # another session, which is ended on this very screen
        assert screen.list.prompts == ["one"] and screen.query_one(PromptInput).value == "two"
        screen.query_one(PromptInput).value = "three"
        await pilot.pause()
    async with manual(workspace) as (pilot, screen):
        assert screen.list.prompts == ["one"] and screen.query_one(PromptInput).value == "three"
        await pilot.press("f2")
        choose = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: choose.chosen is not None)
        await pilot.press("enter")
        await on_screen(pilot, OptionsScreen)
        await pilot.press("f2")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: not pilot.app.live_runs())  # type: ignore[attr-defined]
        assert run.path.is_file()
    async with manual(workspace) as (_, screen):
        assert not screen.list.prompts and not screen.query_one(PromptInput).value
