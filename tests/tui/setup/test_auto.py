"""A model for each prompt, on the screens: the curve before the run, and the run by the plan that was chosen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine
from textual.widgets import Static

from ai_router import jobs
from ai_router.routing.evidence import Evidence, Graded
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.auto import AutoScreen
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.options import OptionsScreen
from batch.checkpoint import CheckpointStore, list_jobs
from batch.running.progress import RunState
from batch.sources import from_prompts


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    """A cheap server that is good at sums, and a dear one that is good at everything."""
    entries = {
        name: {"url": "http://127.0.0.1:9/v1", "model": name, "price": {"input": price, "output": price}}
        for name, price in (("cheap", 1), ("dear", 30))
    }
    workspace.models_file.write_text("models: " + json.dumps(entries) + "\n")
    evidence = Evidence.of(workspace)
    for model, poems in (("cheap", 2), ("dear", 38)):
        evidence.add(Graded(f"What is {n} * 7?", model, float(n < 38), "job", 5, 10, 20, 0.5) for n in range(40))
        evidence.add(
            Graded(f"Write a poem about {n} cats", model, float(n < poems), "job", 5, 10, 20, 0.5) for n in range(40)
        )
    return workspace


async def test_the_curve_is_seen_before_the_run_and_a_plan_chosen(
    two: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PaceEngine()
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: engine)
    prompts = ["What is 3 * 8?", "Write a poem about the sea", "What is 4 * 9?"]
    app = RouterApp(Workspace(two.root, replace(two.settings, model="cheap")))
    async with app.run_test(size=(120, 36)) as pilot:
        app.push_screen(ChooseModelScreen(from_prompts(prompts), 3))
        await on_screen(pilot, ChooseModelScreen)
        await pilot.press("a")
        screen = await on_screen(pilot, AutoScreen)
        await until(pilot, lambda: screen.plan is not None and "all dear" in shown(app))
        assert screen.plan is not None
        names = [figures.name for figures in screen.plan.curve]
        assert names[0] == "all cheap" and names[-1] == "all dear" and "auto" in names
        auto = next(figures for figures in screen.plan.curve if figures.name == "auto")
        assert (
            auto.score is not None and f"({auto.score[1]:.0%}–{auto.score[2]:.0%})" in shown(app) and "●" in shown(app)
        )
        reasons = str(screen.query_one("#about", Static).render())
        assert "cheap  math: 95% right expected" in reasons and "dear   creative: " in reasons  # names in a column
        await pilot.press("enter")
        options = await on_screen(pilot, OptionsScreen)
        assert "3 prompts · auto" in str(options.query_one("#busy", Static).render())
        await pilot.press("enter")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.state is RunState.FINISHED)
    (info,) = list_jobs(two.checkpoints)
    with CheckpointStore(info.file) as store:
        assert [result.meant_for for result in store.iter_results()] == ["cheap", "dear", "cheap"]
