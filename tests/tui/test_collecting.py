"""When garbage is collected: while nobody waits for the screen."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import pytest
from driving import until

from ai_router.settings import Workspace
from ai_router.tui import collecting
from ai_router.tui.app import RouterApp


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The generations that were looked through, one after the other; nothing is done by the clock."""
    monkeypatch.setattr(collecting, "EVERY", 3600)
    found: list[int] = []

    def told(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(told)
    yield found
    gc.callbacks.remove(told)
    gc.enable()


async def test_no_key_waits_for_a_collection(workspace: Workspace, passes: list[int]) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: not gc.isenabled())
        del passes[:]
        for key in ("question_mark", "escape", "3"):
            await pilot.press(key)
        assert passes == [] and gc.get_count()[0] > collecting.YOUNG
        app._pressed = time.monotonic()
        app.collect()
        assert passes == [], "a key came a moment ago"
        app._pressed = time.monotonic() - collecting.YOUNG_REST
        app.collect()
        assert passes == [0], "and now none did"
        app.collect()
        assert passes == [0], "there is nothing new"
    assert gc.isenabled(), "it is Python's again"


async def test_what_was_left_goes_when_nobody_is_at_work(
    workspace: Workspace, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "OLD", 5_000)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: not gc.isenabled())
        await pilot.press("question_mark")
        left = weakref.ref(app.screen)
        app._pressed = time.monotonic() - collecting.YOUNG_REST
        app.collect()  # it has outlived one
        await pilot.press("escape", "3", "escape")
        del passes[:]
        app._pressed = time.monotonic() - collecting.OLD_REST
        await until(pilot, lambda: app.collect() or 2 in passes)
        assert left() is None


async def test_so_much_is_not_left_lying_though_keys_come_all_the_time(
    workspace: Workspace, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: not gc.isenabled())
        del passes[:]
        app._pressed = time.monotonic() + 3600
        monkeypatch.setattr(collecting, "MANY", 1)
        app.collect()
        assert passes == [0]
        monkeypatch.setattr(collecting, "TOO_OLD", 1)
        app._collect_after = 0.0
        app.collect()
        assert passes == [0, 2]


async def test_where_there_is_little_garbage_it_is_not_looked_for_again_and_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    monkeypatch.setattr(collecting, "EVERY", 3600)
    monkeypatch.setattr(collecting, "MANY", 0)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await until(pilot, lambda: not gc.isenabled())
        monkeypatch.setattr(gc, "collect", lambda generation=2: passes.append(generation) or 0)  # finds nothing
        waits = []
        for _ in range(12):
            app._collect_after = 0.0
            app.collect()
            waits.append(app._put_off)
            app.collect()
        assert len(passes) == 12 and waits[:3] == [1.0, 2.0, 4.0] and waits[-1] == collecting.LONGEST
        await pilot.press("down")  # screens may come and go now
        app.collect()
        assert len(passes) == 13
