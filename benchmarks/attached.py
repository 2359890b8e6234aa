"""What the run screen costs a run: in turn, while a run goes on, it is there and its thread stands still."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from batch import BatchProcessor, Run
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, Skipped, in_process, make_job, median_interval

TARGET = 3.0  # percent
COUNT, RUNS, PAIRS = 1_500_000, 6, 4  # more than are answered meanwhile; pairs of one run
WINDOW, LEAD = 0.75, 0.15  # seconds; those at the beginning of each that do not count: it begins with a frame

# Items a second of the clock, items a second of the process's processor time, seconds of the screens' thread a second.
Times = tuple[float, float, float]


class CountingEngine(InstantEngine):
    """Knows how many it has answered."""

    answered = 0

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """One answer for all."""
        async for response in super().answer(items, desk):
            self.answered += 1
            yield response


def windows(count: int, runs: int, window: float) -> list[tuple[Times, Times]]:
    """Without the screen and with it, in the order ABBA, within each of some runs.

    Within one, as the machine is another one from minute to minute, and each run another one too. Without the screen
    its thread sleeps, so that nothing of it is left: no timer, no snapshot, no frame.
    """
    from ai_router.jobs import spare_collector
    from ai_router.settings import Settings, Workspace
    from ai_router.tui.app import RouterApp
    from ai_router.tui.run.screen import RunScreen

    found: list[tuple[Times, Times]] = []

    async def measured(engine: CountingEngine, seconds: float, *, seen: bool) -> Times:
        before, start, spent, busy = engine.answered, time.perf_counter(), time.process_time(), time.thread_time()
        if seen:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)
        passed, used, count = time.perf_counter() - start, time.process_time() - spent, engine.answered - before
        return count / passed, count / used, (time.thread_time() - busy) / passed

    async def main(folder: str) -> None:
        app = RouterApp(Workspace(Path(folder), Settings(theme="dark")))
        engine = CountingEngine()
        async with app.run_test(size=(120, 40)) as pilot:
            job = make_job(BatchProcessor(app.workspace.checkpoints), count)
            assert job.checkpoint_file is not None
            run = Run(job, engine, RunOptions(workers=64))
            app.runs[job.job_id] = run
            await app.push_screen(RunScreen(job.checkpoint_file))
            await pilot.pause(2)  # all screens are imported behind the first one
            spare_collector()
            run.start()
            await pilot.pause(window)
            for number in range(PAIRS):
                times: dict[bool, Times] = {}
                for seen in (False, True) if number % 2 else (True, False):
                    await measured(engine, LEAD, seen=seen)
                    times[seen] = await measured(engine, window, seen=seen)
                if run.wait(0):
                    raise Skipped(f"{count:,} items are too few for this machine")
                found.append((times[False], times[True]))
            assert isinstance(app.screen, RunScreen)
            run.stop("now")
            await asyncio.to_thread(run.wait)

    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
            asyncio.run(main(folder))
    return found


def measure(quick: bool) -> list[Row]:
    """The median of the pairs: how many fewer items come of a second of the processor with the screen.

    Of the processor, as on a machine that others work on the clock tells more of them than of the screen.
    """
    try:
        import ai_router.tui.app
        import ai_router.tui.run.screen  # noqa: F401
    except ImportError as error:
        raise Skipped(f"no terminal application: {error}") from error
    count, runs, window = (60_000, 1, 0.01) if quick else (COUNT, RUNS, WINDOW)
    found: list[tuple[Times, Times]] = in_process(windows, count, runs, window)
    lost = [(1 - seen[1] / alone[1]) * 100 for alone, seen in found]
    by_clock = [(1 - seen[0] / alone[0]) * 100 for alone, seen in found]
    low, high = median_interval(lost)
    share = statistics.median(seen[2] for _, seen in found) * 100
    return [
        Row("run screen attached: items a processor second lost", f"< {TARGET:g} %", f"{statistics.median(lost):.1f} %",
            statistics.median(lost) < TARGET),
        Row(f"  95 % interval of the median, {len(lost)} pairs", f"< {TARGET:g} %", f"{low:.1f} … {high:.1f} %",
            high < TARGET),
        Row("  by the clock, which others' work moves", "",
            "{:.1f} ({:.1f} … {:.1f}) %".format(statistics.median(by_clock), *median_interval(by_clock)), None),
        Row("  the screens' thread, of one core", f"< {TARGET:g} %", f"{share:.1f} %", share < TARGET),
        Row("  items a second without it", "", f"{statistics.median(alone[0] for alone, _ in found):,.0f}", None),
    ]  # fmt: skip
