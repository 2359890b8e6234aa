"""The form of a new job has its model loaded meanwhile, as the run would have it, and gives it up when it is left."""

from __future__ import annotations

from types import SimpleNamespace

from driving import on_screen, shown, until
from textual.widgets import Input

from ai_router.models import Registry
from ai_router.preloading import Preloaded, Wanted
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.setup.options import OptionsScreen
from batch.sources import from_prompts


class Recorder:
    """What is wanted, in order."""

    def __init__(self) -> None:
        self.wanted: list[Wanted | None] = []
        self.status = ""

    def want(self, wanted: Wanted | None) -> None:
        self.wanted.append(wanted)

    def claim(self) -> Preloaded:
        return Preloaded()


async def test_the_model_of_the_form_is_wanted_as_it_is_chosen_and_not_once_it_is_left(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    recorder = Recorder()
    app._preloading = recorder  # type: ignore[assignment]
    async with app.run_test(size=(100, 40)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a", "b"]), Registry(workspace).get("demo"), 2))
        screen = await on_screen(pilot, OptionsScreen)
        await until(pilot, lambda: recorder.wanted)
        first = recorder.wanted[0]
        assert first is not None and first.spec.id == "demo" and first.sampling == screen.sampling_form.build()
        screen.sampling_form.fields["max_tokens"].query_one(Input).value = "77"
        await until(pilot, lambda: recorder.wanted[-1] is not None and recorder.wanted[-1].sampling.max_tokens == 77)
        for recorder.status, said in (("loading model…", "loading model…"), ("ready", "✓ model loaded")):
            await until(pilot, lambda said=said: said in shown(app))  # type: ignore[misc]
        screen.sampling_form.fields["max_tokens"].query_one(Input).value = "none"
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen and recorder.wanted[-1] is None)


async def test_beside_a_run_nothing_is_loaded_ahead(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    recorder = Recorder()
    app._preloading = recorder  # type: ignore[assignment]
    run = SimpleNamespace(job=SimpleNamespace(model_id="demo"))
    app.live_runs = lambda: [run]  # type: ignore[method-assign, list-item, return-value]
    async with app.run_test(size=(100, 40)) as pilot:
        app.push_screen(OptionsScreen(from_prompts(["a", "b"]), Registry(workspace).get("demo"), 2))
        screen = await on_screen(pilot, OptionsScreen)
        screen._load_ahead()
        assert recorder.wanted == []
