"""Again, with changes; names and tags; the trash and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import on_screen, shown, until
from pace_engine import PaceEngine
from stored import add_model, make_dataset_job, make_job
from textual.widgets import Button, Input, TextArea

from ai_router.again import AgainError, JobItems, as_before, edited, ids_of
from ai_router.memory import Memory
from ai_router.models import Registry
from ai_router.presets import Preset, keep_last
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.labels import LabelDialog
from ai_router.tui.jobs.screen import JobsScreen
from ai_router.tui.results.dialogs import EditDialog
from ai_router.tui.results.reading import ReadingScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.run.screen import RunScreen
from ai_router.tui.setup.auto import AutoScreen
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.options import OptionsScreen
from ai_router.tui.setup.presets import PresetsDialog
from ai_router.tui.setup.source_view import PreviewPanel
from ai_router.tui.widgets.table import VirtualTable
from batch.checkpoint import CheckpointStore, list_jobs
from batch.checkpoint.about import About, read_about
from batch.items import Request
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> PaceEngine:
    """In the place of every model."""
    engine = PaceEngine()
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture
def path(workspace: Workspace) -> Path:
    """Four items: two answers, a failure, one pending."""
    return make_job(workspace.checkpoints, ["a", "b", "c", "d"], {0: "x", 1: None, 2: "y"}, job_id="aaaaaaaa")


def texts(path: Path) -> list[str]:
    """The prompts of a job."""
    with CheckpointStore(path) as store:
        return list(store.job().prompts)


def newest(workspace: Workspace, old: Path) -> Path:
    """The job that was made just now."""
    (path,) = [info.file for info in list_jobs(workspace.checkpoints) if info.file != old]
    return path


async def through_the_options(pilot: object, app: RouterApp) -> None:
    """Take the model under the cursor and the options as they are."""
    await on_screen(pilot, ChooseModelScreen)  # type: ignore[arg-type]
    await until(pilot, lambda: app.screen.query_one(VirtualTable).count)  # type: ignore[arg-type]
    await pilot.press("enter")  # type: ignore[attr-defined]
    await on_screen(pilot, OptionsScreen)  # type: ignore[arg-type]
    await pilot.press("f2")  # type: ignore[attr-defined]
    await on_screen(pilot, RunScreen)  # type: ignore[arg-type]
    await until(pilot, lambda: not app.live_runs())  # type: ignore[arg-type]


async def test_the_failed_ones_become_a_job_of_their_own(workspace: Workspace, path: Path, engine: PaceEngine) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.go("jobs")
        screen = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: screen.query_one(VirtualTable).count == 1)
        await pilot.press("a")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("f")
        await through_the_options(pilot, app)
    assert texts(newest(workspace, path)) == ["b"] and texts(path) == ["a", "b", "c", "d"]


async def test_marked_rows_and_an_edited_prompt(workspace: Workspace, path: Path, engine: PaceEngine) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: screen.query_one(VirtualTable).row(0) is not None)
        await pilot.press("space", "down", "space", "a")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("m")
        await through_the_options(pilot, app)
        made = newest(workspace, path)
        assert texts(made) == ["a", "c"]
        app.action_home()
        app.open_results(made)
        await until(pilot, lambda: isinstance(app.screen, ResultsScreen) and app.screen.path == made)
        await pilot.pause()
        await until(pilot, lambda: app.screen.query(VirtualTable) and app.screen.query_one(VirtualTable).row(0))
        await pilot.press("enter")
        await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "PROMPT" in shown(app))
        await pilot.press("e")
        dialog = await on_screen(pilot, EditDialog)
        dialog.query_one(TextArea).text = "another"
        await pilot.press("f3")
        await through_the_options(pilot, app)
    assert sorted(len(texts(info.file)) for info in list_jobs(workspace.checkpoints)) == [1, 2, 4]
    assert ["another"] in [texts(info.file) for info in list_jobs(workspace.checkpoints)]


@pytest.mark.parametrize("beside", [False, True])
async def test_an_edited_prompt_runs_as_before_by_one_key(
    workspace: Workspace, engine: PaceEngine, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    options = {"sampling": {"max_tokens": 7}, "run": {"workers": 3}}
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x", 1: "y"}, config=options)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.open_results(path)
        screen = await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: screen.query_one(VirtualTable).row(0) is not None)
        await pilot.press("down", "enter", "e")
        await on_screen(pilot, EditDialog)
        if beside:
            monkeypatch.setattr(app, "live_runs", lambda: [None])
        await pilot.press("end", *"et", "f2")
        if beside:
            await until(pilot, lambda: app.turns.waiting == 1)
            assert isinstance(app.screen, ReadingScreen)
            monkeypatch.delattr(app, "live_runs")
        else:
            await on_screen(pilot, RunScreen)
        await until(pilot, lambda: len(app.runs) == 1 and not app.live_runs())
    made = newest(workspace, path)
    with CheckpointStore(made) as store:
        job = store.job()
    assert texts(made) == ["bet"] and job.model_id == "demo" and job.completed == 1
    for part, wanted in options.items():
        assert wanted.items() <= job.config[part].items()
    items = JobItems(path, [1])
    items.job.config["details"] = {"no_adapter": True, "engine": "torch"}
    plan, spec = as_before(app.registry, workspace, items)
    assert plan.details["no_adapter"] and plan.details["engine"] == spec.engine == "torch"


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_a_prompt_to_be_changed_takes_the_room_it_needs(size: tuple[int, int], workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        for text, least, most in (("short", 4, 4), ("word " * 2000, size[1] // 2, size[1] - 7)):
            dialog = EditDialog(text)
            app.push_screen(dialog)
            await on_screen(pilot, EditDialog)
            await pilot.pause()
            area, box = dialog.query_one(TextArea), dialog.query_one("#dialog")
            assert least <= area.size.height <= most
            assert (
                box.region.height == area.size.height + 6 and dialog.query_one(Button).region.bottom < box.region.bottom
            )
            assert box.region.width >= min(98, size[0] * 0.9)
            await pilot.press("escape")


async def test_what_is_run_again_is_seen_where_the_model_is_chosen(workspace: Workspace, path: Path) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        app.go("again", JobItems(path, ids_of(path, "failed")), 1)
        screen = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: [e.request.text for e in screen.query_one(PreviewPanel).entries if e.request] != [])
        assert all(text in shown(app) for text in (e.request.text for e in screen._first if e.request))


def test_a_chat_keeps_its_other_messages_and_no_model() -> None:
    chat = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}], "custom_id": "x"}
    given = Request("a", chat, "other", "because")
    made = edited(given, "b")
    assert made.extra is not None and made.extra["messages"][1]["content"] == "b" and made.text == "b"
    assert (made.model, made.reason) == (None, None) and chat["messages"][1]["content"] == "a"  # type: ignore[index]
    assert edited(given, None).extra == chat


def test_known_answers_stay_known(workspace: Workspace) -> None:
    old = make_dataset_job(workspace.checkpoints, [("e", "f", "f", "x"), ("g", "h", None, None)], job_id="12345678")
    source = JobItems(old, ids_of(old, "failed"))
    plan = source.plan(Registry(workspace).get("demo"), SamplingOptions(max_tokens=5), RunOptions(), workspace)
    assert (plan.kind, plan.model, plan.sampling.max_tokens) == ("dataset", "demo", 5)
    (request,) = source.requests()
    assert request.extra is not None and request.extra["expected"] == "h" and request.extra["example_id"] == 2
    assert source.bytes > 0 and not source.openai_batch


def test_what_no_other_model_can_answer_is_refused(workspace: Workspace) -> None:
    job = BatchProcessor(workspace.checkpoints).create_job("rq", ["1"], config={"kind": "semantic-ids"})
    assert job.checkpoint_file is not None
    with pytest.raises(AgainError, match="no other model"):
        JobItems(job.checkpoint_file, [0])
    other = make_job(workspace.checkpoints, ["a"], {0: "x"})
    with pytest.raises(AgainError, match="no such items"):
        JobItems(other, [])


async def test_names_tags_and_the_trash(workspace: Workspace, path: Path) -> None:
    second = make_job(workspace.checkpoints, ["z"], {0: "x"}, job_id="bbbbbbbb", at="2025-03-01T09:00:00")
    app = RouterApp(workspace)
    async with app.run_test(size=(109, 30)) as pilot:
        app.go("jobs")
        screen = await on_screen(pilot, JobsScreen)
        table = screen.query_one(VirtualTable)
        await until(pilot, lambda: table.count == 2)
        await pilot.press("n")
        dialog = await on_screen(pilot, LabelDialog)
        dialog.query_one("#label-name", Input).value = "first try"
        dialog.query_one("#label-tags", Input).value = "good, small"
        await pilot.press("f2")
        await until(pilot, lambda: "first try #good" in shown(app))
        assert read_about(path) == About("first try", ("good", "small"))
        await pilot.press("space", "space")
        assert screen.marked == {path, second}
        await pilot.press("n")
        dialog = await on_screen(pilot, LabelDialog)
        assert not dialog.query("#label-name")  # none is taken and dropped
        dialog.query_one("#label-tags", Input).value = "both"
        await pilot.press("f2")
        await until(pilot, lambda: not screen.marked and "prompts.txt #both" in shown(app))
        assert read_about(path) == About("first try", ("both", "good", "small"))
        await pilot.press("slash", *"#good", "enter")
        await until(pilot, lambda: table.count == 1)
        await pilot.press("escape", "g", "space", "space", "d")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("d")
        await until(pilot, lambda: table.count == 0)
        assert not path.exists() and not second.exists()
        await pilot.press("U")
        await until(pilot, lambda: table.count == 2)
        assert read_about(path).name == "first try" and texts(second) == ["z"]


async def test_what_was_answered_wrongly_runs_again(workspace: Workspace) -> None:
    rows = [("a", "x", "x", None), ("b", "y", "z", None), ("c", "y", None, "noun"), ("d", "w", " v", None)]
    path = make_dataset_job(workspace.checkpoints, rows, job_id="dddddddd")
    assert ids_of(path, "wrong") == [1, 3]
    app = RouterApp(workspace)
    async with app.run_test(size=(110, 30)) as pilot:
        app.go("results", path)
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "done 3" in shown(app))
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog) and "Wrong" in shown(app))
        await pilot.press("w")
        screen = await on_screen(pilot, ChooseModelScreen)
        assert screen.total == 2
    right = make_dataset_job(workspace.checkpoints, rows[:1], job_id="eeeeeeee")
    with pytest.raises(AgainError, match="None of 1"):
        ids_of(right, "wrong")


async def test_a_routed_job_is_offered_a_model_for_each_prompt_again(workspace: Workspace) -> None:
    requests = [Request(text, model="demo", reason="cheapest") for text in ("a", "b")]
    job = BatchProcessor(workspace.checkpoints).create_job("demo", requests)
    assert job.checkpoint_file is not None
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 30)) as pilot:
        app.go("jobs")
        screen = await on_screen(pilot, JobsScreen)
        await until(pilot, lambda: screen.query_one(VirtualTable).count == 1)
        await pilot.press("a")
        auto = await on_screen(pilot, AutoScreen)
        await until(pilot, lambda: auto.plan is not None)
        await pilot.press("escape")  # or one for all of them
        choose = await on_screen(pilot, ChooseModelScreen)
        await until(pilot, lambda: choose.chosen is not None)
        await pilot.press("escape")
        await on_screen(pilot, JobsScreen)


async def test_what_is_run_again_begins_with_the_options_of_its_job(workspace: Workspace) -> None:
    config = {"sampling": {"system": "Be brief", "max_tokens": 99}, "run": {"retries": 7}}
    path = make_job(workspace.checkpoints, ["a", "b"], {0: "x", 1: None}, config=config)
    keep_last(Memory(workspace.checkpoints), "demo", Preset({"max_tokens": 5}, {"retries": 1}))
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        app.push_screen(OptionsScreen(JobItems(path, [1]), app.registry.get("demo"), 1))
        screen = await on_screen(pilot, OptionsScreen)
        await until(pilot, lambda: "options of the job" in shown(app))
        assert screen.sampling_form.build() == SamplingOptions(system="Be brief", max_tokens=99)
        assert screen.run_form.build().retries == 7
        await pilot.press("f3")
        dialog = await on_screen(pilot, PresetsDialog)
        assert list(dialog._found) == ["As in the job", "As last time", "As they come"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: screen.sampling_form.build() == SamplingOptions(max_tokens=5))
    add_model(workspace, "other")
    items = JobItems(path, [1])
    assert items.options_for("other") == Preset(config["sampling"])  # a lane or a budget is of its model
