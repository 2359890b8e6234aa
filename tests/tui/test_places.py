"""The one table of places: menus, keys and palette are made from it and cannot drift apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from driving import on_screen, shown, until
from stored import make_job
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from ai_router.memory import Memory, Turn
from ai_router.presets import Preset, keep_preset
from ai_router.recent import known_files, note_file
from ai_router.settings import Workspace
from ai_router.tui.actions import ACTIONS
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.docs import DocsScreen
from ai_router.tui.finding import read_things
from ai_router.tui.menu import MenuScreen
from ai_router.tui.palette import Finder, places
from ai_router.tui.places import PLACES, anywhere, on_menu
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.semantic.screen import SemanticIdsScreen
from ai_router.tui.stats.screen import StatsScreen
from batch.checkpoint.about import About, write_about

WITH_SCREEN = [name for name, place in PLACES.items() if place.screen]


@pytest.mark.parametrize("name", WITH_SCREEN)
def test_a_place_names_a_screen_that_there_is(name: str) -> None:
    place = PLACES[name]
    made = place.make(*([Path("nowhere.db")] if place.of_job else []))
    assert isinstance(made, Screen)
    assert not place.then or place.then in PLACES


def test_a_menu_numbers_its_places_from_one() -> None:
    for menu in {place.menu for place in PLACES.values() if place.menu}:
        assert [place.key for place in on_menu(menu)] == [str(n) for n in range(1, len(on_menu(menu)) + 1)]


async def test_the_palette_finds_every_place_once(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await on_screen(pilot, MenuScreen)
        found = Counter(label for label, _, _ in places(app))
        assert not [label for label, count in found.items() if count > 1]
        assert {f"Go to: {place.title}" for place in anywhere()} <= set(found)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        app.screen.query_one(Input).value = "Semantic IDs"
        await pilot.pause(0.3)
        await pilot.press("enter", "enter")
        await on_screen(pilot, SemanticIdsScreen)


async def test_a_whole_name_comes_before_names_that_hold_it(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await on_screen(pilot, MenuScreen)
        for query, first in (("light", "Theme: light"), ("dark", "Theme: dark"), ("models", "Go to: Models")):
            await pilot.press("colon")
            await until(pilot, lambda: isinstance(app.screen, CommandPalette))
            finder = Finder(app.screen)
            await finder.startup()
            hits = [hit async for hit in finder.search(query)]
            assert max(hits, key=lambda hit: hit.score).text == first
            await pilot.press("escape")
            await on_screen(pilot, MenuScreen)


def test_no_two_actions_of_a_group_read_the_same_in_the_palette() -> None:
    named = Counter(
        (action.group, action.title or action.label)
        for action in ACTIONS.values()
        if action.group in ("Run", "Jobs", "Results", "Reading", "Models", "Ask", "Settings", "Batch", "Menu")
    )
    assert not [name for name, count in named.items() if count > 1]


async def typed_into_palette(pilot: Pilot[Any], words: str) -> None:
    await pilot.press("colon")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
    pilot.app.screen.query_one(Input).value = words
    await pilot.pause(0.3)


async def take(pilot: Pilot[Any]) -> None:
    """The first that is found."""
    await pilot.press("enter")
    if isinstance(pilot.app.screen, CommandPalette):
        await pilot.press("enter")


async def test_what_was_found_lately_comes_first_and_jobs_and_files_before_places(workspace: Workspace) -> None:
    make_job(workspace.checkpoints, ["a"], {0: "x"}, job_id="12345678", model="qwen3")
    (workspace.root / "questions.jsonl").write_text("x")
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 60)) as pilot:
        await on_screen(pilot, MenuScreen)
        await typed_into_palette(pilot, "qwen3 done")  # by its model and status
        await until(pilot, lambda: "Job: prompts.txt 12345678" in shown(app))
        await pilot.press("escape")
        await typed_into_palette(pilot, "Statistics")
        await until(pilot, lambda: "Go to: Statistics" in shown(app))
        await take(pilot)
        await on_screen(pilot, StatsScreen)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await typed_into_palette(pilot, "")
        await until(pilot, lambda: "Go to: Models" in shown(app))
        order = ["Go to: Statistics", "Everywhere: help", "Job: prompts.txt", "File: questions.jsonl", "Go to: Ask"]
        places = [shown(app).index(label) for label in order]
        assert places == sorted(places) and shown(app).count("Go to: Statistics") == 1 and "Theme: " not in shown(app)


async def test_the_palette_finds_chats_and_topics(workspace: Workspace) -> None:
    memory = Memory(workspace.checkpoints)
    chat = memory.begin_chat("About zebras", "demo", {})
    memory.add_turn(chat, Turn("About zebras", "They have stripes", "demo"), {})
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await on_screen(pilot, MenuScreen)
        await typed_into_palette(pilot, "Chat: About zebras")
        await until(pilot, lambda: "Chat: About zebras" in shown(app))
        await take(pilot)
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: "They have stripes" in shown(app) and screen.conversation.chat == chat)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await typed_into_palette(pilot, "Documentation: Jump mode")
        await until(pilot, lambda: "Documentation: Jump mode" in shown(app))
        await take(pilot)
        await on_screen(pilot, DocsScreen)
        await until(pilot, lambda: "puts a letter on everything" in shown(app))


async def test_names_from_outside_are_shown_by_the_palette_and_not_obeyed(workspace: Workspace) -> None:
    (workspace.root / "[red]a[b] [").mkdir()
    (workspace.root / "[red]a[b] [" / "x [bold]y[!].txt").write_text("x")
    make_job(workspace.checkpoints, ["a"], {0: "x"}, source="[bold red]job[!].csv")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 60)) as pilot:
        await on_screen(pilot, MenuScreen)
        await typed_into_palette(pilot, "")
        await until(pilot, lambda: "File: x [bold]y[!].txt" in shown(app) and "/[red]a[b] [" in shown(app))
        app.screen.query_one(Input).value = "job[!]"
        await until(pilot, lambda: "Job: [bold red]job[!].csv" in shown(app) and "File:" not in shown(app))
        await take(pilot)
        await on_screen(pilot, ResultsScreen)


async def test_the_palette_finds_jobs_files_models_and_presets(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {0: "x"}, job_id="12345678")
    write_about(path, About("first try"))
    (workspace.root / "data").mkdir()
    old, new = workspace.root / "old.txt", workspace.root / "data" / "questions.jsonl"
    for file in (old, new, workspace.root / "image.png"):
        file.write_text("x")
    note_file(workspace, new)
    keep_preset(Memory(workspace.checkpoints), "short", Preset({"max_tokens": 4}))
    assert known_files(workspace) == [new, old]
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await on_screen(pilot, MenuScreen)
        groups = {name: [label for label, _, _ in found] for name, found in read_things(app).items()}
        assert groups["jobs"] == ["Job: first try 12345678"] and "Model: demo" in groups["models"]
        assert groups["files"] == ["File: questions.jsonl", "File: old.txt"] and groups["presets"] == ["Preset: short"]
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        app.screen.query_one(Input).value = "first try"
        await until(pilot, lambda: "Job: first try" in shown(app))
        await pilot.press("enter")
        if isinstance(app.screen, CommandPalette):
            await pilot.press("enter")
        await on_screen(pilot, ResultsScreen)
        {label: call for label, _, call in read_things(app)["presets"]}["Preset: short"]()
        assert app.ask_options is not None and app.ask_options.max_tokens == 4
