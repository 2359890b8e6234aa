"""Another concurrency is told once: old and new, whoever changed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from driving import on_screen, until
from hypothesis import given
from hypothesis import strategies as st
from pace_engine import PaceEngine

from ai_router import jobs
from ai_router.lanes import OWN_LIMITS
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.run import at_once
from ai_router.tui.run.at_once import GROWS, MOST, PATIENCE_SECONDS, SETTLED_SECONDS, UNKNOWN, AtOnce
from ai_router.tui.run.screen import RunScreen
from batch.engines.lane import LaneSnapshot
from batch.options import RunOptions
from batch.running.live import LiveFile, read_live
from batch.running.progress import RunState, Snapshot

RUNNING = Snapshot("1a2b3c4d", "demo", RunState.RUNNING, 1000, 0, 0, concurrency=8, limit=8)


def told(moments: Sequence[tuple[float, Snapshot]]) -> list[str]:
    said: list[str] = []
    watch = AtOnce(said.append)
    for when, snapshot in moments:
        watch.look(snapshot, when)
    return said


def at(limit: int) -> Snapshot:
    return replace(RUNNING, limit=limit, concurrency=limit)


def test_what_another_process_sets_is_told_once_it_stands_still() -> None:
    moments = [(0.0, at(8)), (1.0, at(4)), (1.1, at(4)), (1.0 + SETTLED_SECONDS, at(4)), (9.0, at(4)), (99.0, at(4))]
    assert told(moments) == ["8 → 4 at once"]
    assert told([(0.0, at(8)), (1.0, at(9)), (1.5, at(8)), (9.0, at(8))]) == []


def test_what_a_server_bears_is_told_where_it_is_another_by_a_quarter() -> None:
    found = [replace(RUNNING, limit=None, engine_about={"concurrency": n}) for n in (16, 18, 15, 17, 64, 64)]
    assert told(list(zip((0, 5, 10, 15, 20, 25), found, strict=True))) == ["16 → 64 at once"]


def test_a_limit_that_never_stands_still_is_told_now_and_then() -> None:
    growing = [(t / 2, replace(RUNNING, limit=None, engine_about={"concurrency": 16 + t})) for t in range(100)]
    said = told(growing)
    assert 1 <= len(said) <= 50 / PATIENCE_SECONDS


def test_each_lane_is_named() -> None:
    def lanes(*limits: int | None) -> Snapshot:
        made = (LaneSnapshot(f"m{n}", "running", concurrency=limit) for n, limit in enumerate(limits))
        return replace(RUNNING, lanes=tuple(made))

    assert told([(0, lanes(8, None)), (1, lanes(2, None)), (5, lanes(2, None))]) == ["m0: 8 → 2 at once"]


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(1, 40)), max_size=30))
def test_told_changes_join_up(steps: list[tuple[float, int]]) -> None:
    """Each begins where the last one ended, and what stands still in the end has been told."""
    now, moments = 0.0, [(0.0, at(8))]
    for seconds, limit in steps:
        now += seconds
        moments.append((now, at(limit)))
    last = steps[-1][1] if steps else 8
    moments += [(now + 0.1, at(last)), (now + 60, at(last))]
    value = 8
    for line in told(moments):
        before, after = (int(part) for part in line.removesuffix(" at once").split(" → "))
        assert before == value != after
        value = after
    assert value == last


def test_a_key_is_told_at_once_and_not_again() -> None:
    said: list[str] = []
    watch = AtOnce(said.append)
    watch.look(at(8), 0)
    assert watch.ask(1, at(8), 1.0) == 9
    assert watch.ask(1, at(8), 1.1) == 10  # the other process has not heard yet
    for when, limit in ((1.2, 8), (1.4, 10), (30.0, 10)):
        watch.look(at(limit), when)
    assert said == ["8 → 9 at once", "9 → 10 at once"]


def test_a_key_sets_no_limit_before_the_engine_has_taken_anything() -> None:
    said: list[str] = []
    watch = AtOnce(said.append)
    loading = replace(RUNNING, state=RunState.STARTING, limit=None, concurrency=0)
    assert watch.ask(1, loading, 1.0) is None and watch.ask(-1, loading, 1.1) is None
    assert said == [UNKNOWN] * 2
    assert watch.ask(-1, replace(loading, concurrency=200), 1.2) == 188


def test_a_key_sets_no_limit_for_several_lanes_together() -> None:
    """What was given out waits in them for the most part: "1,908 → 1,789" would be no number of answers at once."""
    said: list[str] = []
    lanes = tuple(LaneSnapshot(name, "running", concurrency=4) for name in "ab")
    assert AtOnce(said.append).ask(-1, replace(RUNNING, concurrency=1908, limit=None, lanes=lanes), 0.0) is None
    assert said == [OWN_LIMITS]


def test_a_key_promises_no_more_than_the_engine_holds_to() -> None:
    """A server with a limit of 4 went on answering 4 while "4 → 5 at once" was said."""
    said: list[str] = []
    watch = AtOnce(said.append)
    server = replace(RUNNING, limit=None, concurrency=4, engine_about={"concurrency": 4, "most": 4})
    assert watch.ask(1, server, 1.0) is None
    growing = replace(RUNNING, limit=None, concurrency=21, engine_about={"concurrency": 21, "most": 512})
    assert watch.ask(1, growing, 10.0) is None
    assert said == [MOST.format(most=4), GROWS.format(found=21)]
    assert watch.ask(-1, server, 20.0) == 3
    assert watch.ask(1, replace(server, limit=3, concurrency=3), 30.0) == 4
    assert watch.ask(1, replace(growing, limit=8, concurrency=8), 40.0) == 9


async def test_the_run_screen_tells_what_changed_elsewhere(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PaceEngine(held=True)
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    monkeypatch.setattr(at_once, "SETTLED_SECONDS", 0.0)
    plan = jobs.JobPlan("demo", run=RunOptions(workers=2), source="examples/questions.txt")
    job = jobs.create_job(workspace, plan, ["one", "two", "three"])
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        run = app.start_run(job)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.in_flight == 2)
        LiveFile(job.checkpoint_file).write(run.snapshot())
        live = read_live(job.checkpoint_file)
        assert live is not None and live.limit == 2
        run.set_concurrency(7)
        await until(pilot, lambda: "2 → 7 at once" in [note.message for note in app._notifications])
        engine.held = False
        run.stop("now")
        await until(pilot, lambda: run.wait(0))
