"""From prompts to results, through all steps: with an engine whose pace is set; slow, with the real model as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import footer, on_screen, paste, shown, type_text, until
from pace_engine import PaceEngine
from textual.widgets import Button, Input

from ai_router import detaching, jobs
from ai_router.models import ModelSpec
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.results.export import ExportDialog
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.leave import LeaveDialog
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.from_file import FromFileScreen
from ai_router.tui.setup.manual import ManualScreen
from ai_router.tui.setup.menu import BatchMenuScreen
from ai_router.tui.setup.options import OptionsScreen
from ai_router.tui.setup.source_view import ValidationView
from ai_router.tui.widgets.choice import ChoiceLine
from batch.checkpoint import list_jobs
from batch.errors import FatalError
from batch.running.progress import RunState
from batch.sources import from_prompts

READY = ModelSpec("tiny", "tiny", "torch", Path("tiny"), "found", parameters=4_700_000, context=512)
LACKING = ModelSpec("lacking", "lacking", "torch", Path("lacking"), "found", ready=False, why="no weights in lacking")


class Models:
    """A registry of two: one ready, one not."""

    skipped: tuple[str, ...] = ()

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def all(self) -> list[ModelSpec]:
        return [READY, LACKING]

    def get(self, name: str) -> ModelSpec:
        return {"tiny": READY, "lacking": LACKING}[name]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PaceEngine]:
    made = PaceEngine()
    monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: made)
    monkeypatch.setattr(jobs, "token_counter", lambda spec: lambda text: len(text.split()))
    yield made
    made.held = False


@pytest.fixture
def app(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> RouterApp:
    monkeypatch.chdir(workspace.root)
    app = RouterApp(workspace)
    app._models = Models(workspace)  # type: ignore[assignment]
    return app


def plan_on_disk(workspace: Workspace) -> jobs.JobPlan:
    (info,) = list_jobs(workspace.checkpoints)
    return jobs.plan_of(jobs.open_job(workspace, info.job_id))


async def test_from_menu_to_results_by_keyboard_alone(workspace: Workspace, app: RouterApp, engine: PaceEngine) -> None:
    (workspace.root / "prompts.txt").write_text("one\ntwo\nthree\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await on_screen(pilot, BatchMenuScreen)
        await pilot.press("1")
        screen = await on_screen(pilot, FromFileScreen)
        await until(pilot, lambda: "prompts.txt" in shown(app))
        await type_text(pilot, "pr")
        await pilot.pause()
        await until(pilot, lambda: screen.query_one("#path", Input)._suggestion)  # type: ignore[attr-defined]
        await pilot.press("tab", "enter")
        await until(pilot, lambda: isinstance(app.focused, Button))
        await pilot.press("enter")
        choose = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: "3 prompts fit" in choose.query_one(ValidationView).text)
        await pilot.press("enter")
        await on_screen(pilot, OptionsScreen)
        await pilot.press("enter")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.state is RunState.FINISHED)
        assert [type(s).__name__ for s in app.screen_stack[1:]] == ["MenuScreen", "BatchMenuScreen", "RunScreen"]
        await pilot.press("escape")
        await on_screen(pilot, BatchMenuScreen)
        await pilot.press("0")
    plan = plan_on_disk(workspace)
    assert (plan.model, plan.source, plan.run.workers) == ("tiny", "prompts.txt", None)


async def test_menu_offers_what_waits_to_be_resumed(workspace: Workspace, app: RouterApp, engine: PaceEngine) -> None:
    job = jobs.create_job(workspace, jobs.JobPlan("tiny", source="waiting.txt"), ["a", "b"])
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("5")
        await on_screen(pilot, BatchMenuScreen)
        await until(pilot, lambda: "waiting.txt" in shown(app))
        await pilot.press("tab", "enter")
        run = await on_screen(pilot, RunScreen)
        assert run.path == job.checkpoint_file
        await pilot.press("p")
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.state is RunState.FINISHED)


async def test_model_that_is_not_ready_says_why(app: RouterApp, engine: PaceEngine) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(ChooseModelScreen(from_prompts(["a"]), 1))
        screen = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: "✗ not ready" in shown(app) and "✓ ready" in shown(app))
        await until(pilot, lambda: "1 prompt fits the context of 512 tokens" in shown(app))
        await pilot.press("down")
        await until(
            pilot, lambda: "lacking is not ready: no weights in lacking" in screen.query_one(ValidationView).text
        )
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen is screen


async def test_first_prompts_are_seen_whichever_model_is_chosen(app: RouterApp, engine: PaceEngine) -> None:
    async with app.run_test(size=(140, 40)) as pilot:
        app.push_screen(ChooseModelScreen(from_prompts(["the first of them"]), 1, "lacking"))
        await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: "lacking is not ready" in shown(app) and "the first of them" in shown(app), 20)
        await pilot.press("up")
        await until(pilot, lambda: "1 prompt fits" in shown(app), 20)
        await pilot.press("enter")
        await on_screen(pilot, OptionsScreen)
        await until(pilot, lambda: "the first of them" in shown(app), 20)
        await pilot.resize_terminal(80, 24)  # the options need the room
        await until(pilot, lambda: "the first of them" not in shown(app), 20)


async def test_prompts_longer_than_the_context_are_named(app: RouterApp, engine: PaceEngine) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(ChooseModelScreen(from_prompts(["short", "word " * 1000]), 2))
        await until(pilot, lambda: "1 prompt is longer than the model's context" in shown(app))
        await pilot.press("enter")  # a warning does not hold one up
        await on_screen(pilot, OptionsScreen)


async def test_prompts_that_nobody_counted_are_not_said_to_fit(
    app: RouterApp, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "token_counter", lambda spec: None)
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(ChooseModelScreen(from_prompts(["short", "word " * 1000]), 2))
        await until(pilot, lambda: "2 prompts; how many tokens each has" in shown(app))


async def test_options_are_written_with_the_job(workspace: Workspace, app: RouterApp, engine: PaceEngine) -> None:
    async with app.run_test(size=(140, 40)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a", "b"]), READY, 2))
        screen = await on_screen(pilot, OptionsScreen)
        assert isinstance(app.focused, Button)  # enter alone would start
        screen.sampling_form.fields["max_tokens"].query_one(Input).value = "64"
        screen.run_form.fields["workers"].query_one(Input).value = "3"
        screen.run_form.fields["on_error"].query_one(ChoiceLine).value = "threshold"
        await pilot.pause()
        screen.run_form.fields["on_error"].query_one(Input).value = "7"
        await pilot.press("f2")
        await on_screen(pilot, RunScreen)
    plan = plan_on_disk(workspace)
    assert plan.sampling.max_tokens == 64
    assert (plan.run.workers, plan.run.on_error) == (3, "threshold:7")


async def test_a_bad_option_is_said_and_nothing_starts(
    workspace: Workspace, app: RouterApp, engine: PaceEngine
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a"]), READY, 1))
        screen = await on_screen(pilot, OptionsScreen)
        field = screen.sampling_form.fields["temperature"].query_one(Input)
        field.focus()
        await pilot.press("ctrl+u", "9")
        await until(pilot, lambda: "✗ 9.0 is above the most allowed, 2" in shown(app))
        assert "0 to 2" in shown(app)  # the whole help of the field under the cursor
        assert screen.query_one("#start", Button).disabled
        await pilot.press("f2")
        await pilot.pause()
        assert app.screen is screen and app.focused is field
        await pilot.press("ctrl+u", "1", "enter")
        await pilot.pause()
        assert app.focused is screen.query_one("#start", Button)
    assert not list_jobs(workspace.checkpoints)


async def test_start_that_fails_can_be_tried_again_with_the_same_job(
    workspace: Workspace, app: RouterApp, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise FatalError("the engine is not there")

    make = jobs.make_engine
    monkeypatch.setattr(jobs, "make_engine", refuse)
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a"]), READY, 1))
        await on_screen(pilot, OptionsScreen)
        await pilot.press("enter")
        await on_screen(pilot, ConfirmDialog)
        assert "the engine is not there" in shown(app)
        monkeypatch.setattr(jobs, "make_engine", make)
        await pilot.press("enter")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.completed == 1)
    assert len(list_jobs(workspace.checkpoints)) == 1


async def test_background_job_is_detached_and_watched(
    workspace: Workspace, app: RouterApp, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached: list[str] = []
    monkeypatch.setattr(detaching, "detach", lambda at, job, *args: detached.append(job.job_id) or 1)
    async with app.run_test(size=(100, 30)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a"]), READY, 1))
        screen = await on_screen(pilot, OptionsScreen)
        screen.query_one("#background", ChoiceLine).value = "yes"
        await pilot.press("f2")
        run = await on_screen(pilot, RunScreen)
        assert len(detached) == 1 and not run.owned and not app.runs


async def test_a_model_with_bad_defaults_says_so(app: RouterApp, engine: PaceEngine) -> None:
    spec = ModelSpec("odd", "odd", "torch", Path("odd"), "models.yaml", sampling={"temperature": 99})
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a"]), spec, 1))
        await on_screen(pilot, OptionsScreen)
        await until(pilot, lambda: "models.yaml, odd: temperature" in " ".join(shown(app).split()))


async def test_no_colour_still_says_everything(
    workspace: Workspace, app: RouterApp, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = RouterApp(workspace)
    app._models = Models(workspace)  # type: ignore[assignment]
    async with app.run_test(size=(80, 24)) as pilot:
        job = jobs.create_job(workspace, jobs.JobPlan("tiny"), ["a"])
        app.start_run(job)
        assert job.checkpoint_file is not None
        app.open_run(job.checkpoint_file)
        await until(pilot, lambda: "✓ finished: 1 answer" in shown(app))
        assert app.no_color
        text = shown(app)
        assert all(word in text for word in ("✓ finished", "failed", "waiting", "enter results"))


async def run_half(app: RouterApp, name: str) -> None:
    """A file to a run, left by quitting when two answers are there."""
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await on_screen(pilot, BatchMenuScreen)
        await pilot.press("1")
        screen = await on_screen(pilot, FromFileScreen)
        screen.query_one("#path", Input).focus()
        await paste(pilot, name)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.focused, Button))
        await pilot.press("enter")
        await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: "24 prompts fit" in shown(app))
        await pilot.press("enter")
        options = await on_screen(pilot, OptionsScreen)
        options.run_form.fields["workers"].query_one(Input).value = "2"
        await pilot.press("f2")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.completed >= 2, 90)
        await pilot.press("q")
        await on_screen(pilot, LeaveDialog)
        await pilot.press("n")
        await until(pilot, lambda: not app.is_running, 30)


async def resume_and_export(app: RouterApp, name: str) -> None:
    """From the menu's third entry to the exported file."""
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await on_screen(pilot, BatchMenuScreen)
        await pilot.press("3")
        await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: name in shown(app))
        await pilot.press("r")
        run = await on_screen(pilot, RunScreen, 30)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.state is RunState.FINISHED, 90)
        await pilot.press("enter")
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "What is a dequ" in shown(app))
        await pilot.press("e")
        await on_screen(pilot, ExportDialog)
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: list(app.workspace.outputs.glob("*")), 30)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=[pytest.mark.model, pytest.mark.slow])])
async def test_the_whole_story(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    """File, run, quit half way; again: resume, results, export."""
    if real:
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    else:
        engines = iter([PaceEngine(most=2), PaceEngine()])
        monkeypatch.setattr(jobs, "make_engine", lambda *args, **kwargs: next(engines))
    monkeypatch.chdir(workspace.root)
    things = ("deque", "linked list", "hash table", "stack", "queue", "set")
    prompts = [f"What is a {thing}?" for thing in things] * 4
    (workspace.root / "questions.txt").write_text("\n".join(prompts) + "\n")
    app = RouterApp(workspace)
    if real and not app.registry.get("demo").ready:
        pytest.skip(app.registry.get("demo").why)
    await run_half(app, "questions.txt")
    (info,) = list_jobs(workspace.checkpoints)
    assert 2 <= info.completed < 24
    await resume_and_export(RouterApp(workspace), "questions.txt")
    (exported,) = workspace.outputs.glob("*")
    results = json.loads(exported.read_text(encoding="utf-8"))["results"]
    assert [result["prompt"] for result in results] == prompts
    assert all(result["success"] and result["response_text"] for result in results)


async def test_manual_entry_to_run(workspace: Workspace, app: RouterApp, engine: PaceEngine) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "2")
        await on_screen(pilot, ManualScreen)
        await paste(pilot, "first\nsecond")
        await until(pilot, lambda: "2 prompts" in shown(app))
        await pilot.press("enter")
        await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: "✓ ready" in shown(app))
        assert "choose" in footer(app)
        await pilot.press("enter")
        await on_screen(pilot, OptionsScreen)
        await pilot.press("enter")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: run.snapshot is not None and run.snapshot.completed == 2, seconds=300)
    assert plan_on_disk(workspace).source == "typed prompts"
