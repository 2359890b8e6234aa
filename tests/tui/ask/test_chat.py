"""A chat that remembers: turns, drafts, chats of before, Markdown, code, thinking, the model loaded while one types."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from driving import footer, on_screen, shown, type_text, until
from stored import add_model
from test_ask import Engines, answer, opened, status
from textual.widgets import Input, OptionList

from ai_router.memory import Memory, Turn
from ai_router.models import ModelSpec
from ai_router.models.remote import remote_spec
from ai_router.settings import Workspace
from ai_router.tui import clipboard
from ai_router.tui.app import RouterApp
from ai_router.tui.ask.chats import ChatsDialog
from ai_router.tui.ask.chatting import save_code
from ai_router.tui.ask.dialogs import ModelDialog, OptionsDialog
from ai_router.tui.ask.prompt_area import PromptArea
from ai_router.tui.ask.remembering import Choice, Conversation, answer_blocks
from ai_router.tui.ask.screen import AskScreen
from ai_router.tui.ask.second import SecondModel
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.menu import MenuScreen
from ai_router.tui.setup.choose_model import ChooseModelScreen
from ai_router.tui.setup.options import OptionsScreen
from ai_router.tui.widgets.text_view import TextView
from batch.errors import ErrorClass, Failure
from batch.options import SamplingOptions
from batch.thinking import thinking_apart
from tests.servers.chat_server import delta, event, serving

CODE = "<think>secret plan</think>Here:\n\n```python\nprint(1)\n```\n"


async def ask(pilot: object, screen: AskScreen, prompt: str) -> None:
    """Ask, and wait for the end."""
    had = len(screen.conversation.turns)
    screen._put(prompt)
    await pilot.press("enter")  # type: ignore[attr-defined]
    await until(pilot, lambda: len(screen.conversation.turns) > had)  # type: ignore[arg-type]


async def test_turns_go_on_and_are_there_in_the_next_session(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines()
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, *_: copied.append(text) or "done")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        app.ask_options = SamplingOptions(system="Be brief", max_tokens=9)
        await ask(pilot, screen, "One zebra")
        await ask(pilot, screen, "Two")
        messages = engines.requests[-1].messages
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
        assert messages[2]["content"] == "An answer to: One zebra"
        assert answer(screen).index("One zebra") < answer(screen).index("❯ Two")
        await pilot.press("ctrl+n")
        await ask(pilot, screen, "Other")
        assert len(engines.requests[-1].messages) == 2
        await type_text(pilot, "half a tho")
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
    again, engines = RouterApp(workspace), Engines()
    async with again.run_test() as pilot:
        screen = await opened(pilot, engines)
        area = screen.query_one(PromptArea)
        assert area.text == "half a tho"
        area.text = ""
        await pilot.press("up")
        assert area.text == "Other"
        await pilot.press("up")
        assert area.text == "Two"
        await pilot.press("f7")
        dialog = await on_screen(pilot, ChatsDialog)
        await until(pilot, lambda: "Other" in shown(again) and "One zebra" in shown(again))
        dialog.query_one(Input).value = "zebra"
        await until(pilot, lambda: "1 chat" in shown(again))
        await pilot.press("enter")
        await until(pilot, lambda: len(screen.conversation.turns) == 2 and "An answer to: Two" in answer(screen))
        assert again.ask_options == SamplingOptions(system="Be brief", max_tokens=9)
        await until(pilot, lambda: screen._spec is not None)
        await pilot.press("f4")
        await until(pilot, lambda: copied == ["An answer to: Two"])
        await ask(pilot, screen, "Three")
        assert [m["content"] for m in engines.requests[-1].messages if m["role"] == "user"] == [
            "One zebra", "Two", "Three"
        ]  # fmt: skip
    assert [chat.turns for chat in Memory(workspace.checkpoints).chats()] == [3, 1]


async def test_one_comes_back_to_the_chat_one_left(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await ask(pilot, screen, "First question")
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        await pilot.press("1")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: "❯ First question" in answer(screen))
        await until(pilot, lambda: screen._spec is not None)
        await ask(pilot, screen, "Second")
        assert len(engines.requests[-1].messages) == 3
        await pilot.press("ctrl+n", "escape")
        await on_screen(pilot, MenuScreen)
        await pilot.press("1")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: screen._spec is not None)
        assert "First question" not in answer(screen)


async def test_the_model_and_the_options_of_last_time(workspace: Workspace) -> None:
    """They are there in the next session: those that were chosen, until the settings name another model."""
    model = add_model(workspace, "tiny")
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, Engines())
        await pilot.press("f2", "down", "enter")
        await until(pilot, lambda: screen.context_text.startswith("tiny"))
        await pilot.press("f3")
        (await on_screen(pilot, OptionsDialog)).dismiss(SamplingOptions(max_tokens=77))
        await until(pilot, lambda: "77" in screen.context_text)

    async def at_start(workspace: Workspace) -> tuple[str, SamplingOptions]:
        app = RouterApp(workspace)
        async with app.run_test() as pilot:
            screen = await opened(pilot, Engines())
            assert screen._spec is not None
            return screen._spec.id, screen._options()

    name, options = await at_start(workspace)
    assert (name, options.max_tokens) == ("tiny", 77)
    add_model(workspace, "other")
    other = replace(workspace, settings=replace(workspace.settings, model="other"))
    assert (await at_start(other))[0] == "other"
    default = Choice("tiny", workspace.settings.model)
    default.keep(Memory(workspace.checkpoints))
    shutil.rmtree(model)
    assert (await at_start(workspace))[0] == workspace.settings.model  # as that one is no more


async def test_options_of_a_preset_are_those_of_the_chat_one_comes_back_to(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, Engines())
        await ask(pilot, screen, "First question")
        await pilot.press("escape")
        await on_screen(pilot, MenuScreen)
        app.ask_options = SamplingOptions(max_tokens=7)
        await pilot.press("1")
        screen = await on_screen(pilot, AskScreen)
        await until(pilot, lambda: "First question" in answer(screen))
        assert screen._options().max_tokens == 7


async def test_a_chat_that_was_taken_away_comes_back(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, Engines())
        await ask(pilot, screen, "One zebra")
        await pilot.press("f7")
        await on_screen(pilot, ChatsDialog)
        await until(pilot, lambda: "1 chat" in shown(app))
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "0 chats" in shown(app))
        await pilot.press("ctrl+z")
        await until(pilot, lambda: "1 chat" in shown(app))
    memory = Memory(workspace.checkpoints)
    assert [turn.prompt for turn in memory.turns(memory.chats("zebra")[0].id)] == ["One zebra"]


async def test_pages_of_a_long_chat_and_what_escape_does(workspace: Workspace) -> None:
    engines = Engines(answer=lambda text: f"{text}\n" * 40, word_seconds=0.0)
    app = RouterApp(workspace)
    async with app.run_test(size=(100, 24)) as pilot:
        screen = await opened(pilot, engines)
        view = screen.query_one("#ask-answer", TextView)
        await ask(pilot, screen, "first")
        await ask(pilot, screen, "second")
        await until(pilot, lambda: view.scroll_offset.y == view.max_scroll_y > 40)  # a new question is in sight
        await pilot.press("pageup")
        await until(pilot, lambda: view.scroll_offset.y < view.max_scroll_y)
        await pilot.press("pagedown")
        await until(pilot, lambda: view.scroll_offset.y == view.max_scroll_y)
        assert "back" in footer(app) and "stop" not in footer(app)
        engines.pool.close()
        engines.pace = {"answer": lambda text: "word " * 200, "word_seconds": 0.05}
        await type_text(pilot, "third")
        await pilot.press("enter")
        await until(pilot, lambda: "stop" in footer(app))
        assert "back" not in footer(app)
        await pilot.press("escape")
        await until(pilot, lambda: "back" in footer(app) and "stop" not in footer(app))
        assert app.screen is screen


def test_who_answered_is_said_where_several_did() -> None:
    conversation = Conversation(None, print)  # type: ignore[arg-type]
    conversation.turns = [Turn("a", "b", "one"), Turn("c", "d", "one")]
    assert not any("one" in block.text for block in conversation.blocks(unfolded=False))
    conversation.turns.append(Turn("e", "f", "two"))
    said = [block.text for block in conversation.blocks(unfolded=False)]
    assert said.count("→ one") == 2 and said.count("→ two") == 1


def test_a_chat_ends_with_its_last_line() -> None:
    """A box of one line would show none of it else."""
    conversation = Conversation(None, print)  # type: ignore[arg-type]
    conversation.turns = [Turn("a", "b", "one"), Turn("c", "d", "one")]
    assert [block.text for block in conversation.blocks(unfolded=False)] == ["❯ a", "", "b", "", "❯ c", "", "d"]


async def test_what_failed_is_shown_and_goes_before_no_question(workspace: Workspace) -> None:
    failures = [Failure(ErrorClass.PERMANENT, "no room")]
    engines = Engines(fails=lambda item: failures.pop() if failures else None)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        await ask(pilot, screen, "Fails")
        assert screen.query_one(PromptArea).text == "Fails" and "no room" in answer(screen)
        await ask(pilot, screen, "Goes")
        assert len(engines.requests[-1].messages) == 1


async def test_markdown_code_thinking_and_a_batch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr("ai_router.tui.clipboard.copy", lambda text, *_: copied.append(text) or "Copied")
    engines = Engines(answer=lambda text: CODE)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        app.ask_options = SamplingOptions(system="Be brief", max_tokens=33)
        await ask(pilot, screen, "Code")
        assert "secret plan" not in answer(screen) and "thinking, 11 characters" in answer(screen)
        await pilot.press("ctrl+t")
        assert "secret plan" in answer(screen)
        await ask(pilot, screen, "Again")
        assert all("secret" not in str(m["content"]) for m in engines.requests[-1].messages)
        assert "print(1)" in shown(app) and "```" not in shown(app)
        await pilot.press("f9")
        assert "```python" in shown(app)
        await pilot.press("f10")
        await on_screen(pilot, ConfirmDialog)
        await pilot.press("c")
        await until(pilot, lambda: copied)
        assert copied == ["print(1)\n"]
        await pilot.press("f12")
        choose = await on_screen(pilot, ChooseModelScreen)
        assert [request.text for request in choose.source.requests()] == ["Code", "Again"]
        await until(pilot, lambda: choose.chosen is not None)
        await pilot.press("enter")
        options = await on_screen(pilot, OptionsScreen)
        assert options.sampling_form.build() == SamplingOptions(system="Be brief", max_tokens=33)
        await until(pilot, lambda: "options of the chat" in shown(app))


async def test_the_model_is_loaded_while_one_types(workspace: Workspace) -> None:
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, engines)
        assert not engines.made
        await type_text(pilot, "a")
        await until(pilot, lambda: engines.made and engines.pool.warm)
        await until(pilot, lambda: "the model is loaded" in status(screen))
        assert not engines.requests
        await pilot.press("enter")
        await until(pilot, lambda: engines.requests)
        assert len(engines.made) == 1
        await until(pilot, lambda: "✓ done" in status(screen))
        screen._warming = True  # as who sends a question while the model loads for it
        screen._put("b")
        await pilot.press("enter")
        assert not screen._warming


async def test_it_is_loaded_for_what_was_typed_before_it_was_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, found = Engines(), AskScreen._take_model
    late: list[ModelSpec] = []
    monkeypatch.setattr(AskScreen, "_take_model", lambda screen, spec: late.append(spec))
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.engines = engines.pool
        app.go("ask")
        screen = await on_screen(pilot, AskScreen)
        await type_text(pilot, "a")
        await until(pilot, lambda: late, 20)
        assert not engines.made
        found(screen, late[0])
        await until(pilot, lambda: engines.pool.warm, 20)
        assert not engines.requests


async def test_it_is_loaded_again_after_a_question_was_stopped(workspace: Workspace) -> None:
    engines = Engines(held=True)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        await opened(pilot, engines)
        await type_text(pilot, "a")
        await pilot.press("enter")
        await until(pilot, lambda: engines.requests, 20)
        await pilot.press("escape")
        await until(pilot, lambda: engines.pool._task is None or engines.pool._task.done(), 20)
        loads: list[str] = []
        load = engines.made[0].answer

        def counted(items: Any, desk: Any) -> Any:
            loads.append("again")
            return load(items, desk)

        engines.made[0].answer = counted  # type: ignore[method-assign]
        await type_text(pilot, "b")
        await until(pilot, lambda: loads, 20)


async def test_what_a_server_sends_as_reasoning_is_seen_and_folded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr("ai_router.tui.clipboard.copy", lambda text, *_: copied.append(text) or "Copied")
    goes_on, bodies = asyncio.Event(), []

    async def thinks(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        bodies.append(body)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in ("First ", "the secret."):
            chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": piece}}]}
            await response.write(event(chunk))
        await goes_on.wait()
        for piece in (delta("The "), delta("answer.", finish_reason="stop"), b"data: [DONE]\n\n"):
            await response.write(piece)
        return response

    async with serving(thinks) as url:
        spec = remote_spec(f"{url}#m")
        assert spec is not None
        app = RouterApp(workspace)
        async with app.run_test() as pilot:
            app.go("ask")
            screen = await on_screen(pilot, AskScreen)
            await until(pilot, lambda: screen._spec is not None)
            screen._spec = spec
            screen._put("Why?")
            await pilot.press("enter")
            await until(pilot, lambda: "thinking, 17 characters" in answer(screen))
            await until(pilot, lambda: "thinking" in status(screen))
            await pilot.press("ctrl+t")
            await until(pilot, lambda: "First the secret." in answer(screen))
            await pilot.press("ctrl+t")
            goes_on.set()
            await until(pilot, lambda: "✓ done" in status(screen))
            assert answer(screen).endswith("thinking, 17 characters (^t shows it)\nThe answer.")
            screen.action_copy()
            await until(pilot, lambda: copied)
            assert copied == ["The answer."]
            await ask(pilot, screen, "And?")
            assert [m["content"] for m in bodies[-1]["messages"]] == ["Why?", "The answer.", "And?"]
            assert screen.conversation.chat is not None
            kept = Memory(workspace.checkpoints).turns(screen.conversation.chat)
            assert thinking_apart(kept[0].answer) == ("First the secret.", "The answer.")


async def test_thinking_without_an_answer_is_said(workspace: Workspace) -> None:
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        screen = await opened(pilot, Engines(answer=lambda text: "<think>on and on"))
        await ask(pilot, screen, "Why?")
        assert "gave no answer" in status(screen) and "thinking, 9 characters" in answer(screen)


def test_thinking_is_whole_or_folded() -> None:
    assert [block.text for block in answer_blocks("<think>a</think>b", unfolded=True)] == ["▾ thinking", "a", "", "b"]


def test_code_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    assert [save_code(tmp_path, lang, "x").name for lang in ("Python", "py", "../x", "")] == [
        "code-1.py", "code-2.py", "code-1.txt", "code-2.txt"
    ]  # fmt: skip


async def test_of_two_models_one_is_shown_where_there_is_no_room(workspace: Workspace) -> None:
    add_model(workspace, "other")
    app = RouterApp(workspace)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, Engines())
        await pilot.press("ctrl+g")  # there is nothing to turn to
        assert "other answer" not in footer(app) and not screen.query_one("#ask-answers").classes & {
            "-first",
            "-second",
        }
        await pilot.press("f11")
        dialog = await on_screen(pilot, ModelDialog)
        dialog.query_one(OptionList).highlighted = [spec.id for spec in app.registry.all()].index("other")
        await pilot.press("enter")
        await until(pilot, lambda: screen.query(SecondModel) and "other answer" in footer(app))
        first, second = screen.query_one("#ask-answer"), screen.query_one(SecondModel)

        def seen() -> list[bool]:
            return [first.region.height > 0, second.region.height > 0]

        await until(pilot, lambda: seen() == [True, True] and "^g the other" in shown(app))
        for there in ([True, False], [False, True], [True, True]):
            await pilot.press("ctrl+g")
            await until(pilot, lambda there=there: seen() == there)  # type: ignore[misc]
        await pilot.resize_terminal(40, 12)
        await until(pilot, lambda: seen() == [True, False] and first.size.height > 2)
        for there in ([False, True], [True, False]):
            await pilot.press("ctrl+g")
            await until(pilot, lambda there=there: seen() == there)  # type: ignore[misc]
        await pilot.press("ctrl+g", "f11")
        await until(pilot, lambda: not screen.query(SecondModel) and first.region.height > 0)


async def test_two_models_are_asked_the_same_side_by_side(workspace: Workspace) -> None:
    add_model(workspace, "other")
    engines = Engines()
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, engines)
        await pilot.press("f11")
        dialog = await on_screen(pilot, ModelDialog)
        menu = dialog.query_one(OptionList)
        menu.highlighted = [spec.id for spec in app.registry.all()].index("other")
        await pilot.press("enter")
        await until(pilot, lambda: screen.query(SecondModel))
        second = screen.query_one(SecondModel)
        await until(pilot, lambda: screen.query_one("#ask-answer").border_title == screen._spec.id)  # type: ignore[union-attr]
        for number, prompt in enumerate(("One zebra", "Two"), 1):
            await ask(pilot, screen, prompt)
            await until(pilot, lambda number=number: len(second.conversation.turns) == number)  # type: ignore[misc]
        assert [turn.model for turn in second.conversation.turns] == ["other", "other"]
        assert second.conversation.turns[0].answer == screen.conversation.turns[0].answer == "An answer to: One zebra"
        assert [len(request.messages) for request in engines.requests] == [1, 1, 3, 3]  # each with its own context
        left, right = screen.query_one("#ask-answer").region, second.region
        assert left.y == right.y and left.right <= right.x
        assert len(Memory(workspace.checkpoints).chats("zebra")) == 2
        for engine in engines.made:
            engine.held = True
        screen._put("Three")
        await pilot.press("enter")
        await until(pilot, lambda: second.answering)
        await pilot.press("escape")
        await until(pilot, lambda: not screen.answering and app.screen is screen)
        await pilot.press("f11")
        await until(pilot, lambda: not screen.query(SecondModel))
        await until(pilot, lambda: engines.made[-1].closed or engines.made[-2].closed)
