"""No layout ends the program, at any size down to 20×6: every place of the table, every size, sent through one app."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from driving import on_screen, shown, styled_as_by_textual, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pace_engine import PaceEngine
from rich.cells import cell_len
from stored import JAPANESE, NASTY, make_dataset_job, make_job
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.screen import ModalScreen

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.places import PLACES
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.in_flight import ErrorsPanel, InFlightPanel, RecentPanel
from ai_router.tui.run.progress import ProgressPanel
from ai_router.tui.run.sparkline import SpeedPanel
from ai_router.tui.run.summary import SummaryPanel
from ai_router.tui.semantic.screen import SemanticIdsScreen
from ai_router.tui.tour import TourDialog
from ai_router.tui.widgets.runs_strip import RunsStrip
from batch.job import BatchResult
from batch.running.progress import InFlight, RunState, Snapshot

SIZES = [(140, 6), (20, 6), (42, 10), (20, 40)]
MORE_SIZES = [(109, 31), (23, 7)]  # gone through by the slow tests
NUMBER = re.compile(r"[0-9][0-9,.]*")
OTHERS = [name for name, place in PLACES.items() if not place.of_job]
OF_JOB = ["run", "results", "failures", "evaluation", "export", "picture"]


async def through_all_sizes(app: RouterApp, pilot: Pilot[Any], sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """Every size; what is drawn has its width."""
    screen = app.screen
    for width, height in sizes:
        await pilot.resize_terminal(width, height)
        await until(pilot, lambda width=width: all(cell_len(line) <= width for line in shown(app).splitlines()))
        await pilot.pause()
        assert app.screen is screen and app.return_code is None
        lines = shown(app).splitlines()
        assert len(lines) <= height and all(cell_len(line) <= width for line in lines)


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """A job with known answers, long and short texts, failures and gaps."""
    texts = [
        (NASTY, JAPANESE, JAPANESE, "x"),
        ("a " * 400, "b", None, None),
        ("e", "f", "f", "y"),
        ("g", "h", "", ""),
    ]
    make_job(workspace.checkpoints, [JAPANESE, NASTY, "three"], {0: "x" * 999, 1: None})
    return make_dataset_job(workspace.checkpoints, texts, job_id="12345678", pending=[3])


@pytest.mark.parametrize("sizes", [SIZES, pytest.param(MORE_SIZES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", [*OTHERS, *OF_JOB])
async def test_no_place_ends_the_program(
    workspace: Workspace, path: Path, place: str, sizes: list[tuple[int, int]]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        app.go(place, *([path] if PLACES[place].of_job else []))
        await until(pilot, lambda: len(app.screen_stack) > 2 or place == "home")
        await pilot.pause(0.1)
        styled_as_by_textual(app)
        await through_all_sizes(app, pilot, sizes)
        styled_as_by_textual(app)


@pytest.mark.parametrize("size", [(20, 6), (42, 12), (30, 40)])
async def test_a_run_may_begin_at_any_size(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    engine = PaceEngine(held=True)
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        job = jobs.create_job(workspace, jobs.JobPlan("demo"), [JAPANESE, NASTY] * 20)
        run = app.start_run(job)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        await until(pilot, lambda: run.snapshot().in_flight)
        await pilot.pause(0.2)
        await through_all_sizes(app, pilot)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ModalScreen))
        await through_all_sizes(app, pilot, SIZES[1:3])
        await pilot.press("escape", "escape")  # and below the line that says it runs
        await until(pilot, lambda: app.screen.query_one(RunsStrip).display)
        await through_all_sizes(app, pilot, SIZES[1:3])
        engine.held = False
        run.stop("now")
        run.wait()


async def test_what_lies_over_or_beside_a_screen_has_room_at_any_size(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: screen.table.count)
        await pilot.press("K", "z")  # keys beside, one pane alone
        await through_all_sizes(app, pilot, SIZES[:3])
        await pilot.press("z", "b")
        for key in ("f1", "ctrl+w"):
            await pilot.press(key)
            await until(pilot, lambda: app.screen is not screen)
            await through_all_sizes(app, pilot, SIZES[:3])
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
        app.action_tour()
        await on_screen(pilot, TourDialog)
        await through_all_sizes(app, pilot, SIZES[:3])


async def test_the_field_one_is_in_stays_in_sight(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.go("semantic")
        screen = await on_screen(pilot, SemanticIdsScreen)
        screen.query_one("#field-parquet ChoiceLine").focus()
        for size in ((40, 12), (80, 24), (20, 6)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: "parquet" in shown(app))


def counts() -> st.SearchStrategy[int]:
    """Small, and as long as they get."""
    return st.one_of(st.integers(0, 99), st.integers(0, 10**9))


@st.composite
def snapshots(draw: st.DrawFn) -> Iterator[Snapshot]:
    """Any moment of any run."""
    total = draw(st.integers(1, 10**9))
    completed = draw(st.integers(0, total))
    failed = draw(st.integers(0, total - completed))
    texts = st.sampled_from(["", "a", JAPANESE * 9, NASTY, "👩‍👩‍👧‍👦 family", "नमस्ते", "word " * 300])
    items = tuple(
        InFlight(index, draw(texts), draw(texts), draw(st.floats(0, 1e6)), draw(st.integers(1, 12)))
        for index in range(draw(st.integers(0, 3)))
    )
    result = BatchResult(total - 1, draw(texts), draw(texts), tokens_output=draw(counts()), success=draw(st.booleans()))
    return Snapshot(  # type: ignore[return-value]
        "1a2b3c4d",
        draw(texts) or "demo",
        draw(st.sampled_from(RunState)),
        total,
        completed,
        failed,
        in_flight=draw(st.integers(0, 10**6)),
        items=items,
        recent=(result,) * draw(st.integers(0, 2)),
        elapsed=draw(st.floats(0, 1e7)),
        items_per_second=draw(st.floats(0, 1e6)),
        tokens_per_second=draw(st.floats(0, 1e7)),
        tokens_output=draw(counts()),
        errors=((f"transient: {draw(texts)}", draw(counts())),) * draw(st.integers(0, 2)),
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(snapshot=snapshots(), width=st.integers(1, 140), height=st.integers(1, 12))
def test_panels_of_a_run_draw_any_moment_at_any_width(snapshot: Snapshot, width: int, height: int) -> None:
    """No line is wider than its panel, and a number stands whole or its line says that it is cut."""
    progress, speed, flight, recent = ProgressPanel(), SpeedPanel(), InFlightPanel(), RecentPanel()
    summary, errors = SummaryPanel(), ErrorsPanel()
    progress.snapshot = speed.snapshot = flight.snapshot = recent.snapshot = summary.snapshot = snapshot
    recent.results, errors.errors = snapshot.recent, snapshot.errors
    for panel in (progress, speed, flight, recent, summary, errors):
        whole = {number for line in panel.lines(1000, height) for number in NUMBER.findall(line.plain)}
        for line in panel.fitted(width, height):
            assert line.cell_length <= width, (type(panel).__name__, line.plain)
            if panel in (progress, speed) and not line.plain.rstrip().endswith("…"):
                assert set(NUMBER.findall(line.plain)) <= whole | known(snapshot), line.plain


def known(snapshot: Snapshot) -> set[str]:
    """The numbers that a line by signs may hold."""
    over = snapshot.state.over
    flying = 0 if over else snapshot.in_flight
    waiting = max(0, snapshot.total - snapshot.processed - flying - (0 if over else snapshot.retrying))
    return {
        f"{n:,}" for n in (snapshot.completed, snapshot.failed, flying, waiting, snapshot.processed, snapshot.total)
    }


@pytest.mark.parametrize(("size", "classes"), [((80, 24), {"-narrow", "-short"}), ((140, 40), {"-wide", "-tall"})])
async def test_the_first_frame_has_the_layout_of_its_size(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], classes: set[str]
) -> None:
    seen: list[frozenset[str]] = []
    compose = JobsScreen.compose_body

    def watched(self: JobsScreen) -> ComposeResult:
        seen.append(self.classes)
        return compose(self)

    monkeypatch.setattr(JobsScreen, "compose_body", watched)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.go("jobs")
        await on_screen(pilot, JobsScreen)
        assert classes <= seen[0] and {"-narrow", "-short", "-wide", "-tall"} & app.screen.classes == classes
