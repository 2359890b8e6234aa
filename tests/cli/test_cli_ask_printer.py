"""`ai-router ask` on its way: stdout is the answer alone, stderr what is thought before it; each character once."""

from __future__ import annotations

import pytest

from ai_router.cli.ask import Printer
from batch.items import Answer
from batch.thinking import with_thinking

THOUGHT, ANSWER = "Let me see: a < b,\nand </b> is no end.", "It is 4.\nNo more."


def streamed(text: str, step: int, whole: Answer | None = None) -> Printer:
    """A printer that was given a text in pieces, then the whole of it."""
    printer = Printer()
    for end in range(step, len(text) + step, step):
        printer.partial(text[:end])
    printer.whole(whole or Answer(text))
    return printer


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning"])
def test_thought_and_answer_each_once_wherever_the_tags_are_split(
    capsys: pytest.CaptureFixture[str], tag: str, step: int
) -> None:
    streamed(f"<{tag}>\n{THOUGHT}\n</{tag}>\n\n{ANSWER}", step)
    out, err = capsys.readouterr()
    assert out == f"{ANSWER}\n"
    assert err.strip() == THOUGHT and err.endswith("\n")


@pytest.mark.parametrize("step", [1, 5])
def test_what_a_server_sends_beside_the_answer_is_told_as_it_comes(
    capsys: pytest.CaptureFixture[str], step: int
) -> None:
    printer = Printer()
    for end in range(step, len(THOUGHT) + step, step):
        printer.partial(with_thinking(THOUGHT[:end], ""))
    assert capsys.readouterr() == ("", THOUGHT)
    printer.partial(with_thinking(THOUGHT, "It is"))
    assert capsys.readouterr().out == "It is"
    printer.whole(Answer(ANSWER, extra={"reasoning": THOUGHT}))
    assert capsys.readouterr() == (f"{ANSWER.removeprefix('It is')}\n", "")


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize("text", ["<thing>1</thing>", "<thinking aloud> helps", "<think", "a <think>b</think> c", "<"])
def test_what_only_looks_like_a_tag_is_part_of_the_answer(
    capsys: pytest.CaptureFixture[str], text: str, step: int
) -> None:
    streamed(text, step)
    assert capsys.readouterr() == (f"{text}\n", "")


def test_thinking_that_is_seen_too_late_goes_on_where_it_began(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the chat template wrote the tag that opens it, the text says so only at its end."""
    text = f"{THOUGHT}\n</think>\n\n{ANSWER}"
    streamed(text, 3)
    assert capsys.readouterr() == (f"{text}\n", "")


def test_an_answer_that_nothing_came_of_before_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    Printer().whole(Answer(f"{THOUGHT}\n</think>\n\n{ANSWER}"))
    out, err = capsys.readouterr()
    assert (out, err.strip()) == (f"{ANSWER}\n", THOUGHT)


def test_an_engine_that_begins_again_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer()
    printer.partial("One ")
    printer.partial("Tw")  # does not go on from it: waits
    printer.whole(Answer("Two"))
    out, err = capsys.readouterr()
    assert out == "One Two\n" and "began again" in err


@pytest.mark.parametrize(("text", "seen"), [("It is", ("It is\n", "")), ("<think>It", ("", "It\n")), ("", ("", ""))])
def test_what_follows_a_text_that_broke_off_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], text: str, seen: tuple[str, str]
) -> None:
    printer = Printer()
    printer.partial(text)
    printer.end_line()
    assert capsys.readouterr() == seen
