"""Scores of a run with known answers: the table, the rows, their differences, the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driving import footer, on_screen, shown, until
from stored import JAPANESE, NASTY, Example, answer_examples, make_dataset_job, make_job
from textual.pilot import Pilot
from textual.widgets import Input, Static

from ai_router.settings import Workspace
from ai_router.tui import clipboard
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.scoring.dialogs import ChooseRunDialog, EvaluationOptionsDialog
from ai_router.tui.scoring.export import ReportDialog
from ai_router.tui.scoring.row_reading import RowReadingScreen
from ai_router.tui.scoring.screen import EvaluationScreen
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.table import VirtualTable
from ai_router.tui.widgets.tabs import CountTabs
from ai_router.tui.widgets.text_view import TextView
from batch.checkpoint import CheckpointStore
from batch.evaluation.options import EvaluationOptions
from batch.processor import BatchProcessor

EXAMPLES: list[Example] = [
    ("I has a dog.", "I have a dog.", "I have a dog.", "verb"),
    ("She go home.", "She goes home.", "She went home.", "verb"),
    ("He like tea", "He likes tea", "He really likes tea", "verb"),
    ("They was at work in monday.", "They were at work on Monday.", "They were at work in monday.", "several"),
    ("We sees it.", "We see it.", "We sees it.", "verb"),
    ("You is late.", "You are late.", None, None),
    ("Nice weather.", "Nice weather.", NASTY, "none"),
    (
        JAPANESE,
        "日本語の文を直してください。私は学校に行きます。",
        "日本語の文を直してください。私は学校へ行きます。",
        "particle",
    ),
]
# The same everywhere, whatever is installed.
PLAIN = EvaluationOptions(tokeniser="character", fluency=False, samples=0)


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """Eight examples of every verdict."""
    return make_dataset_job(workspace.checkpoints, EXAMPLES, job_id="aaaaaaaa")


async def scored(pilot: Pilot[Any], path: Path, options: EvaluationOptions = PLAIN) -> EvaluationScreen:
    """The screen with its scores."""
    screen = EvaluationScreen(path)
    screen.options = options
    pilot.app.push_screen(screen)
    await settled(pilot, screen)
    return screen


async def settled(pilot: Pilot[Any], screen: EvaluationScreen) -> None:
    """Wait for scores and the first rows."""
    await until(pilot, lambda: screen.report is not None and not screen.working("score"))
    await until(pilot, lambda: not screen.table.count or screen.table.row(0) is not None)
    await until(pilot, lambda: not screen.working("text"))
    await pilot.pause()


def numbers(screen: EvaluationScreen) -> str:
    """The numbers of the rows that are shown."""
    rows = [screen.table.row(index) for index in range(screen.table.count)]
    return "".join("…" if row is None else str(row[0]) for row in rows)


async def rows_are(pilot: Pilot[Any], screen: EvaluationScreen, wanted: str) -> None:
    """Wait until these are shown."""
    await until(pilot, lambda: numbers(screen) == wanted)


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace, path: Path, size: tuple[int, int], golden: Callable[..., None]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        screen = await scored(pilot, path)
        await pilot.press("down", "down")
        await until(pilot, lambda: "really" in screen.query_one("#row-text", TextView).plain)
        await pilot.pause()
        golden(app, "evaluation")


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_one_row_looks(
    workspace: Workspace, path: Path, size: tuple[int, int], golden: Callable[..., None]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await scored(pilot, path)
        await pilot.press("down", "down", "down", "enter")
        await on_screen(pilot, RowReadingScreen)
        await pilot.press("d")
        await until(pilot, lambda: "[-in monday-]" in shown(app))
        golden(app, "evaluation-row")


async def test_every_verdict_has_its_key(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await rows_are(pilot, screen, "12345678")
        for key, wanted in zip("2345671", ("1", "28", "37", "4", "5", "6", "12345678"), strict=True):
            await pilot.press(key)
            await rows_are(pilot, screen, wanted)
        await pilot.press("f")
        await rows_are(pilot, screen, "1")
        tabs = screen.query_one(CountTabs)
        await pilot.click(CountTabs, offset=(len("".join(tabs.texts()[:3])) - 2, 0))
        await rows_are(pilot, screen, "28")
        assert [screen.table.row(0)[1]] == [("✗ wrong", "error")]  # type: ignore[index]


async def test_a_failed_row_says_why_and_is_no_answer(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        assert screen.report is not None
        assert (screen.report.scored, screen.report.failed, screen.report.main.value) == (7, 1, 1 / 7)
        await pilot.press("7")
        view = screen.query_one("#row-text", TextView)
        await until(pilot, lambda: "the server closed the connection" in view.plain)
        assert "FAILED" in view.plain
        assert "why predictions failed" in [str(cells[0][0]) for cells in screen._score_rows("breakdown", 0, 99)]


async def test_text_from_outside_is_only_shown(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await pilot.press(*["down"] * 6)
        await until(pilot, lambda: "‹U+202E›" in screen.query_one("#row-text", TextView).plain)
        for key in ("", "d", "enter"):
            await pilot.press(*filter(None, [key]))
            await pilot.pause(0.1)
            assert not {"\x1b", "\x00", "\u202e"} & set(shown(app))
            assert "[bold red]not bold[/]" in shown(app)


async def test_marks_stand_in_for_colours(workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await pilot.press("3")
        view = screen.query_one("#row-text", TextView)
        await until(pilot, lambda: "She [-go-]{+goes+}" in view.plain or "{+goes+}" in view.plain)
        assert "[-goes-]{+went+}" in view.plain
        await pilot.press("d")
        await until(pilot, lambda: "goeswent" in view.plain)


async def test_differences_have_a_style_each(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await pilot.press("3")
        view = screen.query_one("#row-text", TextView)
        await until(pilot, lambda: "goeswent" in view.plain)
        strip = view.render_line(2)
        styles = {segment.text: segment.style for segment in strip if segment.style}
        assert styles["goes"].strike and styles["went"].underline
        assert styles["goes"].color != styles["went"].color


async def test_reading_goes_through_the_rows(workspace: Workspace, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "done")
    app = RouterApp(workspace)
    async with app.run_test(notifications=True) as pilot:
        screen = await scored(pilot, path)
        await pilot.press("3")
        await rows_are(pilot, screen, "28")
        await pilot.press("enter")
        await on_screen(pilot, RowReadingScreen)
        assert footer(app) == ["next", "previous", "marks", "copy", "back", "help"]
        await pilot.press("n", "n")
        await until(pilot, lambda: "last row" in shown(app))
        await until(pilot, lambda: "学校" in shown(app))
        await pilot.press("c", "Y")
        await until(pilot, lambda: len(copied) == 2)
        assert copied[0] == EXAMPLES[7][2]
        assert json.loads(copied[1])["verdict"] == "wrong"
        await pilot.press("escape")
        await on_screen(pilot, EvaluationScreen)
        assert screen.table.cursor == 1


async def test_search(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await scored(pilot, path)
        await pilot.press("slash", *"LIKES", "enter")
        await rows_are(pilot, screen, "3")
        await pilot.press("2")  # the search goes on within the verdict
        await until(pilot, lambda: "Nothing holds that text" in shown(app))
        await pilot.press("escape")
        await rows_are(pilot, screen, "1")
        await pilot.press("slash", *"server", "enter", "1")
        await rows_are(pilot, screen, "6")
        await pilot.press("escape")
        await rows_are(pilot, screen, "12345678")


async def test_one_error_type(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        table = screen.query_one("#breakdown", VirtualTable)
        table.focus()
        await pilot.press("down", "enter")
        await rows_are(pilot, screen, "1235")
        assert "Rows · verb" in shown(app)
        await pilot.press("3")
        await rows_are(pilot, screen, "2")
        await pilot.press("escape")
        await rows_are(pilot, screen, "28")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)


async def test_scores_unfold_where_it_is_low(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await scored(pilot, path)
        scores = screen.query_one("#scores", VirtualTable)
        before = scores.size.height
        await pilot.press("s")
        await until(pilot, lambda: scores.size.height > before)
        await pilot.press("G")
        await until(pilot, lambda: "the server closed" in shown(app))  # the last of its lines
        await pilot.press("s")
        await until(pilot, lambda: scores.size.height == before)
        assert screen.focused is screen.table


@pytest.mark.parametrize("size", [(40, 12), (60, 18), (200, 60)])
async def test_any_size(workspace: Workspace, path: Path, size: tuple[int, int]) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        screen = await scored(pilot, path)
        assert screen.table.size.height >= 2
        assert "Verdict" in shown(app)
        bottom = screen.query_one("#row-text" if screen.query_one("#row-text").display else "#rows")
        assert bottom.region.bottom <= size[1] - 1  # nothing lies below the screen


async def test_other_options_score_again(workspace: Workspace) -> None:
    path = make_dataset_job(workspace.checkpoints, [("ａ b", "A B", "Ａ  b", None)] * 3)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await scored(pilot, path)
        assert screen.tab_count("right") == 0
        await pilot.press("o")
        dialog = await on_screen(pilot, EvaluationOptionsDialog)
        field = dialog.query_one("#field-normalise Input", Input)
        field.value = "nfkc,nonsense"
        await pilot.click("#options-go")
        await until(pilot, lambda: "no normalisation" in str(dialog.query_one("#options-said", Static).render()))
        field.value = "nfkc,whitespace,case"
        field.focus()
        await pilot.press("enter")
        await on_screen(pilot, EvaluationScreen)
        await until(pilot, lambda: screen.tab_count("right") == 3)
        await until(pilot, lambda: "nfkc+whitespace+case" in shown(app))


async def test_general_answers_have_fewer_verdicts(workspace: Workspace) -> None:
    examples = [("2 + 2?", "4", "It is 4.", None), ("3 + 3?", "6", "It is 7.", None)]
    path = make_dataset_job(workspace.checkpoints, examples)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path, EvaluationOptions(match="number"))
        assert [tab.name for tab in screen.tabs()] == ["all", "right", "wrong", "failed"]
        assert screen.tab_count("right") == 1


@pytest.mark.parametrize(("presses", "suffix", "text"), [(0, ".html", "<h1>"), (1, ".md", "# Eval"), (2, ".json", "{")])
async def test_reports(workspace: Workspace, path: Path, presses: int, suffix: str, text: str) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await scored(pilot, path)
        await pilot.press("e")
        dialog = await on_screen(pilot, ReportDialog)
        dialog.query_one("#export-format", ChoiceLine).focus()
        await pilot.press(*["right"] * presses)
        target = workspace.outputs / f"batch_aaaaaaaa_scores{suffix}"
        await until(pilot, lambda: dialog.query_one("#export-path", Input).value.endswith(target.name))
        await pilot.click("#export-go")
        await until(pilot, target.exists)
        written = target.read_text(encoding="utf-8")
        assert (text in written and "Exact match" in written) or "exact_match" in written
        assert NASTY not in written


async def test_a_report_is_never_written_over_its_run(workspace: Workspace, path: Path) -> None:
    before = path.read_bytes()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await scored(pilot, path)
        await pilot.press("e")
        dialog = await on_screen(pilot, ReportDialog)
        dialog.query_one("#export-path", Input).value = str(path)
        await pilot.pause()
        dialog.action_export()
        await until(pilot, lambda: "✗" in str(dialog.query_one("#export-said", Static).render()))
    assert path.read_bytes() == before


async def test_a_results_file(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {"input": "a b", "expected": "a c", "predicted": "a c", "example_id": 1},
        "no row",
        {"input": "a b", "expected": "a c", "predicted": "a b", "example_id": "two"},
        {"input": "a b", "expected": "a c", "predicted": "a b", "example_id": 1},
    ]
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n{broken", encoding="utf-8")
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, file)
        assert screen.report is not None
        assert (screen.report.total, screen.report.skipped, screen.report.superseded) == (2, 2, 1)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "2 of 2" in shown(app))
        await pilot.press("escape", "i")
        await on_screen(pilot, ConfirmDialog)
        assert "line 2: a row must be an object" in shown(app)
        assert "replaced by later ones" in shown(app)


async def test_a_live_job_is_scored_again(workspace: Workspace) -> None:
    path = make_dataset_job(workspace.checkpoints, EXAMPLES, pending=range(3, 8))
    processor = BatchProcessor(workspace.checkpoints)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await rows_are(pilot, screen, "123")
        job = processor.open_job(path)
        answer_examples(processor, job, EXAMPLES, [7, 5])
        screen._looked = 0.0
        await rows_are(pilot, screen, "12368")
        answered = [*EXAMPLES[:5], ("You is late.", "You are late.", "You are late.", None)]
        with CheckpointStore(path) as store:
            assert store.counts() == (4, 1)
        answer_examples(processor, job, answered, [5])  # the failure was tried again
        screen._looked = 0.0
        await until(pilot, lambda: screen.tab_count("failed") == 0 and screen.tab_count("right") == 2)
        await rows_are(pilot, screen, "12368")


async def test_a_row_that_is_read_stays_while_more_comes(workspace: Workspace) -> None:
    """Fewer rows than the look at the data takes are all scored anew: what is on the screen must not wait for that."""
    path = make_dataset_job(workspace.checkpoints, EXAMPLES, pending=[1, 2])
    processor = BatchProcessor(workspace.checkpoints)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await scored(pilot, path)
        await pilot.press("G", "enter")
        await on_screen(pilot, RowReadingScreen)
        await until(pilot, lambda: "6 of 6" in shown(app))
        answer_examples(processor, processor.open_job(path), EXAMPLES, [1, 2])
        assert screen._scorer is not None
        screen._run(screen._scorer)
        await until(pilot, lambda: len(screen._scorer.rows) == 8 and not screen.working("score"))
        await pilot.press("d", "p", "n")
        await until(pilot, lambda: "学校" in shown(app))
        await pilot.press("escape")
        await rows_are(pilot, screen, "12345678")


async def test_a_job_without_results(workspace: Workspace) -> None:
    path = make_dataset_job(workspace.checkpoints, EXAMPLES, pending=range(8))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await scored(pilot, path)
        await until(pilot, lambda: "There are no results yet" in shown(app))
        assert screen.table.count == 0


async def test_a_job_without_known_answers_cannot_be_scored(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {0: "b"}, job_id="bbbbbbbb")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: screen.query_one(VirtualTable).row(0) is not None)
        assert "score" not in footer(app)
        app.go("evaluation", path)
        await on_screen(pilot, ConfirmDialog)
        assert "no expected answers" in shown(app)


async def test_ways_in(workspace: Workspace, path: Path, frozen: None) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.go("jobs")
        jobs = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: jobs.query_one(VirtualTable).count == 1)
        await pilot.press("v")
        await settled(pilot, await on_screen(pilot, EvaluationScreen))
        await pilot.press("escape")
        app.open_results(path)
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "score" in footer(app))
        await pilot.press("v")
        await on_screen(pilot, EvaluationScreen)
        await pilot.press("escape", "escape", "V")
        dialog = await on_screen(pilot, ChooseRunDialog)
        await until(pilot, lambda: dialog.query_one(VirtualTable).count == 1)
        await pilot.press("enter")
        await on_screen(pilot, EvaluationScreen)


async def test_leaving_ends_the_scoring(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await scored(pilot, path)
        scorer = screen._scorer
        assert scorer is not None and not scorer._stopped
        await pilot.press("escape")
        await until(pilot, lambda: scorer._stopped)
        assert screen._pages is None
