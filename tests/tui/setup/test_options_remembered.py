"""Options are there again as they were last time; named ones are kept and taken."""

from __future__ import annotations

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine
from stored import make_job
from textual.content import Content
from textual.widgets import Input

from ai_router import jobs
from ai_router.again import JobItems, ids_of
from ai_router.memory import Memory
from ai_router.models import Registry
from ai_router.presets import Preset, keep_last, last_time, presets, templates
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import PromptDialog
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.run.summary import LABEL, _wrapped
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.options import AFTER, ANY, IN_TURN, NOW, OptionsScreen
from ai_router.tui.setup.presets import PresetsDialog
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.form import YES
from batch.checkpoint import CheckpointStore
from batch.sources import from_prompts


async def opened(pilot: object, app: RouterApp) -> OptionsScreen:
    """The screen of two prompts."""
    app.push_screen(OptionsScreen(from_prompts(["a", "b"]), Registry(app.workspace).get("demo"), 2))
    return await on_screen(pilot, OptionsScreen)  # type: ignore[arg-type]


async def test_what_was_typed_is_there_again_after_going_back(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        screen = await opened(pilot, app)
        screen.sampling_form.fields["max_tokens"].query_one(Input).value = "77"
        screen.run_form.fields["workers"].query_one(Input).value = "3"
        await pilot.pause()
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)
        again = await opened(pilot, app)
        assert again.sampling_form.build().max_tokens == 77 and again.run_form.build().workers == 3
        assert "as last time" in shown(app)
        await pilot.press("f4")
        dialog = await on_screen(pilot, PromptDialog)
        dialog.query_one(Input).value = "long ones"
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is again)
        again.sampling_form.fields["max_tokens"].query_one(Input).value = "5"
        await pilot.pause()
        await pilot.press("f3")
        await on_screen(pilot, PresetsDialog)
        await pilot.press("end", "enter")
        await until(pilot, lambda: again.sampling_form.build().max_tokens == 77)
        assert again.sampling_form.fields["max_tokens"].query_one(Input).value == "77"
        await pilot.press("f3")
        await on_screen(pilot, PresetsDialog)
        await pilot.press("end", "d", "escape")
        await until(pilot, lambda: not presets(Memory(workspace.checkpoints)))


async def test_of_a_job_that_is_run_again_too(workspace: Workspace) -> None:
    """What was typed comes before what the job had, until the way is left."""
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x"}, model="demo")
    source = JobItems(path, ids_of(path, "all"))
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        app.go("again", source, 2, "demo")
        first = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: first.models)
        for value in ("33", "44"):
            await pilot.press("f2")
            screen = await on_screen(pilot, OptionsScreen)
            screen.sampling_form.fields["max_tokens"].query_one(Input).value = value
            await pilot.pause()
            await pilot.press("escape")
            await on_screen(pilot, ChooseModelScreen)
        await pilot.press("f2")
        screen = await on_screen(pilot, OptionsScreen)
        assert screen.sampling_form.build().max_tokens == 44
        assert "options as you left them" in shown(app)


def test_options_of_another_version_are_as_if_nothing_was_kept(workspace: Workspace) -> None:
    memory = Memory(workspace.checkpoints)
    keep_last(memory, "demo", Preset({"no_such_option": 1}, {}))
    assert last_time(memory, "demo") is None
    memory.keep("preset:bad", {"sampling": {"max_tokens": "many"}})
    memory.keep("preset:good", {"sampling": {"max_tokens": 3}})
    assert list(presets(memory)) == ["good"]


async def test_options_of_a_template_are_taken(workspace: Workspace) -> None:
    folder = workspace.root / "templates"
    folder.mkdir()
    (folder / "short.yaml").write_text("model: demo\nsampling: {max_tokens: 9}\nrun: {workers: 2}\n", "utf-8")
    (workspace.root / "other.yaml").write_text("- not a template\n", "utf-8")
    (workspace.root / "ai-router.yaml").write_text("theme: dark\n", "utf-8")
    assert list(templates(workspace.root)) == ["short.yaml"]
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("f3")
        await on_screen(pilot, PresetsDialog)
        await pilot.press("end", "d", "enter")  # a file is not taken away by a key
        await until(pilot, lambda: screen.sampling_form.build().max_tokens == 9)
        assert screen.run_form.build().workers == 2


async def test_a_job_may_wait_for_its_turn(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PaceEngine(held=True)
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        first = app.start_run(jobs.create_job(workspace, jobs.JobPlan("demo"), ["a"]))
        screen = await opened(pilot, app)
        turn = screen.query_one("#turn", ChoiceLine)
        assert turn.value == IN_TURN and AFTER in shown(app)  # both would work on this machine
        for other, value in (("#background", YES), ("#try", ANY)):  # which wait for nothing
            screen.query_one(other, ChoiceLine).value = value
            await until(pilot, lambda: turn.value == NOW and AFTER not in shown(app))
            turn.value = IN_TURN
            await pilot.press("f2")
            await until(pilot, lambda: any("background" in said.message for said in app._notifications))
            assert app.screen is screen and not app.turns.waiting
            app.clear_notifications()
            screen.query_one(other, ChoiceLine).value = screen.query_one(other, ChoiceLine).choices[0]
            await pilot.pause()
        await pilot.press("f2")
        await until(pilot, lambda: app.turns.waiting == 1 and app.screen is not screen)
        await until(pilot, lambda: "1 waiting" in shown(app))
        assert len(app.runs) == 1
        other = jobs.create_job(workspace, jobs.JobPlan("demo"), ["c"])
        app.turns.add(other)
        app.start_run(other)  # somebody does not wait: it has no turn any more
        assert app.turns.waiting == 1
        engine.held = False
        await until(pilot, lambda: len(app.runs) == 3 and not app.live_runs())
        assert first.job.completed == 1 and sum(run.job.completed for run in app.runs.values()) == 4


async def test_a_model_of_a_server_waits_for_no_other(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace.root / "models.yaml").write_text("models:\n  far: {url: 'http://127.0.0.1:9/v1', model: m}\n", "utf-8")
    engine = PaceEngine(held=True)
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        run = app.start_run(jobs.create_job(workspace, jobs.JobPlan("demo"), ["a"]))
        app.push_screen(OptionsScreen(from_prompts(["a"]), app.registry.get("far"), 1))
        screen = await on_screen(pilot, OptionsScreen)
        assert screen.query_one("#turn", ChoiceLine).value == NOW and AFTER not in shown(app)
        engine.held = False
        await until(pilot, lambda: run.wait(0))


async def test_some_are_tried_and_then_the_rest(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: PaceEngine())
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 45)) as pilot:
        prompts = [f"prompt {at}" for at in range(40)]
        app.push_screen(OptionsScreen(from_prompts(prompts), Registry(app.workspace).get("demo"), 40))
        screen = await on_screen(pilot, OptionsScreen)
        screen.query_one("#try", ChoiceLine).value = ANY
        await pilot.pause()
        screen.query_one("#try-count", Input).value = "none"
        await pilot.press("f2")
        await until(pilot, lambda: any("is no number" in said.message for said in app._notifications))
        await until(pilot, lambda: app.screen is screen)
        screen.query_one("#try-count", Input).value = "6"
        await pilot.press("f2")
        run = await on_screen(pilot, RunScreen)
        await until(pilot, lambda: "answer the rest" in shown(app) and "all of it" in shown(app))
        assert "tried 6; 34 prompts left" in shown(app) and "40 prompts," in shown(app)
        with CheckpointStore(run.path) as store:
            tried = store.ids("done")
        assert len(tried) == 6 and tried != list(range(6))
        await pilot.press("p")
        await until(pilot, lambda: "finished: 40 answers" in shown(app), 60)
        with CheckpointStore(run.path) as store:
            assert store.job().completed == 40 and not store.rows("SELECT 1 FROM attempts")


@pytest.mark.parametrize("size", [(120, 30), (80, 24), (40, 24), (40, 12)])
async def test_what_it_costs_is_whole_at_every_size(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(OptionsScreen, "_cost", lambda screen: "$0.000055–$0.0039")
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        await opened(pilot, app)
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: "$0.000055–$0.0039" in shown(app) and "2 prompts" in shown(app))
        await until(pilot, lambda: ("enter starts" in shown(app)) == (size[0] >= 60) and "Start" in shown(app))


def test_a_long_figure_of_a_summary_goes_on_below_itself_where_there_is_room() -> None:
    rows = [Content(f"{'all of it':<{LABEL}}$0.0015, about 0m 21s; 25 prompts, 225 tokens in, 900 out"),
            Content(f"{'answers':<{LABEL}}10 done")]  # fmt: skip
    assert [line.plain for line in _wrapped(rows, 36, 2)] == [
        "all of it  $0.0015, about 0m 21s; 25", "           prompts, 225 tokens in, …", "answers    10 done"
    ]  # fmt: skip
    assert "900 out" in _wrapped(rows, 36, 5)[2].plain
    assert [line.plain for line in _wrapped(rows, 90, 2)] == [row.plain for row in rows]
