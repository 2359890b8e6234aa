"""A job that waits for its provider: what its screen says of the batches, and what can be done with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import footer, on_screen, shown, until
from servers.batches import Batches, serving

from ai_router import jobs
from ai_router.models import Registry
from ai_router.settings import Workspace
from ai_router.standings import standing_of, told
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.details import job_details
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.jobs.view import JobLine
from ai_router.tui.run.away import AwayPanel
from ai_router.tui.run.screen import RunScreen
from batch.checkpoint import list_jobs
from batch.running.progress import RunState

pytest.importorskip("openai")


@pytest.fixture
def batches() -> Iterator[Batches]:
    yield Batches()


@pytest.fixture
def path(batches: Batches, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A job of two prompts that was handed over."""
    monkeypatch.setenv("OPENAI_API_KEY", batches.secret)
    with serving(batches) as url:
        entry = f"  far: {{engine: provider, provider: openai, model: tiny-1, url: {url}/v1, poll: 0.02}}\n"
        (workspace.root / "models.yaml").write_text(f"models:\n{entry}", "utf-8")
        batches.needed = 10**9
        job = jobs.create_job(workspace, jobs.JobPlan("far", source="p.txt"), ["one", "two"])
        run = jobs.start(Registry(workspace), job, wait=False)
        assert run.wait(90) and run.snapshot().state is RunState.WAITING, run.error
        assert job.checkpoint_file is not None
        yield job.checkpoint_file


@pytest.mark.parametrize("size", [(140, 40), (70, 20)])
async def test_what_is_away_is_shown_asked_for_ended_and_collected(
    path: Path, batches: Batches, workspace: Workspace, size: tuple[int, int]
) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size, notifications=True) as pilot:
        app.open_run(path)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "batch_1" in shown(app))
        text = shown(app)
        assert "2 prompts with openai" in text and "age 0 min" in text
        if size[0] >= 140:
            assert "expires in 24 h 00 min" in text and "in_progress" in text
            assert "collect" in footer(app) and "machine may be switched off" in text
        calls = batches.calls["GET batch_1"]
        await pilot.press("l")
        await until(pilot, lambda: batches.calls["GET batch_1"] > calls and not screen.busy)
        assert "in_progress" in [standing.word for standing in screen.query_one(AwayPanel).standings]
        await pilot.press("k")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.press("escape")
        assert not batches.made["batch_1"].cancelled
        await pilot.press("k")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        batches.answered = 0.5
        await pilot.press("e")
        await until(pilot, lambda: batches.made["batch_1"].cancelled and not screen.busy)
        await pilot.press("c")
        await until(
            pilot, lambda: screen.snapshot is not None and screen.snapshot.completed == 1 and not screen.is_away
        )
        assert not screen.has_class("-away") and len(batches.creates) == 1


async def test_a_running_job_shows_what_it_waits_for(path: Path, batches: Batches, workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.open_run(path)
        screen = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "batch_1" in shown(app))
        await pilot.press("p")  # stays until all is there
        await until(pilot, lambda: "looked at from time to time" in shown(app))
        assert "collect what is there" not in shown(app)
        await pilot.press("x")
        await until(pilot, lambda: "The 2 prompts with a provider stay there" in shown(app))
        await pilot.press("escape")
        batches.needed = 1
        await until(pilot, lambda: screen.snapshot is not None and screen.snapshot.state is RunState.FINISHED)
        assert len(batches.creates) == 1


async def test_the_list_says_how_old_it_is_until_when_and_what_comes_next(path: Path, workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(160, 40)) as pilot:
        app.push_screen(JobsScreen())
        await until(pilot, lambda: "24 h left" in shown(app))
        await until(pilot, lambda: "what is there" in shown(app))
    [found] = list_jobs(workspace.checkpoints)
    away, times, after = told([standing_of(submission) for submission in found.away])
    assert (away, after) == ("2 with openai in 1 batch", "collect what is there")
    assert times.startswith("age 0 min, the first expires in 24 h")
    text = job_details(JobLine(found)).plain
    assert away in text and "next          collect" in text
