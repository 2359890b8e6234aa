"""What a million rows take to look at: to open, to go through, to sort and to search."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ai_router.settings import Settings, Workspace
from batch import BatchProcessor, Run
from batch.engines.desk import Desk
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import RunOptions
from benchmarks.common import ANSWER, InstantEngine, Row, Skipped, in_process, make_job

TARGET = 1.0  # seconds
SORTED_BY = ("class", "model", "tokens")  # the first columns of the list after the number
HIT, HIT_TARGET = "first hit", 0.3  # seconds
PATIENCE = 120.0  # seconds


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


def answered(folder: str, count: int) -> Path:
    """The checkpoint of a job of so many items that is over, in a workspace in this folder."""
    job = make_job(BatchProcessor(Workspace(Path(folder), Settings()).checkpoints), count)
    Run(job, VariedEngine(), RunOptions(workers=64)).execute()
    assert job.checkpoint_file is not None
    return job.checkpoint_file


def rows(folder: str, checkpoint: Path, count: int) -> dict[str, float]:  # noqa: C901, PLR0915 - one tour
    """Seconds to open the results of such a job, to go to the last row, to sort, and to find texts."""
    from textual import events
    from textual.widgets import Input

    from ai_router.tui.app import RouterApp
    from ai_router.tui.results.screen import ResultsScreen
    from batch.checkpoint.texts import open_index

    async def main() -> dict[str, float]:  # noqa: C901, PLR0915
        times: dict[str, float] = {}
        app = RouterApp(Workspace(Path(folder), Settings(theme="dark", bell=False)))
        drawn = 0.0
        display = app._display

        def displayed(*args: Any, **kwargs: Any) -> None:
            nonlocal drawn
            display(*args, **kwargs)
            drawn = time.perf_counter()

        app._display = displayed  # type: ignore[method-assign]
        async with app.run_test(size=(140, 40)) as pilot:
            await pilot.pause(0.5)

            async def until(name: str, done: Callable[[], object]) -> None:
                """From now to the frame after something holds."""
                start = time.perf_counter()
                async with asyncio.timeout(PATIENCE):
                    while not done():
                        await asyncio.sleep(0.002)
                    seen = time.perf_counter()
                    while drawn < seen and time.perf_counter() - seen < 1:
                        await asyncio.sleep(0.002)
                times[name] = max(seen, drawn) - start

            def screen() -> Any:
                return app.screen

            def row(index: int) -> object:
                there = isinstance(app.screen, ResultsScreen) and app.screen.is_mounted and app.screen.query("#results")
                return there and screen().table.count == count and screen().table.row(index)

            def press(key: str) -> None:
                app.post_message(events.Key(key, {"enter": "\r"}.get(key, key)))

            async def find(name: str, text: str) -> None:
                screen().action_search()
                screen().query_one("#results-search", Input).value = f'"{text}"'
                await pilot.pause(0.5)
                press("enter")
                await until(name, lambda: screen().words == (text,) and screen().table.count and screen().table.row(0))
                while screen().filter_text:  # the first one only ends the search for others, where that goes on
                    await pilot.press("escape")
                while not row(0):
                    await pilot.pause(0.1)

            app.open_results(checkpoint)
            await until("open", lambda: row(0))
            press("G")
            await until("last row", lambda: screen().table.cursor == count - 1 and row(count - 1))
            await pilot.press("g")
            for by in SORTED_BY:
                press("s")
                await until(f"sort by {by}", lambda by=by: screen().order.by == by and row(0))  # type: ignore[misc]
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(open_index, checkpoint) is None:
                    await asyncio.sleep(0.2)
            rare = f"item {count - 9}"
            await find(f"{HIT}, sorted: one row", rare)
            while not screen().order.natural:
                await pilot.press("s")
                await pilot.pause(0.5)
            await find(f"{HIT}, unsorted: one row", rare)
            await find(f"{HIT}, unsorted: all rows", "explain")
        return times

    return asyncio.run(main())


def made_and_looked_at(count: int) -> dict[str, float]:
    """Both, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="ai-router-bench-", ignore_cleanup_errors=True) as folder:
        return rows(folder, answered(folder, count), count)


def measure(quick: bool) -> list[Row]:
    """One job, one after the other."""
    try:
        import ai_router.tui.app  # noqa: F401
    except ImportError as error:
        raise Skipped(f"no terminal application: {error}") from error
    count = 60_000 if quick else 1_000_000
    seconds = in_process(made_and_looked_at, count)
    return [
        Row(f"{count:,} rows: {name}", f"< {target:g} s", f"{value:.2f} s", value < target)
        for name, value in seconds.items()
        for target in [HIT_TARGET if name.startswith(HIT) else TARGET]
    ]
