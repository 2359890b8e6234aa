"""Files with known answers: recognised, offered to be scored, and the score beside the progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine

from ai_router import jobs
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.run.progress import ProgressPanel
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.from_file import FromFileScreen
from ai_router.tui.setup.options import OptionsScreen
from ai_router.tui.setup.source_view import ValidationView
from ai_router.tui.widgets.choice import ChoiceLine
from batch.datasets import DatasetSource
from batch.running.progress import RunState, Score, Snapshot


@pytest.fixture
def test_file(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve examples and a line that is none."""
    rows = [{"prompt": f"Fix the grammar: word {i}", "completion": f"word {i}"} for i in range(12)]
    path = workspace.root / "gec.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", encoding="utf-8")
    (workspace.root / "plain.jsonl").write_text('{"prompt": "What is a list?"}\n')
    monkeypatch.chdir(workspace.root)
    return path


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_known_answers_are_offered_and_scored(
    workspace: Workspace, test_file: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    engine = PaceEngine(held=False)
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        app.push_screen(FromFileScreen("gec.jsonl"))
        screen = await on_screen(pilot, FromFileScreen)
        await until(pilot, lambda: screen.report is not None)
        assert isinstance(screen.source, DatasetSource)
        await until(pilot, lambda: "known answers" in shown(app))
        assert "12 prompts" in screen.query_one(ValidationView).text
        assert "1 line is malformed and left out" in screen.query_one(ValidationView).text
        screen.action_proceed()
        await pilot.pause()
        await until(pilot, lambda: "ready" in shown(app))
        await pilot.press("enter")
        await on_screen(pilot, OptionsScreen)
        await pilot.press("enter")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.state is RunState.FINISHED)
        await until(pilot, lambda: run.details is not None)
        text = shown(app)
        assert "95 % interval" in text
        assert "of 12" in text
        assert "score" in text
        score = run.snapshot.score if run.snapshot else None
        assert score is not None
        assert score.n == 12
    output = workspace.outputs / "gec_results.jsonl"
    assert len(output.read_text(encoding="utf-8").splitlines()) == 12
    assert (workspace.outputs / "gec_results_summary.json").is_file()


async def test_they_may_be_ignored_and_prompts_have_none(workspace: Workspace, test_file: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(FromFileScreen("gec.jsonl"))
        screen = await on_screen(pilot, FromFileScreen)
        await until(pilot, lambda: screen.report is not None)
        choice = screen.query_one("#answers", ChoiceLine)
        choice.focus()
        await pilot.press("space")
        await until(pilot, lambda: screen.report is not None and not isinstance(screen.source, DatasetSource))
        assert choice.display
        screen.query_one("#path").focus()
        screen._take_path(Path("plain.jsonl"), submitted=True)
        await until(pilot, lambda: screen.report is not None and screen.report.total == 1)
        await until(pilot, lambda: "known answers" not in shown(app))


def test_the_score_has_a_line_of_its_own() -> None:
    score = Score("exact match", 0.873, 0.812, 0.919, 1234)
    panel = ProgressPanel()
    panel.snapshot = Snapshot("1a2b3c4d", "demo", RunState.RUNNING, 2000, 1234, 0, score=score)
    for width, height in ((76, 4), (136, 3)):
        lines = [line.plain for line in panel.lines(width, height)]
        assert len(lines) == height
        assert lines[1] == "exact match  87.3 %   95 % interval  81.2–91.9   of 1,234"
        assert all(len(line) <= width for line in lines)
    panel.snapshot = Snapshot("1a2b3c4d", "demo", RunState.RUNNING, 2000, 0, 0, score=Score("exact match", 0, 0, 1, 0))
    assert "—" in panel.lines(76, 4)[1].plain
