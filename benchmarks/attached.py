"""What the run screen costs a run: the same job with the screen attached and without, in alternation."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path

from batch import BatchProcessor, Run
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, Skipped, in_process, make_job, median_interval

TARGET = 3.0
COUNT, PAIRS = 60_000, 15  # many short runs: the machine is another one from minute to minute, which long ones hide


Times = tuple[float, float]  # seconds by the clock, seconds of processor time


def freeze() -> None:
    """What `ai_router.jobs.start` does in a process of one run; here for each run anew."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def alone(folder: str, count: int) -> Times:
    """Without a screen, in a thread as the screen would have it."""
    job = make_job(BatchProcessor(folder), count)
    freeze()
    start, busy = time.perf_counter(), time.process_time()
    run = Run(job, InstantEngine(), RunOptions(workers=64)).start()
    run.wait()
    assert job.completed == count
    return time.perf_counter() - start, time.process_time() - busy


def watched(folder: str, count: int) -> Times:
    """With the app headless and its run screen open on the job before it starts."""
    from ai_router.settings import Settings, Workspace
    from ai_router.tui.app import RouterApp
    from ai_router.tui.run.screen import RunScreen

    async def main() -> Times:
        app = RouterApp(Workspace(Path(folder), Settings(theme="dark")))
        async with app.run_test(size=(120, 40)) as pilot:
            job = make_job(BatchProcessor(folder), count)
            assert job.checkpoint_file is not None
            run = Run(job, InstantEngine(), RunOptions(workers=64))
            app.runs[job.job_id] = run
            await app.push_screen(RunScreen(job.checkpoint_file))
            await pilot.pause()
            freeze()
            start, busy = time.perf_counter(), time.process_time()
            run.start()
            await asyncio.to_thread(run.wait)
            times = time.perf_counter() - start, time.process_time() - busy
            assert job.completed == count and isinstance(app.screen, RunScreen)
        return times

    return asyncio.run(main())


def pairs(count: int, rounds: int) -> list[tuple[Times, Times]]:
    """Alone and watched, in the order ABBA, after one of each to warm up; each in a folder of its own."""
    found = []
    for number in range(rounds + 1):
        order = (alone, watched) if number % 2 else (watched, alone)
        times: dict[str, Times] = {}
        for measured in order:
            with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
                times[measured.__name__] = measured(folder, count)
        found.append((times["alone"], times["watched"]))
    return found[1:]


def measure(quick: bool) -> list[Row]:
    """The median of the pairs: how much lower items a second are with the screen."""
    try:
        import ai_router.tui.app
        import ai_router.tui.run.screen  # noqa: F401
    except ImportError as error:
        raise Skipped(f"no terminal application: {error}") from error
    measured = in_process(pairs, 2_000 if quick else COUNT, 1 if quick else PAIRS)
    by_clock, by_processor = ([(1 - a[i] / b[i]) * 100 for a, b in measured] for i in (0, 1))
    cost = statistics.median(by_clock)
    return [
        Row("run screen attached: throughput lost", f"< {TARGET:g} %", f"{cost:.1f} %", cost < TARGET),
        *(
            Row(
                f"  95 % interval{of}, {len(values)} pairs",
                "",
                "{:.1f} … {:.1f} %".format(*median_interval(values)),
                None,
            )
            for of, values in (("", by_clock), (" in processor time", by_processor))
        ),
        Row("  in processor time", "", f"{statistics.median(by_processor):.1f} %", None),
    ]
