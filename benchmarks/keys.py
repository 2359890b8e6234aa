"""How soon the screens answer a key while a local model runs on all cores."""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from batch import BatchProcessor, Run
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, Skipped, in_process, make_job

TARGET = 50.0  # ms, at the 95th percentile
PATIENCE = 30.0  # seconds
REST = 0.15  # seconds between two keys
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


class Answers:
    """Presses keys, and looks at each frame that goes to the terminal for what they did."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._shows: Callable[[], bool] = lambda: False
        self._seen: asyncio.Future[tuple[float, float]] | None = None
        display = app._display

        def displayed(*args: Any, **kwargs: Any) -> None:
            display(*args, **kwargs)
            if self._seen is not None and not self._seen.done() and self._shows():
                self._seen.set_result((time.perf_counter(), time.thread_time()))

        app._display = displayed

    async def press(self, key: str, state: State) -> tuple[float, float]:
        """Seconds from a key to the first frame that shows what it did: by the clock, and of this thread's work."""
        from textual import events

        app, before = self._app, state(self._app)
        character = {"question_mark": "?", "colon": ":"}.get(key, key if len(key) == 1 else None)
        self._shows, self._seen = lambda: state(app) != before, asyncio.get_running_loop().create_future()
        start, busy = time.perf_counter(), time.thread_time()
        app.post_message(events.Key(key, character))
        try:
            async with asyncio.timeout(PATIENCE):
                shown, worked = await self._seen
        except TimeoutError as error:
            raise Skipped(f"the key {key} was not answered on {_screen(app)}") from error
        return shown - start, worked - busy

    async def rows(self) -> None:
        """Wait until the list that has the focus has its rows: before, there is nowhere to go in it."""
        async with asyncio.timeout(PATIENCE):
            while getattr(self._app.screen.focused, "count", 1) == 0:
                await asyncio.sleep(0.01)


Measured = tuple[str, str, float, float]  # screen, key, ms until it was answered, ms of the screens' thread in that


def keys(rounds: int) -> list[Measured]:
    """Each key of the tour, while the included model answers beside."""
    from ai_router.tui import surround

    surround()  # as where the screens are opened from the command line
    from ai_router import jobs
    from ai_router.settings import Settings, Workspace
    from ai_router.tui.app import RouterApp

    async def main(folder: str) -> list[Measured]:
        workspace = Workspace(Path(folder), Settings(theme="dark", bell=False))
        for _ in range(20):
            job = make_job(BatchProcessor(workspace.checkpoints), 2_000)
            await asyncio.to_thread(Run(job, InstantEngine(), RunOptions(workers=64)).execute)
        found: list[Measured] = []
        app = RouterApp(workspace)
        async with app.run_test(size=(140, 40)) as pilot:
            plan = jobs.JobPlan("demo")
            prompts = (f"Explain item {n}, and what it is good for." for n in range(100_000))
            run = app.start_run(jobs.create_job(workspace, plan, prompts), plan)
            while not run.snapshot().completed:
                if run.wait(0):
                    raise Skipped(f"the included model does not run: {run.error}")
                await pilot.pause(0.1)
            answers = Answers(app)
            for number in range(rounds + 1):
                for key, state in TOUR:
                    await answers.rows()
                    screen = type(app.screen).__name__
                    times = await answers.press(key, state)
                    if number:  # the first round imports the screens
                        found.append((screen, key, times[0] * 1000, times[1] * 1000))
                    await pilot.pause(REST)
            run.stop("now")
            await asyncio.to_thread(run.wait)
        return found

    with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main(folder))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so much of them does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def measure(quick: bool) -> list[Row]:
    """All keys together, and each that takes longest."""
    try:
        import torch  # noqa: F401

        import ai_router.tui.app  # noqa: F401
    except ImportError as error:
        raise Skipped(f"no terminal application, or no torch: {error}") from error
    found: list[Measured] = in_process(keys, 1 if quick else 8)
    times = [ms for _, _, ms, _ in found]
    late = percentile(times, 0.95)
    by_key: dict[str, list[float]] = {}
    for screen, key, ms, _ in found:
        by_key.setdefault(f"{screen.removesuffix('Screen')} {key}", []).append(ms)
    worst = sorted(((statistics.median(ms), name) for name, ms in by_key.items()), reverse=True)[:3]
    return [
        Row("key answered while a model runs, 95th percentile", f"< {TARGET:g} ms", f"{late:.0f} ms", late < TARGET),
        Row("  median of all keys", "", f"{statistics.median(times):.0f} ms", None),
        Row("  work in that, 95th percentile", "", f"{percentile([work for *_, work in found], 0.95):.0f} ms", None),
        *(Row(f"  among the slowest, median: {name}", "", f"{ms:.0f} ms", None) for ms, name in worst),
    ]
