"""One prompt, one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from driving import on_screen, paste, shown, type_text, until
from pace_engine import PaceEngine
from stored import add_model
from textual.pilot import Pilot
from textual.widgets import Button, Static

from ai_router.asking import EnginePool
from ai_router.models import ModelSpec, describe_folder
from ai_router.settings import Workspace
from ai_router.tui import clipboard
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.prompt_area import PromptArea
from ai_router.tui.ask.screen import AskScreen, OptionsDialog
from ai_router.tui.menu import MenuScreen
from ai_router.tui.widgets.text_view import TextView
from batch.engines.desk import Desk
from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions


class Engines:
    """A pool whose engines are doubles, and what it made."""

    def __init__(self, **pace: Any) -> None:
        self.pace = pace
        self.made: list[PaceEngine] = []
        self.fail = ""
        self.requests: list[Request] = []
        self.pool = EnginePool(self.make)

    def make(self, spec: ModelSpec) -> Any:
        if self.fail:
            raise FatalError(self.fail)
        owner = self

        class Heard(PaceEngine):
            async def answer(
                self, items: AsyncIterator[BatchItem[Request]], desk: Desk
            ) -> AsyncIterator[BatchResponse[Answer]]:
                async def heard() -> AsyncIterator[BatchItem[Request]]:
                    async for item in items:
                        owner.requests.append(item.data)
                        yield item

                async for response in super().answer(heard(), desk):
                    yield response

        self.made.append(Heard(**self.pace))
        return self.made[-1]


async def opened(pilot: Pilot[Any], engines: Engines) -> AskScreen:
    """The screen with its model found."""
    app = pilot.app
    assert isinstance(app, RouterApp)
    app.engines = engines.pool
    app.go("ask")
    screen = await on_screen(pilot, AskScreen)
    await until(pilot, lambda: screen._spec is not None)
    return screen


def status(screen: AskScreen) -> str:
    """The line below the answer."""
    return str(screen.query_one("#ask-status", Static).render())


def answer(screen: AskScreen) -> str:
    """The text above."""
    return screen.query_one(TextView).plain


async def test_an_answer_is_written_and_measured(workspace: Workspace) -> None:
    engines = Engines(word_seconds=0.01)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        assert "Type a prompt below" in answer(screen)
        await type_text(pilot, "What is a deque?")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        assert "❯ What is a deque?" in answer(screen)
        assert "An answer to: What is a deque?" in answer(screen)
        assert "tok/s" in status(screen) and "tokens" in status(screen)
        assert screen.query_one(PromptArea).text == ""


async def test_the_line_below_an_answer_breaks_between_its_figures(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test(size=(44, 24)) as pilot:
        screen = await opened(pilot, Engines())
        await type_text(pilot, "What is a deque?")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        lines = status(screen).splitlines()
        assert len(lines) > 1 and all(len(line) <= 44 and not line.endswith("·") for line in lines)


async def test_the_text_grows(workspace: Workspace) -> None:
    engines = Engines(word_seconds=0.05, loading=True, answer=lambda text: "An answer " * 2000 + f"to: {text}")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        engines.pool.warm_up = lambda spec: None  # type: ignore[method-assign]  # the loading is to be seen
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "loading model" in status(screen))
        (engine,) = engines.made
        engine.loading = False
        await until(pilot, lambda: "writing" in status(screen) and "An" in answer(screen))
        assert "to: Go" not in answer(screen)
        engine.word_seconds = 0
        await until(pilot, lambda: "✓ done" in status(screen))


async def test_stop_keeps_what_has_come(workspace: Workspace) -> None:
    engines = Engines(word_seconds=0.1, answer=lambda _: "word " * 1000)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "word word" in answer(screen))
        assert screen.query_one("#ask-stop").display
        await pilot.press("escape")
        await until(pilot, lambda: "stopped" in status(screen))
        assert "word word" in answer(screen)
        assert isinstance(app.screen, AskScreen)
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)


async def test_the_engine_stays_warm(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        for number in range(3):
            await type_text(pilot, f"Prompt {number}")
            await pilot.press("enter")
            await until(pilot, lambda number=number: f"to: Prompt {number}" in answer(screen))  # type: ignore[misc]
        assert len(engines.made) == 1
        engines.pool.close(wait=5)
        assert engines.made[0].closed
        await type_text(pilot, "Again")
        await pilot.press("enter")
        await until(pilot, lambda: "to: Again" in answer(screen))
        assert len(engines.made) == 2
    assert engines.made[1].closed


async def test_a_batch_run_gets_the_memory(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from stored import make_job

    from ai_router import jobs

    engines = Engines()
    monkeypatch.setattr("ai_router.jobs.make_engine", lambda *_, **__: PaceEngine())
    path = make_job(workspace.checkpoints, ["a"], {})
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        job = jobs.open_job(workspace, str(path))
        run = app.start_run(job)
        assert engines.made[0].closed
        await until(pilot, lambda: run.wait(0))


async def test_a_model_that_does_not_load_is_a_message(workspace: Workspace) -> None:
    engines = Engines()
    engines.fail = "cannot load the model: [red]no[/] memory"
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✗ cannot load the model: [red]no[/] memory" in status(screen))
        assert screen.query_one(PromptArea).text == "Go"  # enter tries again
        engines.fail = ""
        await pilot.press("enter")
        await until(pilot, lambda: "to: Go" in answer(screen))


async def test_an_item_that_fails_is_a_message(workspace: Workspace) -> None:
    engines = Engines(fails=lambda item: Failure(ErrorClass.PERMANENT, "the prompt is too long"))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✗ the prompt is too long" in status(screen))


async def test_an_empty_answer_is_a_failure(workspace: Workspace) -> None:
    engines = Engines(answer=lambda _: " ")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✗ the answer is empty" in status(screen))


async def test_a_crash_of_the_engine_makes_a_new_one(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)

    class Crashing(PaceEngine):
        async def answer(
            self, items: AsyncIterator[BatchItem[Request]], desk: Desk
        ) -> AsyncIterator[BatchResponse[Answer]]:
            raise RuntimeError("out of luck")
            yield

    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        make, engines.pool._make = engines.pool._make, lambda spec: Crashing()
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "out of luck" in status(screen))
        engines.pool._make = make
        await pilot.press("enter")
        await until(pilot, lambda: "to: Go" in answer(screen))


async def test_several_lines_are_one_prompt(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await paste(pilot, "one\ntwo")
        await pilot.press("ctrl+j", "x", "enter")
        await until(pilot, lambda: engines.requests)
        assert engines.requests[0].text == "one\ntwo\nx"
        await until(pilot, lambda: "✓ done" in status(screen))
        await pilot.press("up")
        assert screen.query_one(PromptArea).text == "one\ntwo\nx"


async def test_options_reach_the_engine(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 40)) as pilot:
        screen = await opened(pilot, engines)
        app.ask_options = SamplingOptions(system="Be brief", max_tokens=7)
        screen._show_context()
        assert "max_tokens 7" in screen.context_text
        await pilot.press("f3")
        await on_screen(pilot, OptionsDialog)
        app.screen.query_one("#field-temperature Input").value = "0.5"  # type: ignore[attr-defined]
        await pilot.pause()
        app.screen.query_one("#options-use", Button).press()
        await on_screen(pilot, AskScreen)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: engines.requests)
        request = engines.requests[0]
        assert request.messages[0] == {"role": "system", "content": "Be brief"}
        assert request.params == {"max_tokens": 7, "temperature": 0.5}


async def test_a_model_that_is_not_ready_says_why(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        screen._take_model(describe_folder(workspace.root / "nowhere", source="found"))
        assert "not ready: no such folder" in status(screen)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        assert not engines.made
        assert screen.query_one(PromptArea).text == "Go"


async def test_another_model(workspace: Workspace) -> None:
    add_model(workspace, "tiny")
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await pilot.press("f2", "down", "enter")
        await until(pilot, lambda: screen.context_text.startswith("tiny"))


async def test_hostile_text_is_shown_not_obeyed(workspace: Workspace) -> None:
    from stored import NASTY

    engines = Engines(answer=lambda _: NASTY)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        assert "[bold red]not bold[/]" in shown(app)
        assert "\x1b" not in shown(app) and "\u202e" not in shown(app)


async def test_copy(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "done")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, Engines())
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen))
        await pilot.press("f4")
        await until(pilot, lambda: copied == ["An answer to: Go"])


async def test_leaving_stops_the_answer(workspace: Workspace) -> None:
    engines = Engines(word_seconds=0.1, answer=lambda _: "word " * 1000)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await type_text(pilot, "Go")
        await pilot.press("enter")
        await until(pilot, lambda: "word" in answer(screen))
        app.go("home")
        await until(pilot, lambda: screen._asking is not None and screen._asking.over)


@pytest.mark.model
@pytest.mark.slow  # a real model answers a run's screen in test_app.py, and in `ai-router ask`
async def test_the_real_model_answers(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.go("ask")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: screen._spec is not None)
        await type_text(pilot, "What is a deque?")
        await pilot.press("enter")
        await until(pilot, lambda: "✓ done" in status(screen), seconds=300)
        assert "double-ended queue" in " ".join(answer(screen).split())
        assert app.engines.warm == "demo"
