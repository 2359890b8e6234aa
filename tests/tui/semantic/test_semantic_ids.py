"""The screens of semantic IDs: choose models, watch them run in turn, read what came out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from driving import footer, on_screen, shown, type_text, until
from textual.widgets import Input

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2] / "semantic_ids"))

from small_city import NYC, TKY, make_city, make_model

from ai_router import semantic_jobs
from ai_router.kinds.semantic_ids import KIND
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.menu import MenuScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.semantic.result import FiguresPanel, SemanticResultScreen, UsePanel
from ai_router.tui.semantic.screen import SemanticIdsScreen
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.form import YES
from ai_router.tui.widgets.table import VirtualTable
from batch.checkpoint import CheckpointStore
from batch.engines.desk import Desk
from batch.job import BatchJob
from batch.options import RunOptions
from batch.running.run import Run
from batch.semantic_ids import CodebookOptions, FolderHub
from batch.semantic_ids.blocks import open_core
from batch.semantic_ids.hub import UnreachableError
from batch.semantic_ids.task import prepare

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("within_this_process")]
SIZES = [(80, 24), (140, 40)]


class LocalEngine:
    """The real core, in this process: what hosts it is under test elsewhere."""

    name = "local"
    status = "ready"
    about: Mapping[str, Any] = {}

    def __init__(self, job: BatchJob, fail: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self._core = open_core(job.config["details"], None, None)  # type: ignore[arg-type]
        self._fail = fail

    async def answer(self, items: Any, desk: Desk) -> Any:
        async for item in items:
            if item.id in self._fail:
                return
            self._core.submit(item)
            for response in self._core.step():
                yield response

    def partial_texts(self) -> dict[Any, str]:
        return {}

    async def close(self) -> None:
        self._core.close()


def stored_job(workspace: Workspace, city: Path, model: str = NYC, until_block: int = 99, rows: int = 20) -> Path:
    """A job that was run in this process, up to a block."""
    task = prepare(model, FolderHub(city), CodebookOptions(block_rows=rows))
    job = semantic_jobs.create_job(workspace, task)
    Run(job, LocalEngine(job, set(range(until_block, 99))), RunOptions(workers=1)).start().wait(90)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return make_city(tmp_path / "city")


@pytest.mark.parametrize("size", SIZES)
async def test_models_are_checked_before_they_are_chosen(
    workspace: Workspace, city: Path, size: tuple[int, int], golden: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (city / "datasets/TKY/Intermediate Files/pid_mapping.csv").write_text("Original_Pid,Mapped_Pid\n1,1\n2,1\n")
    monkeypatch.setattr("ai_router.tui.semantic.screen.home", lambda path: "~/city")
    monkeypatch.chdir(city.parent)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        await type_text(pilot, "city")
        await pilot.press("enter")
        await until(pilot, lambda: screen.entries and not screen.working("look"))
        assert [(entry.name, entry.chosen) for entry in screen.entries] == [(NYC, True), (TKY, False)]
        await pilot.press("down")
        await pilot.pause()
        for entry in screen.entries:  # where this test lies is no part of the picture
            entry.problem = entry.problem.replace(f"{city.resolve()}/", "").replace(f"{city}/", "")
        screen.query_one(VirtualTable).set_count(2)
        screen._say_what()
        await pilot.pause()
        golden(app, "semantic-choose")
        assert "why not" in footer(app) and "choose" not in footer(app)
        screen.form.fields["suffix"].query_one("ChoiceLine").focus()
        await until(
            pilot, lambda: "suffix: number the Pids that share a SID, as in GNPR: a 4th code 0, 1, 2 …" in shown(app)
        )
        screen.query_one(VirtualTable).focus()
        await until(pilot, lambda: "suffix: number" not in shown(app))
        await pilot.press("space")
        assert not screen.entries[1].chosen
        await pilot.press("up", "space")
        assert not screen.chosen and "start" not in footer(app)


async def test_the_hub_shows_the_ten_models_and_groups_choose_among_them(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        await until(pilot, lambda: len(screen.entries) == 10)
        assert len(screen.chosen) == 10
        screen.query_one("#group").focus()
        await pilot.press("3")
        await pilot.pause()
        assert [entry.dataset for entry in screen.chosen] == ["TKY"] * 5
        assert "5 of 10 chosen" in shown(app) and "huggingface.co" in shown(app)


async def test_a_folder_that_is_not_there_says_so(workspace: Workspace, tmp_path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        await type_text(pilot, "nowhere")
        await pilot.press("enter")
        await until(pilot, lambda: "There is no folder" in shown(app))
        (tmp_path / "work" / "empty").mkdir()
        screen.query_one("#place").value = "empty"  # type: ignore[attr-defined]
        await until(pilot, lambda: "No models here." in shown(app))


async def test_nothing_of_the_place_before_can_be_started(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    gate = threading.Event()

    def prepare_slowly(model: str, hub: object, options: object = None) -> None:
        asked.append(model)
        gate.wait(90)
        raise UnreachableError("huggingface.co cannot be reached")

    monkeypatch.setattr("ai_router.tui.semantic.screen.prepare", prepare_slowly)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        await until(pilot, lambda: len(screen.chosen) == 10)
        await pilot.press("x")
        assert screen.entries == [] and "start" not in footer(app)
        await pilot.press("backspace")
        await until(pilot, lambda: len(screen.chosen) == 10)
        await pilot.press("f2")
        await until(pilot, lambda: "fetching 1/10" in shown(app))
        gate.set()  # one that cannot be reached is not asked ten times
        await until(pilot, lambda: not screen.busy)
        assert len(asked) == 1
        assert any("cannot be reached" in note.message for note in app._notifications)
        gate.clear()
        await pilot.press("f2")
        await until(pilot, lambda: len(asked) == 2)
        await pilot.press("escape")  # what is fetched can be left
        await on_screen(pilot, MenuScreen)
        gate.set()
    assert not workspace.checkpoints.exists() or not list(workspace.checkpoints.glob("*.db"))


async def test_chosen_models_run_in_turn_and_their_files_are_written(workspace: Workspace, city: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 32)) as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        screen.form.fields["block_rows"].value = 25
        screen.query_one("#place").value = str(city)  # type: ignore[attr-defined]
        await until(pilot, lambda: len(screen.chosen) == 2)
        await pilot.press("f2")
        await until(pilot, lambda: len(app.runs) == 2 and not app.live_runs(), 60)
        _, last = app.runs.values()
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.path == last.job.checkpoint_file)
        await until(pilot, lambda: "finished: 60 rows" in shown(app))
        assert "60/60" in shown(app) and "rows/s" in shown(app) and "tok" not in shown(app)
        files = [workspace.outputs / f"codebooks-{name}.csv" for name in (NYC, TKY)]
        await until(pilot, lambda: all(file.is_file() for file in files), 60)
        await pilot.press("enter")
        result = await on_screen(pilot, SemanticResultScreen)
        await until(pilot, lambda: result.outcome is not None)
        await pilot.press("escape", "escape")
        await on_screen(pilot, MenuScreen)


async def test_stopping_one_leaves_the_others_for_later(workspace: Workspace, tmp_path: Path) -> None:
    city = make_city(tmp_path / "large", rows=20_000)
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 32)) as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        screen.form.fields["block_rows"].value = 1
        screen.query_one("#place").value = str(city)  # type: ignore[attr-defined]
        await until(pilot, lambda: len(screen.chosen) == 2)
        await pilot.press("f2")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.completed > 0, 60)
        assert app.turns.waiting == 1
        next(iter(app.runs.values())).stop("now")
        await until(pilot, lambda: app.turns.waiting == 0)
        await until(pilot, lambda: any("1 job not begun" in note.message for note in app._notifications))
        assert len(app.runs) == 1


async def test_a_model_that_does_not_fit_fails_and_the_next_one_runs(workspace: Workspace, city: Path) -> None:
    make_model(city / "models" / NYC / "rqvae_best.pt", 13)
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 32)) as pilot:
        await pilot.press("6")
        screen = await on_screen(pilot, SemanticIdsScreen)
        screen.query_one("#place").value = str(city)  # type: ignore[attr-defined]
        await until(pilot, lambda: len(screen.chosen) == 2)
        await pilot.press("f2")
        await until(pilot, lambda: len(app.runs) == 2 and not app.live_runs(), 60)
        reasons = {run.job.model_id: run.job.reason for run in app.runs.values()}
        assert "takes 13" in str(reasons[NYC]) and reasons[TKY] is None
        assert app.turns.waiting == 0


@pytest.mark.parametrize("size", SIZES)
async def test_counts_codebook_use_and_sids(
    workspace: Workspace, city: Path, size: tuple[int, int], golden: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("batch.processor.new_job_id", lambda: "abcd1234")
    path = stored_job(workspace, city)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, SemanticResultScreen)
        await until(pilot, lambda: screen.outcome is not None)
        await pilot.pause()
        golden(app, "semantic-result")
        assert screen.outcome is not None
        collided = screen.outcome.report.collisions.collided_items
        await pilot.press("f")
        await pilot.pause()
        assert screen.query_one(VirtualTable).count == collided and "share a SID" in shown(app)
        await pilot.press("f", "end")
        await pilot.pause()
        assert screen.query_one(VirtualTable).cursor == 59
        await pilot.press("number_sign", "7", "enter")
        await until(pilot, lambda: screen.query_one(VirtualTable).cursor == 6)
        await pilot.press("b")
        blocks = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "rows 0–19" in shown(app))
        await pilot.press("escape")
        await on_screen(pilot, SemanticResultScreen)
        assert blocks is not app.screen


async def test_a_job_that_is_half_done_shows_what_is_there(workspace: Workspace, city: Path) -> None:
    path = stored_job(workspace, city, until_block=2)
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 32)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, SemanticResultScreen)
        await until(pilot, lambda: screen.outcome is not None)
        await pilot.press("end")
        await until(pilot, lambda: "◌ not encoded yet" in shown(app))
        assert "40 of 60" in screen.query_one(FiguresPanel).text
        assert "not done       1 block of rows" in screen.query_one(FiguresPanel).text
        assert "level a" in screen.query_one(UsePanel).text
        assert "run" in footer(app)
        await pilot.press("r")
        await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "finished: 60 rows" in shown(app), 60)


async def test_progress_is_counted_in_rows(workspace: Workspace, city: Path) -> None:
    path = stored_job(workspace, city, until_block=2, rows=25)  # 25, 25, and 10 to come
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 32)) as pilot:
        app.open_run(path)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: screen.snapshot is not None)
        assert screen.snapshot is not None
        assert (screen.snapshot.total, screen.snapshot.completed, screen.snapshot.failed) == (60, 50, 0)
        assert "10 rows left" in shown(app)


def test_rows_are_exact_whichever_block_is_missing(workspace: Workspace, city: Path) -> None:
    path = stored_job(workspace, city, until_block=1, rows=25)
    with CheckpointStore(path) as store:
        job = store.job()
    from batch.running.progress import RunState, job_snapshot

    for blocks, rows, failed, total in ((1, 10, 0, 0), (2, 35, 0, 0), (2, 35, 1, 25), (3, 60, 0, 0)):
        job.completed, job.failed, job.tokens_input = blocks, failed, rows
        seen = KIND.counted(job_snapshot(job, RunState.STOPPED), job.config["details"])
        assert (seen.total, seen.completed, seen.failed) == (60, rows, total)


async def test_files_are_written_on_request_and_that_is_shown(
    workspace: Workspace, city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored_job(workspace, city)
    gate, asked = threading.Event(), []

    def export(at: Workspace, checkpoint: Path) -> tuple[list[Path], str]:
        asked.append(checkpoint)
        gate.wait(90)
        return [], "The disk is full: codebooks-x.csv was not written"

    monkeypatch.setattr("ai_router.detaching.export_elsewhere", export)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, SemanticResultScreen)
        await until(pilot, lambda: "not written, e writes it" in shown(app))
        await pilot.press("e", "e")
        await until(pilot, lambda: "being written: " in shown(app))
        gate.set()
        await until(pilot, lambda: "not written, e writes it" in shown(app))
        assert asked == [path]  # not twice at once
        assert any("The disk is full" in note.message for note in app._notifications)
        assert screen.outcome is not None


async def test_place_and_options_are_there_again(workspace: Workspace, tmp_path: Path) -> None:
    make_city(tmp_path / "place", models=(NYC,))
    for place, parquet in (("", False), (str(tmp_path / "place"), True)):
        app = RouterApp(workspace)
        async with app.run_test(size=(100, 40)) as pilot:
            app.go("semantic")
            screen = await on_screen(pilot, SemanticIdsScreen)
            field = screen.query_one("#place", Input)
            assert field.value == place and screen.form.build().parquet is parquet
            field.value = str(tmp_path / "place")
            await until(pilot, lambda screen=screen: screen.chosen)  # type: ignore[misc]
            screen.form.fields["parquet"].query_one(ChoiceLine).value = YES
            await pilot.pause()
            await pilot.press("escape")
            await on_screen(pilot, MenuScreen)
