"""How soon the screens answer a key while a local model runs on all cores, and what a million rows take to look at."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from batch import BatchProcessor, Run
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from benchmarks.common import ANSWER, InstantEngine, Row, Skipped, in_process, make_job

KEY_TARGET = 50.0  # ms, at the 95th percentile
ROWS_TARGET = 1.0  # seconds
SORTED_BY = ("class", "model", "tokens")  # the first columns of the list after the number
FIRST_HIT, HIT_TARGET = "first hit of a search", 0.3  # seconds
PATIENCE = 30.0  # seconds
State = Callable[[Any], object]


def _screen(app: Any) -> object:
    return type(app.screen).__name__


def _cursor(app: Any) -> object:
    return getattr(app.screen.focused, "cursor", None), _screen(app)


def _panes(app: Any) -> object:
    return tuple(app.screen.panes.shown), _screen(app)


def _part(app: Any) -> object:
    return getattr(app.screen, "part", None), _screen(app)


def _place(app: Any) -> object:
    return getattr(app.screen, "place", None), _screen(app)


# From the main menu, and back to it: keys, and what shows that one has been answered.
TOUR: tuple[tuple[str, State], ...] = (
    ("down", _cursor), ("up", _cursor), ("question_mark", _screen), ("escape", _screen), ("colon", _screen),
    ("escape", _screen), ("ctrl+o", _screen), ("escape", _screen), ("3", _screen), ("down", _cursor), ("up", _cursor),
    ("down", _cursor), ("enter", _screen), ("down", _cursor), ("down", _cursor), ("pagedown", _cursor), ("G", _cursor),
    ("g", _cursor), ("z", _panes), ("z", _panes), ("2", _part), ("1", _part), ("down", _cursor), ("enter", _screen),
    ("n", _place), ("n", _place), ("p", _place), ("escape", _screen), ("ctrl+w", _screen), ("escape", _screen),
    ("ctrl+b", _screen), ("escape", _screen), ("escape", _screen), ("escape", _screen),
)  # fmt: skip


class VariedEngine(InstantEngine):
    """Its answers have durations and tokens of their own, so that there is something to sort."""

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """One answer for all."""
        answer = Answer(ANSWER)
        async for item in items:
            number = int(item.id) * 7919 % 10_007
            yield BatchResponse(item.id, answer, number * 1_000_000, tokens_input=20, tokens_output=number % 997)


class Frames:
    """When the last frame went to the terminal."""

    def __init__(self, app: Any) -> None:
        self.last = 0.0
        display = app._display

        def displayed(*args: Any, **kwargs: Any) -> None:
            display(*args, **kwargs)
            self.last = time.perf_counter()

        app._display = displayed


async def pressed(app: Any, frames: Frames, key: str, state: State) -> float:
    """Seconds from a key to the first frame that shows what it did."""
    from textual import events

    before = state(app)
    character = {"question_mark": "?", "colon": ":"}.get(key, key if len(key) == 1 else None)
    start = time.perf_counter()
    app.post_message(events.Key(key, character))
    while state(app) == before:
        if time.perf_counter() - start > PATIENCE:
            raise Skipped(f"the key {key} was not answered on {_screen(app)}")
        await asyncio.sleep(0.001)  # a loop without rest would take the processor from what is measured
    changed = time.perf_counter()
    while frames.last < changed:
        if time.perf_counter() - changed > PATIENCE:
            raise Skipped(f"no frame after {key}")
        await asyncio.sleep(0.001)  # a loop without rest would take the processor from what is measured
    return frames.last - start


def keys(rounds: int) -> list[tuple[str, float]]:
    """Each key of the tour, and milliseconds until it was answered, while the included model answers beside."""
    from ai_router.tui import surround

    surround()  # as where the screens are opened from the command line
    from ai_router import jobs
    from ai_router.settings import Settings, Workspace
    from ai_router.tui.app import RouterApp

    async def main(folder: str) -> list[tuple[str, float]]:
        workspace = Workspace(Path(folder), Settings(theme="dark", bell=False))
        for _ in range(20):
            job = make_job(BatchProcessor(workspace.checkpoints), 2_000)
            await asyncio.to_thread(Run(job, InstantEngine(), RunOptions(workers=64)).execute)
        found: list[tuple[str, float]] = []
        app = RouterApp(workspace)
        async with app.run_test(size=(140, 40)) as pilot:
            plan = jobs.JobPlan("demo")
            prompts = (f"Explain item {n}, and what it is good for." for n in range(100_000))
            run = app.start_run(jobs.create_job(workspace, plan, prompts), plan)
            while not run.snapshot().completed:
                if run.wait(0):
                    raise Skipped(f"the included model does not run: {run.error}")
                await pilot.pause(0.1)
            frames = Frames(app)
            for number in range(rounds + 1):
                for key, state in TOUR:
                    seconds = await pressed(app, frames, key, state)
                    found += [(key, seconds * 1000)] if number else []  # the first round imports the screens
                    await pilot.pause(0.15)
            run.stop("now")
            await asyncio.to_thread(run.wait)
        return found

    with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main(folder))


def rows(count: int) -> dict[str, float]:
    """Seconds to open the results of a job of so many items, to go to the last, to sort, and to find a word."""
    from textual import events
    from textual.widgets import Input

    from ai_router.settings import Settings, Workspace
    from ai_router.tui.app import RouterApp
    from ai_router.tui.results.screen import ResultsScreen
    from batch.checkpoint.texts import open_index

    async def main(folder: str) -> dict[str, float]:
        workspace = Workspace(Path(folder), Settings(theme="dark", bell=False))
        job = make_job(BatchProcessor(workspace.checkpoints), count)
        await asyncio.to_thread(Run(job, VariedEngine(), RunOptions(workers=64)).execute)
        assert job.checkpoint_file is not None
        times: dict[str, float] = {}
        app = RouterApp(workspace)
        async with app.run_test(size=(140, 40)) as pilot:
            await pilot.pause(0.5)
            frames = Frames(app)

            async def until(name: str, done: Callable[[], object]) -> None:
                start = time.perf_counter()
                while not done():
                    if time.perf_counter() - start > PATIENCE * 4:
                        raise Skipped(f"{name}: not within {PATIENCE * 4:.0f} s")
                    await asyncio.sleep(0.002)
                seen = time.perf_counter()
                while frames.last < seen and time.perf_counter() - seen < 1:
                    await asyncio.sleep(0.002)
                times[name] = seen - start

            def row(index: int) -> object:
                screen = app.screen
                there = isinstance(screen, ResultsScreen) and screen.is_mounted and screen.query("#results")
                return there and screen.table.count == count and screen.table.row(index)  # type: ignore[attr-defined]

            def press(key: str) -> None:
                app.post_message(events.Key(key, {"enter": "\r"}.get(key, key)))

            app.open_results(job.checkpoint_file)
            await until("open", lambda: row(0))
            press("G")
            await until("last row", lambda: app.screen.table.cursor == count - 1 and row(count - 1))  # type: ignore[attr-defined]
            await pilot.press("g")
            for by in SORTED_BY:
                press("s")
                await until(f"sort by {by}", lambda by=by: app.screen.order.by == by and row(0))  # type: ignore[attr-defined,misc]
            start = time.perf_counter()
            while await asyncio.to_thread(open_index, job.checkpoint_file) is None:
                if time.perf_counter() - start > PATIENCE * 4:
                    return times  # no numpy here
                await asyncio.sleep(0.2)
            app.screen.action_search()  # type: ignore[attr-defined]
            app.screen.query_one("#results-search", Input).value = f"item {count - 9}"
            await pilot.pause(0.5)
            press("enter")
            await until(FIRST_HIT, lambda: app.screen.table.count == 1 and app.screen.table.row(0))  # type: ignore[attr-defined]
        return times

    with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main(folder))


def measure(quick: bool) -> list[Row]:
    """Keys, then rows."""
    try:
        import torch  # noqa: F401

        import ai_router.tui.app  # noqa: F401
    except ImportError as error:
        raise Skipped(f"no terminal application, or no torch: {error}") from error
    found = in_process(keys, 1 if quick else 8)
    times = sorted(ms for _, ms in found)
    late = times[min(len(times) - 1, int(len(times) * 0.95))]
    by_key: dict[str, list[float]] = {}
    for key, ms in found:
        by_key.setdefault(key, []).append(ms)
    worst = sorted(by_key.items(), key=lambda item: -statistics.median(item[1]))[:3]
    slow = ", ".join(f"{key} {statistics.median(ms):.0f}" for key, ms in worst)
    count = 20_000 if quick else 1_000_000
    seconds = in_process(rows, count)
    return [
        Row(
            "key answered while a model runs, 95th percentile",
            f"< {KEY_TARGET:g} ms",
            f"{late:.0f} ms",
            late < KEY_TARGET,
        ),
        Row("  median of all keys", "", f"{statistics.median(times):.0f} ms", None),
        Row("  slowest keys, median ms", "", slow, None),
        *(
            Row(f"{count:,} rows: {name}", f"< {target:g} s", f"{value:.2f} s", value < target)
            for name, value in seconds.items()
            for target in [HIT_TARGET if name == FIRST_HIT else ROWS_TARGET]
        ),
    ]
