"""The models there are."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import pytest
from driving import footer, on_screen, shown, until
from stored import add_model
from textual.widgets import Input, Static

from ai_router.settings import Workspace, load_workspace
from ai_router.tui import clipboard
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.dialogs import ConfirmDialog, PromptDialog
from ai_router.tui.models import changes
from ai_router.tui.models.screen import ModelsScreen
from ai_router.tui.picking import PickDialog
from ai_router.tui.widgets.table import VirtualTable


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with the base install."""
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "torch" else real(name, *a))


async def opened(pilot: object, app: RouterApp, count: int) -> ModelsScreen:
    """The screen, read."""
    app.go("models")
    screen = await on_screen(pilot, ModelsScreen)  # type: ignore[arg-type]
    await until(pilot, lambda: screen.query_one(VirtualTable).count == count)  # type: ignore[arg-type]
    return screen


def details(screen: ModelsScreen) -> str:
    """The details shown, in one line however they were wrapped."""
    return " ".join(str(screen.query_one("#models-details", Static).render()).split())


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_how_it_looks(
    workspace: Workspace,
    size: tuple[int, int],
    golden: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    without_torch: None,
) -> None:
    monkeypatch.setattr("ai_router.tui.models.screen.home", lambda path: f"~/work/{path.name}")
    monkeypatch.setattr("ai_router.models.registry.DEMO_PATH", add_model(workspace, "tiny"))
    add_model(workspace, "bert", architectures=["BertModel"])
    app = RouterApp(workspace)
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, 3)
        await pilot.pause()
        golden(app, "models")


async def test_what_is_missing_is_said_with_its_command(
    workspace: Workspace, without_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "done")
    add_model(workspace, "tiny")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, app, 2)
        assert 'needs torch: pip install "ai-router[local]"' in " ".join(details(screen).split())
        assert "ask" not in footer(app)
        await pilot.press("c")
        await until(pilot, lambda: copied == ['pip install "ai-router[local]"'])
        await pilot.press("enter")
        await until(pilot, lambda: "is not ready" in shown(app))


async def test_make_default_is_kept(workspace: Workspace) -> None:
    add_model(workspace, "tiny")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app, 2)
        await pilot.press("down", "d")
        await until(pilot, lambda: app.workspace.settings.model == "tiny")
        assert "used when none is named" in details(screen)
        assert "make default" not in footer(app)
    assert load_workspace(workspace.root).settings.model == "tiny"


async def test_ask_the_model_under_the_cursor(workspace: Workspace) -> None:
    add_model(workspace, "tiny")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, app, 2)
        await pilot.press("down", "a")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: screen.context_text.startswith("tiny"))


async def test_refresh_finds_new_folders(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, app, 1)
        add_model(workspace, "later")
        await pilot.press("R")
        await until(pilot, lambda: screen.query_one(VirtualTable).count == 2)


async def test_a_broken_models_file_is_said(workspace: Workspace) -> None:
    workspace.models_file.write_text("models: [")
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        screen = await opened(pilot, app, 1)
        assert "Cannot read" in details(screen)


async def test_what_scored_jobs_have_shown(workspace: Workspace) -> None:
    from ai_router.routing.evidence import Evidence, Graded

    evidence = Evidence.of(workspace)
    evidence.add(Graded(f"What is {n} * 7?", "demo", float(n < 30), "job") for n in range(40))
    evidence.add(Graded(f"Write a poem about {n} cats", "demo", 1.0, "job") for n in range(3))
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app, len(app.registry.all()))
        await until(pilot, lambda: "shown by scored jobs" in details(screen))
        rate = evidence.rates().of("demo", "math")
        assert rate is not None
        assert f"math {rate.mean:.0%} right ({rate.low:.0%}–{rate.high:.0%}), n=40" in details(screen)
        assert "creative not enough evidence, n=3" in details(screen)


async def test_add_writes_an_entry_and_keeps_comments(workspace: Workspace) -> None:
    place = add_model(workspace, "tiny")
    workspace.models_file.write_text("# mine\nmodels: {}\n")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, app, 2)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, PromptDialog))
        app.screen.query_one(Input).value = str(place)
        await pilot.press("enter")
        await until(pilot, lambda: "added to" in shown(app))
        assert "# mine" in workspace.models_file.read_text() and str(place) in workspace.models_file.read_text()
        await until(pilot, lambda: any(spec.source == "models.yaml" for spec in screen._models))
        await until(pilot, lambda: (spec := screen.model_at_hand()) is not None and spec.source == "models.yaml")


async def test_adapters_found_for_a_model_are_offered(workspace: Workspace) -> None:
    place = add_model(workspace, "tiny")
    (place / "poet").mkdir()
    (place / "poet" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, app, 3)
        screen.query_one(VirtualTable).cursor = [spec.id for spec in screen._models].index("tiny")
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, PickDialog) and "tiny+poet" in shown(app))
        await pilot.press("enter")
        ask = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: "tiny+poet" in shown(app))
        assert ask is app.screen


async def test_what_is_typed_over_the_list_goes_into_the_field(workspace: Workspace) -> None:
    place = add_model(workspace, "tiny")
    (place / "poet").mkdir()
    (place / "poet" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, app, 3)
        screen.query_one(VirtualTable).cursor = [spec.id for spec in screen._models].index("tiny")
        await pilot.press("l")
        dialog = await on_screen(pilot, PickDialog)
        await pilot.press("x", "y")
        await until(pilot, lambda: dialog.query_one(Input).value == "xy")


async def test_a_pull_says_how_far_it_is_and_stops(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_router.models import pulling

    add_model(workspace, "tiny")

    def pull(name: str, progress: Any, moved: Any) -> None:
        progress(f"1 of 1: {name}.gguf (9.0 MB)")
        while moved(3_000_000, 9_000_000):
            time.sleep(0.01)
        raise pulling.PullStoppedError("It was stopped; what has come is kept: pull it again to go on")

    monkeypatch.setattr(pulling, "pull", pull)
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await opened(pilot, app, 2)
        await pilot.press("p")
        dialog = await on_screen(pilot, PromptDialog)
        dialog.query_one(Input).value = "org/m"
        await pilot.press("enter")
        await until(pilot, lambda: "3 of 9 MB, 33%" in shown(app))
        await pilot.press("p")
        await until(pilot, lambda: "It was stopped" in shown(app) and "p stops" not in shown(app))


async def test_the_cursor_goes_to_what_was_pulled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_router.models import pulling

    monkeypatch.setattr(pulling, "pull", lambda name, progress, moved: add_model(workspace, "tiny"))
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, app, 1)
        await pilot.press("p")
        dialog = await on_screen(pilot, PromptDialog)
        dialog.query_one(Input).value = "org/m"
        await pilot.press("enter")
        await until(pilot, lambda: (spec := screen.model_at_hand()) is not None and spec.id == "tiny")


async def test_a_test_shows_how_quick_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_router import trial

    async def tried(spec: Any) -> trial.Trial:
        return trial.Trial(seconds=2.0, answered=8, tokens=100, together=8, load_seconds=1.5, peak_bytes=2 * 10**9)

    monkeypatch.setattr(trial, "try_model", tried)
    add_model(workspace, "tiny")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app, 2)
        await pilot.press("down", "t")
        await until(pilot, lambda: "4.0 answers/s, 50 tokens/s with 8 at once" in shown(app))
        assert "2.00 GB at most" in shown(app)


async def test_an_entry_is_removed_when_that_is_said_twice(workspace: Workspace) -> None:
    place = add_model(workspace, "tiny")
    workspace.models_file.write_text(f"models:\n  # mine\n  own:\n    path: {place}\n")
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, app, 2)
        assert "remove" not in footer(app)
        await pilot.press("x")  # nothing can be removed of what comes with it
        screen.query_one(VirtualTable).cursor = [spec.id for spec in screen._models].index("own")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog) and "Remove own?" in shown(app))
        await pilot.press("r")
        await until(pilot, lambda: "removed from" in shown(app))
        await until(pilot, lambda: [spec.id for spec in screen._models] == ["demo", "tiny"])
    assert workspace.models_file.read_text() == "models:\n  # mine\n" and place.is_dir()


async def test_models_yaml_opens_in_the_editor_and_is_read_afterwards(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = add_model(workspace, "tiny")

    def edited(screen: Any, variable: str, file: Any) -> bool:
        file.write_text(f"models: {{own: {{path: {place}}}}}")
        return variable == "EDITOR"

    monkeypatch.setattr(changes, "open_in", edited)
    app = RouterApp(workspace)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, app, 2)
        await pilot.press("E")
        await until(pilot, lambda: [spec.id for spec in screen._models] == ["demo", "own"])
