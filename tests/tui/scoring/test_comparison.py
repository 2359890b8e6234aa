"""Two runs beside each other: what got fixed, what broke, and with which runs one can compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import on_screen, shown, until
from stored import NASTY, Example, make_dataset_job, make_job
from test_evaluation import PLAIN, scored
from textual.pilot import Pilot
from textual.widgets import Input, Static

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.scoring.comparison import ComparisonScreen
from ai_router.tui.scoring.comparison_data import candidates
from ai_router.tui.scoring.data import open_source
from ai_router.tui.scoring.dialogs import ChooseRunDialog, EvaluationOptionsDialog
from ai_router.tui.scoring.export import ReportDialog
from ai_router.tui.scoring.row_reading import RowReadingScreen
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.text_view import TextView

pytest.importorskip("numpy")  # what differences are worked out with

QUESTIONS = [("a b c", "a B c"), ("d e", "d E"), ("f g", "f G"), ("h i", "h I"), ("漢字 と", "漢字 を"), ("k", "K")]
BEFORE = ["a b c", "d E", "f g", "h I", "漢字 と", None]
NOW = ["a B c", NASTY, "f x", "h I", "漢字 と", "K"]


def examples(predictions: list[str | None]) -> list[Example]:
    """The questions with what a run predicted."""
    return [(given, wanted, said, None) for (given, wanted), said in zip(QUESTIONS, predictions, strict=True)]


@pytest.fixture
def runs(workspace: Workspace) -> tuple[Path, Path]:
    """A run, and the one before it; the sixth question has no prediction in that."""
    before = make_dataset_job(workspace.checkpoints, examples(BEFORE), job_id="bbbbbbbb", at="2025-02-01T10:00:00")
    now = make_dataset_job(workspace.checkpoints, examples(NOW), job_id="aaaaaaaa", adapter_path="/models/adapter")
    return now, before


async def compared(pilot: Pilot[Any], runs: tuple[Path, Path]) -> ComparisonScreen:
    """The screen with its differences."""
    screen = ComparisonScreen(*runs, PLAIN)
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.compared is not None and screen.table.row(0) is not None)
    await until(pilot, lambda: not screen.working("text"))
    await pilot.pause()
    return screen


def numbers(screen: ComparisonScreen) -> str:
    """The numbers of the rows that are shown."""
    rows = [screen.table.row(index) for index in range(screen.table.count)]
    return "".join("…" if row is None else str(row[0]) for row in rows)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace, runs: tuple[Path, Path], size: tuple[int, int], golden: Callable[..., None]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await compared(pilot, runs)
        golden(app, "comparison")


async def test_what_got_fixed_and_what_broke(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await compared(pilot, runs)
        for key, wanted in zip("234561", ("1", "2", "35", "4", "123", "12345"), strict=True):
            await pilot.press(key)
            await until(pilot, lambda wanted=wanted: numbers(screen) == wanted)
        assert screen.compared is not None
        # Both fixed and broken: not more than chance, and 6 is in one run only.
        assert screen.compared.comparison.differences[0].p == 1.0
        assert "1 not in both (i)" in shown(app)


async def test_both_predictions_are_marked(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await compared(pilot, runs)
        await pilot.press("4", "d")
        view = screen.query_one("#row-text", TextView)
        await until(pilot, lambda: "now        f [-G-]{+x+}" in view.plain)
        assert "before     f [-G-]{+g+}" in view.plain
        await pilot.press("3", "enter")
        await on_screen(pilot, RowReadingScreen)
        await until(pilot, lambda: "‹U+202E›" in shown(app))
        assert not {"\x1b", "\x00", "\u202e"} & set(shown(app))


async def test_other_options_compare_again(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await compared(pilot, runs)
        assert screen.tab_count("broken") == 1
        await pilot.press("slash", *"f x", "enter", "o")
        dialog = await on_screen(pilot, EvaluationOptionsDialog)
        dialog.query_one("#field-normalise Input", Input).value = "case"
        dialog.query_one("#options-go").focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.compared is not None and screen.compared.report.normalisation == ("case",))
        await until(pilot, lambda: numbers(screen) == "12345")
        assert screen.tab_count("fixed") == 0


async def test_search_looks_into_both(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await compared(pilot, runs)
        await pilot.press("slash", *"f x", "enter")
        await until(pilot, lambda: numbers(screen) == "3")
        await pilot.press("escape")
        await until(pilot, lambda: numbers(screen) == "12345")


async def test_with_a_job_of_the_same_test_file(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    make_job(workspace.checkpoints, ["a"], {0: "b"}, job_id="cccccccc")
    make_dataset_job(workspace.checkpoints, examples(NOW)[:2], job_id="dddddddd", at="2025-03-02T10:00:00")
    make_dataset_job(workspace.checkpoints, examples(NOW), job_id="eeeeeeee", pending=range(6))
    found = candidates(workspace.checkpoints, open_source(runs[0]))
    assert [(c.info.job_id, c.same_test) for c in found] == [("bbbbbbbb", True), ("dddddddd", False)]
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await scored(pilot, runs[0])
        await pilot.press("a")
        dialog = await on_screen(pilot, ChooseRunDialog)
        await until(pilot, lambda: dialog.query_one(VirtualTable).count == 2)
        await pilot.press("enter")
        screen = await on_screen(pilot, ComparisonScreen)
        await until(pilot, lambda: screen.compared is not None)
        assert "Now aaaaaaaa (demo + adapter) · before bbbbbbbb (demo)" in shown(app)


async def test_with_a_results_file(workspace: Workspace, runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "before.jsonl"
    rows = [
        {"input": given, "expected": wanted, "predicted": wanted, "example_id": number}
        for number, (given, wanted) in enumerate(QUESTIONS, 1)
    ]
    file.write_text("\n".join(map(json.dumps, reversed(rows))), encoding="utf-8")
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await scored(pilot, runs[0])
        await pilot.press("a")
        dialog = await on_screen(pilot, ChooseRunDialog)
        field = dialog.query_one("#choose-path", Input)
        field.focus()
        field.value = str(tmp_path / "nothing.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: "There is no file" in str(dialog.query_one("#choose-said", Static).render()))
        field.value = str(file)
        await pilot.press("enter")
        screen = await on_screen(pilot, ComparisonScreen)
        await until(pilot, lambda: numbers(screen) == "123456")  # matched by id, in our order
        await pilot.press("3")
        await until(pilot, lambda: numbers(screen) == "235")


async def test_runs_without_a_common_question(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    other = make_dataset_job(workspace.checkpoints, [("x", "y", "y", None)], job_id="cccccccc")
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = ComparisonScreen(runs[0], other, PLAIN)
        app.push_screen(screen)
        await until(pilot, lambda: screen.compared is not None)
        await until(pilot, lambda: "no question in common" in shown(app))


async def test_the_report_holds_both(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await compared(pilot, runs)
        await pilot.press("e")
        await on_screen(pilot, ReportDialog)
        await pilot.press("enter")
        target = workspace.outputs / "batch_aaaaaaaa_comparison.html"
        await until(pilot, target.exists)
        assert "bbbbbbbb" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("turned", [False, True])
async def test_the_later_run_is_now_from_wherever_one_came(
    workspace: Workspace, runs: tuple[Path, Path], turned: bool
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await compared(pilot, runs[::-1] if turned else runs)
        assert screen.sources is not None
        assert [source.path for source in screen.sources] == list(runs)
        assert (screen.path, screen.other) == runs


async def test_a_report_written_while_the_app_ends_is_no_error(workspace: Workspace, runs: tuple[Path, Path]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await compared(pilot, runs)
        await pilot.press("e")
        dialog = await on_screen(pilot, ReportDialog)
        # As the app does with a screen when it ends: what it holds goes first.
        dialog._pruning = True
        await dialog.query_one("#dialog").remove()
        dialog._wrote(workspace.outputs / "report.html", "48 KB")
