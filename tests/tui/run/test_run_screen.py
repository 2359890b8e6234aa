"""A job while it runs: what is shown, what the keys do, how it ends, how it is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import footer, on_screen, shown, until
from hypothesis import given, settings
from hypothesis import strategies as st
from pace_engine import PaceEngine, failing
from textual.pilot import Pilot

from ai_router import detaching, jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.menu import MenuScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.in_flight import ErrorsPanel, InFlightPanel, RecentPanel
from ai_router.tui.run.leave import StopDialog
from ai_router.tui.run.progress import ProgressPanel, bar
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.run.sparkline import SpeedPanel, chart, short, sparkline
from ai_router.tui.run.summary import SummaryPanel
from ai_router.tui.widgets.panel import rate, seconds, tail
from ai_router.tui.widgets.runs_strip import Running, RunsStrip, strip_line
from batch.checkpoint import CheckpointStore
from batch.errors import ErrorClass
from batch.job import BatchJob, BatchResult
from batch.options import RunOptions
from batch.running.live import Watch
from batch.running.progress import InFlight, RunState, Snapshot
from batch.running.run import Run

HOSTILE = "\x1b[31mred\x1b[0m \x1b]52;c;aGk=\x07 [bold]x[/] \x00 \u202eabc"
SNAPSHOT = Snapshot("1a2b3c4d", "demo", RunState.RUNNING, 1000, 0, 0, concurrency=8)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PaceEngine]:
    """The engine of every run in this test; it begins held."""
    made = PaceEngine(held=True)
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: made)
    yield made
    made.held = False


def new_job(workspace: Workspace, prompts: Sequence[str], **options: Any) -> BatchJob:
    plan = jobs.JobPlan("demo", run=RunOptions(**options), source="examples/questions.txt")
    return jobs.create_job(workspace, plan, prompts)


@asynccontextmanager
async def running(
    workspace: Workspace, job: BatchJob, size: tuple[int, int] = (140, 40)
) -> AsyncIterator[tuple[Pilot[int], RunScreen, Run]]:
    """The job runs and its screen is shown."""
    app = RouterApp(workspace)
    async with app.run_test(size=size, notifications=True) as pilot:
        run = app.start_run(job)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: screen.snapshot is not None)
        yield pilot, screen, run
        run.stop("now")
        await until(pilot, lambda: run.wait(0))


def state(screen: RunScreen) -> RunState | None:
    return screen.snapshot.state if screen.snapshot else None


async def in_flight(pilot: Pilot[int], screen: RunScreen, count: int) -> None:
    await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.in_flight == count)


# -- what is shown ------------------------------------------------------------------------------------------------


async def test_a_run_from_first_item_to_summary(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, [f"question {n}" for n in range(20)], workers=4)
    async with running(workspace, job) as (pilot, screen, _):
        await in_flight(pilot, screen, 4)
        await until(pilot, lambda: "An answer to: question 0" in shown(pilot.app))
        text = shown(pilot.app)
        assert "ai-router › Batch › questions.txt" in text
        assert "demo · torch · cpu fp32" in text
        assert "▶ running" in text and "ETA —" in text and "0.0%" in text
        assert "Errors by kind" not in text
        engine.held = False
        await until(pilot, lambda: state(screen) is RunState.FINISHED)
        await until(pilot, lambda: screen.details is not None and "✓ finished: 20 answers" in shown(pilot.app))
        text = shown(pilot.app)
        assert "100.0%" in text and "20/20" in text
        assert "20 done · 0 failed · 20 in all" in text
        await until(pilot, lambda: footer(pilot.app) == ["results", "export", "back", "help"])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(80, 24), (110, 30), (140, 40)])
async def test_what_all_would_come_to_is_whole_at_every_width(
    size: tuple[int, int], workspace: Workspace, engine: PaceEngine
) -> None:
    engine.held = False
    job = new_job(workspace, [f"question {n}" for n in range(2_000)])
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.start_run(job, first=7)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: screen.details is not None and screen.details.whole, 20)
        assert screen.details is not None
        words = screen.details.whole.split()
        assert words[:2] == ["cost", "unknown,"] and "2,000" in words and len(words) > 8
        await until(pilot, lambda: set(words) <= set(shown(app).split()), 20)


async def test_failures_are_counted_by_kind_and_can_be_retried(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    engine.fails = failing("longer than the context", every=3)
    job = new_job(workspace, [f"question {n}" for n in range(9)])
    async with running(workspace, job) as (pilot, screen, _):
        await until(pilot, lambda: state(screen) is RunState.FINISHED and screen.details)
        await until(pilot, lambda: "3  permanent" in screen.query_one(ErrorsPanel).text)
        assert "longer than the context" in screen.query_one(ErrorsPanel).text
        await until(pilot, lambda: "3 prompts of 9 failed" in shown(pilot.app))
        await until(pilot, lambda: "retry failed" in footer(pilot.app))  # type: ignore[arg-type]
        engine.fails = lambda item: None
        await pilot.press("t")
        await until(pilot, lambda: "finished: 9 answers" in shown(pilot.app))
        await until(pilot, lambda: not screen.query_one(ErrorsPanel).display)


async def test_transient_failures_show_as_retrying(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    engine.fails = failing("connection reset", ErrorClass.TRANSIENT)
    job = new_job(workspace, ["one"], retries=100)
    async with running(workspace, job) as (pilot, screen, _):
        await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.retrying == 1)
        await until(pilot, lambda: "waits for another try" in shown(pilot.app) or "try " in shown(pilot.app))


async def test_loading_is_said_while_it_lasts(workspace: Workspace, engine: PaceEngine) -> None:
    engine.loading = True
    job = new_job(workspace, ["one"])
    async with running(workspace, job) as (pilot, screen, _):
        await until(pilot, lambda: "loading model…" in screen.query_one(InFlightPanel).text)
        await until(pilot, lambda: "◌ starting" in shown(pilot.app))
        engine.loading = False
        await in_flight(pilot, screen, 1)


async def test_error_strategy_ends_with_its_reason_and_what_to_do(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    engine.fails = failing("bad")
    job = new_job(workspace, ["a", "b", "c"], workers=1, on_error="stop")
    async with running(workspace, job, (80, 24)) as (pilot, screen, _):
        await until(pilot, lambda: "stopped after 1 failure (stop)" in shown(pilot.app))
        text = shown(pilot.app)
        assert "✗ failed" in text and state(screen) is RunState.FAILED
        assert "2 prompts left" in text and "p resume" in text


async def test_hostile_text_is_never_obeyed(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    engine.answer_text = lambda text: HOSTILE
    engine.fails = lambda item: failing(HOSTILE)(item) if item.id == 1 else None
    job = new_job(workspace, [HOSTILE, HOSTILE])
    async with running(workspace, job, (200, 40)) as (pilot, screen, _):
        await until(pilot, lambda: state(screen) is RunState.FINISHED and screen.details)
        text = shown(pilot.app)
        assert "\x1b" not in text and "\x07" not in text and "\x00" not in text and "\u202e" not in text
        assert "[bold]x[/]" in text and "␛[31mred" in text


# -- steering -----------------------------------------------------------------------------------------------------


async def test_pause_and_go_on(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, [f"question {n}" for n in range(30)], workers=2)
    async with running(workspace, job) as (pilot, screen, _):
        await in_flight(pilot, screen, 2)
        await until(pilot, lambda: "pause" in footer(pilot.app))  # type: ignore[arg-type]
        await pilot.press("p")
        await until(pilot, lambda: state(screen) is RunState.PAUSED)
        engine.held = False
        await in_flight(pilot, screen, 0)
        done = screen.snapshot.processed if screen.snapshot else 0
        assert 0 < done < 30
        await until(pilot, lambda: "‖ paused" in shown(pilot.app))
        await until(pilot, lambda: "go on" in footer(pilot.app))  # type: ignore[arg-type]
        await pilot.pause(0.3)
        assert screen.snapshot is not None and screen.snapshot.processed == done
        await pilot.press("p")
        await until(pilot, lambda: state(screen) is RunState.FINISHED)


async def test_concurrency_changes_while_it_runs(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, [f"question {n}" for n in range(30)], workers=2)
    async with running(workspace, job) as (pilot, screen, _):
        await in_flight(pilot, screen, 2)
        await pilot.press("plus", "plus", "plus")
        await in_flight(pilot, screen, 5)
        await pilot.press("minus")
        await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.concurrency == 4)
        await pilot.press(*["minus"] * 6)
        await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.concurrency == 1)


async def test_stop_asks_how_and_draining_keeps_what_is_in_flight(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, [f"question {n}" for n in range(30)], workers=3)
    async with running(workspace, job) as (pilot, screen, _):
        await in_flight(pilot, screen, 3)
        await pilot.press("x")
        await on_screen(pilot, StopDialog)
        await until(pilot, lambda: "finish 3 prompts in flight" in shown(pilot.app))
        await pilot.press("c")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert state(screen) is RunState.RUNNING
        await pilot.press("x")
        await on_screen(pilot, StopDialog)
        await pilot.press("d")
        await until(pilot, lambda: state(screen) is RunState.DRAINING)
        engine.held = False
        await until(pilot, lambda: state(screen) is RunState.STOPPED)
        assert screen.snapshot is not None and screen.snapshot.processed == 3
        await until(pilot, lambda: "27 prompts left, nothing is lost" in shown(pilot.app))
        await pilot.press("p")  # resume
        await until(pilot, lambda: state(screen) is RunState.FINISHED)
        assert sorted(int(i) for i in engine.answered) == list(range(30))


async def test_stop_now_abandons_what_is_in_flight(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, ["a", "b", "c"], workers=2)
    async with running(workspace, job) as (pilot, screen, _):
        await in_flight(pilot, screen, 2)
        await pilot.press("x")
        await on_screen(pilot, StopDialog)
        await pilot.press("n")
        await until(pilot, lambda: state(screen) is RunState.STOPPED)
        await pilot.pause()
        assert "in flight   0   waiting 3" in " ".join(screen.query_one(ProgressPanel).text.split("\n"))


async def test_keys_that_make_no_sense_do_nothing(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    job = new_job(workspace, ["a"])
    async with running(workspace, job) as (pilot, screen, _):
        await until(pilot, lambda: state(screen) is RunState.FINISHED)
        await pilot.press("p", "x", "plus", "minus", "b", "t", "f", "z", "1", "backspace", "ctrl+k")
        await pilot.pause()
        assert pilot.app.screen is screen
        assert state(screen) is RunState.FINISHED


# -- leaving ------------------------------------------------------------------------------------------------------


async def test_leaving_lets_it_run_and_a_key_comes_back_from_anywhere(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, ["a", "b"], workers=1)
    async with running(workspace, job, (80, 24)) as (pilot, screen, run):
        await in_flight(pilot, screen, 1)
        assert not pilot.app.screen.query_one(RunsStrip).display  # it fills the screen
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        assert not run.wait(0)
        await until(pilot, lambda: "▶ " in shown(pilot.app) and "^b open" in shown(pilot.app))
        await pilot.press("ctrl+b")
        await on_screen(pilot, RunScreen)
        engine.held = False
        await until(pilot, lambda: run.wait(0))
        assert run.job.completed == 2
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await until(pilot, lambda: not pilot.app.screen.query_one(RunsStrip).display)


async def test_the_key_goes_from_run_to_run(workspace: Workspace, engine: PaceEngine) -> None:
    one, two = new_job(workspace, ["a"], workers=1), new_job(workspace, ["b"], workers=1)
    async with running(workspace, one, (80, 24)) as (pilot, screen, _):
        await in_flight(pilot, screen, 1)
        pilot.app.start_run(two)  # type: ignore[attr-defined]
        for wanted in (two, one):
            await pilot.press("ctrl+b")
            await until(pilot, lambda wanted=wanted: pilot.app.watched == wanted.checkpoint_file)  # type: ignore[attr-defined]
        engine.held = False


async def test_an_ended_job_is_left_without_a_question(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    async with running(workspace, new_job(workspace, ["a"])) as (pilot, screen, _):
        await until(pilot, lambda: state(screen) is RunState.FINISHED)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)


async def test_background_stops_here_and_goes_on_elsewhere(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, int]] = []

    def detach(at: Workspace, job: BatchJob, *args: Any) -> int:
        started.append((job.job_id, job.processed))
        return 4711

    monkeypatch.setattr(detaching, "detach", detach)
    job = new_job(workspace, ["a", "b"], workers=1)
    async with running(workspace, job) as (pilot, screen, run):
        await in_flight(pilot, screen, 1)
        await pilot.press("b")
        await until(pilot, lambda: started and not screen.busy)
        assert started == [(job.job_id, 0)]
        assert run.wait(0)
        assert isinstance(screen.handle, Watch)
        assert job.job_id not in pilot.app.runs  # type: ignore[attr-defined]


async def test_a_background_that_cannot_begin_leaves_the_job_resumable(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detach(*args: Any) -> int:
        raise OSError("no more processes")

    monkeypatch.setattr(detaching, "detach", detach)
    async with running(workspace, new_job(workspace, ["a"])) as (pilot, screen, _):
        await in_flight(pilot, screen, 1)
        await pilot.press("b")
        await until(pilot, lambda: state(screen) is RunState.STOPPED and not screen.busy)
        await until(pilot, lambda: "no more processes" in shown(pilot.app))
        engine.held = False
        await pilot.press("p")
        await until(pilot, lambda: state(screen) is RunState.FINISHED)


async def test_a_click_on_the_results_opens_them(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    async with running(workspace, new_job(workspace, ["a"])) as (pilot, screen, _):
        await until(pilot, lambda: state(screen) is RunState.FINISHED)
        await pilot.click(RecentPanel, offset=(4, 1))
        await on_screen(pilot, ResultsScreen)


# -- a job of another process -------------------------------------------------------------------------------------


async def test_a_job_of_another_process_is_watched_and_steered(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, [f"question {n}" for n in range(12)], workers=2)
    assert job.checkpoint_file is not None
    run = Run(job, engine, RunOptions(workers=2)).start()  # not one of the program's own
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        assert not screen.owned
        await in_flight(pilot, screen, 2)
        await until(pilot, lambda: "in process" in shown(app))
        await pilot.press("plus")
        await in_flight(pilot, screen, 3)
        await pilot.press("p")
        await until(pilot, lambda: state(screen) is RunState.PAUSED)
        await pilot.press("p")
        await until(pilot, lambda: state(screen) is RunState.RUNNING)
        await pilot.press("x")
        await on_screen(pilot, StopDialog)
        await pilot.press("n")
        await until(pilot, lambda: run.wait(0) and state(screen) is RunState.STOPPED)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)


async def test_a_checkpoint_that_vanishes_is_a_message(workspace: Workspace, engine: PaceEngine) -> None:
    job = new_job(workspace, ["a"])
    assert job.checkpoint_file is not None
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.open_run(job.checkpoint_file)
        await on_screen(pilot, RunScreen)
        job.checkpoint_file.unlink()
        await on_screen(pilot, ConfirmDialog)
        await until(pilot, lambda: "Try again" in shown(app))
        await pilot.press("escape", "escape")
        await on_screen(pilot, MenuScreen)


# -- standing still ------------------------------------------------------------------------------------------------


class _Fake:
    """A handle whose snapshot a test sets."""

    def __init__(self, job: BatchJob, snapshot: Snapshot) -> None:
        self.job, self.value = job, snapshot

    def snapshot(self) -> Snapshot:
        return self.value

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@asynccontextmanager
async def standing(workspace: Workspace, size: tuple[int, int]) -> AsyncIterator[tuple[Pilot[int], RunScreen]]:
    job = new_job(workspace, ["a"])
    app = RouterApp(workspace)
    app.handle_of = lambda path: _Fake(job, SNAPSHOT)  # type: ignore[method-assign, assignment, return-value]
    async with app.run_test(size=size) as pilot:
        app.open_run(Path("somewhere.db"))
        yield pilot, await on_screen(pilot, RunScreen)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_labels_stand_still_while_figures_grow(workspace: Workspace, size: tuple[int, int]) -> None:
    async with standing(workspace, size) as (_, screen):
        places = []
        for done, failed, eta, tokens in ((0, 0, None, 0), (9, 1, 5.0, 120), (640, 99, 3000.0, 999_999)):
            snapshot = replace(
                SNAPSHOT, completed=done, failed=failed, eta=eta, in_flight=min(8, done), tokens_output=tokens,
                tokens_per_second=tokens / 10, items_per_second=done / 10, elapsed=float(done), saved_ago=done / 100,
                latency_p50=done / 100 or None, latency_p95=done / 50 or None,
            )  # fmt: skip
            screen.show(snapshot)
            text = screen.query_one(ProgressPanel).text + screen.query_one(SpeedPanel).text
            words = ("failed", "in flight", "waiting", "retrying", "elapsed", "last saved", "ETA", "items/s", "p95")
            places.append([text.index(word) for word in words])
        assert places[0] == places[1] == places[2]


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (100, 30), (140, 40), (200, 50)])
async def test_every_size_shows_bar_results_and_keys(workspace: Workspace, size: tuple[int, int]) -> None:
    results = tuple(BatchResult(n, f"日本語の質問 {n}", f"答え {n}", 1, 2, 0.5) for n in range(40))
    flying = tuple(InFlight(n, f"question {n}", "an answer that grows", 1.0) for n in range(40, 48))
    snapshot = replace(
        SNAPSHOT, completed=40, in_flight=8, items=flying, recent=results, errors=(("permanent: too long", 3),)
    )
    async with standing(workspace, size) as (pilot, screen):
        screen.handle.value = snapshot  # type: ignore[union-attr]
        screen.tick(at_once=True)
        await pilot.pause()
        text = shown(pilot.app)
        assert "4.0%" in text and "✓ " in text and "p pause" in text
        assert "日本" in text
        for line in text.splitlines():
            assert len(line) <= size[0]


def test_bar_counts_in_half_cells_and_is_full_only_at_the_end() -> None:
    assert bar(10, 0, 0, 100).plain == "─" * 10
    assert bar(10, 1, 0, 100).plain == "╸" + "─" * 9
    assert bar(10, 55, 0, 100).plain == "━━━━━╸────"
    assert bar(10, 99, 0, 100).plain == "━━━━━━━━━╸"
    assert bar(10, 90, 10, 100).plain == "━" * 10
    assert bar(10, 0, 0, 0).plain == "─" * 10
    spans = [(span.start, span.end, str(span.style)) for span in bar(10, 50, 50, 100).spans]
    assert (5, 10, "$error") in spans


def test_percent_is_rounded_down() -> None:
    panel = ProgressPanel()
    panel.snapshot = replace(SNAPSHOT, total=100_000, completed=99_999)
    assert "99.9%" in panel.lines(100, 2)[0].plain


def test_sparkline_and_chart() -> None:
    assert sparkline([0, 1, 2, 4], 6) == "  ▁▃▅█"
    assert sparkline([], 3) == "   "
    assert sparkline([0, 0], 3) == " ▁▁"
    assert sparkline([1.0] * 100, 5) == "█████"
    assert chart([0, 4, 8], 4, 2) == ["   █", "  ██"]
    assert chart([0.001, 8], 2, 2) == [" █", "▁█"]
    assert chart([1], 0, 2) == ["", ""]


def test_figures() -> None:
    assert [seconds(v) for v in (None, 0.04, 12.34, 154.2, 3700)] == ["—", "0.0 s", "12.3 s", "154 s", "1h 01m"]
    assert [rate(v) for v in (0, 0.423, 21.44, 1284.4)] == ["—", "0.42", "21.4", "1,284"]
    assert [short(n) for n in (999, 9_999_999, 12_345_678, 12_345_678_901)] == ["999", "9,999,999", "12.3 M", "12.3 G"]


def test_tail_keeps_the_end_by_cells() -> None:
    assert tail("short", 8) == "short   "
    assert tail("a long answer", 8) == "… answer"
    assert tail("日本語の文章", 7) == "…の文章"
    assert tail("x" * 10_000 + "\x1b[0m", 6) == "…x␛[0m"
    assert tail("abc", 0) == ""


async def test_results_of_an_ended_job_come_from_its_checkpoint(workspace: Workspace, engine: PaceEngine) -> None:
    engine.held = False
    engine.fails = failing("too long", every=2)
    job = new_job(workspace, ["a", "b", "c"])
    assert Run(job, engine, RunOptions()).start().wait(90)
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        assert store.counts() == (1, 2)
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_run(job.checkpoint_file)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "An answer to: b" in screen.query_one(RecentPanel).text)
        await until(pilot, lambda: "2  permanent" in screen.query_one(ErrorsPanel).text)


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(
        st.sampled_from(["a", HOSTILE, "日本語のとても長い名前のファイル.jsonl", "x" * 99]), min_size=1, max_size=6
    ),
    done=st.integers(0, 1000),
    width=st.integers(1, 160),
    waiting=st.integers(0, 12),
)
def test_the_line_of_running_jobs_fits_and_cuts_no_number(
    names: list[str], done: int, width: int, waiting: int
) -> None:
    snapshot = replace(SNAPSHOT, completed=done, failed=1000 - done, eta=75.0, items_per_second=12.5)
    line = strip_line([Running(Path(name), name, snapshot) for name in names], waiting, width)
    assert line.cell_length <= width
    assert line.plain.isprintable()
    if width > 40:
        assert "▶" in line.plain and line.plain.endswith("^b open")


@given(st.integers(12, 140))
@settings(max_examples=30, deadline=None)
def test_the_summary_of_a_run_says_figures_and_keys_whole_or_not_at_all(width: int) -> None:
    panel = SummaryPanel()
    over = replace(
        SNAPSHOT,
        state=RunState.FINISHED,
        completed=953,
        failed=47,
        tokens_input=123_456,
        tokens_output=98_765,
        elapsed=75.0,
    )
    panel.snapshot = over
    *figures, keys = [line.plain for line in panel.lines(width, 20)[1:]]
    said = ["953 done", "47 failed", "1,000 in all", "123,456 in", "98,765 out", "1m 15s", "13.3 items/s",
            "1,317 tok/s on average"]  # fmt: skip
    for line in figures:
        assert not line or width < 26 or set(line[11:].split(" · ")) <= set(said), line
    assert (
        set(keys.split("   ")) <= {"enter read the results", "f see failures", "t retry them", "e export"} or width < 22
    )


async def test_what_a_choice_means_goes_on_below_itself(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(40, 24)) as pilot:
        app.push_screen(StopDialog(6))
        await until(pilot, lambda: "Stop this job?" in shown(app))
        lines = [line.strip("│ ").rstrip() for line in shown(app).splitlines()]
        at = next(at for at, line in enumerate(lines) if line.startswith("Now "))
        column = shown(app).splitlines()[at].index("stop;")
        assert shown(app).splitlines()[at + 1][:column].strip("│ ") == "" and lines[at + 1]
