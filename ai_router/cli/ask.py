"""`ai-router ask`: one prompt, its answer on stdout as it is written."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from ai_router.asking import ask_once
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.routing import add_routing_flags, refuse_flags, router_for
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import inert, is_terminal, narrate, plural
from ai_router.models import make_engine
from ai_router.routing import AUTO
from batch.items import Answer, BatchResponse, Request
from batch.options import SamplingOptions, build_options
from batch.thinking import TAGS, thinking_apart

USAGE = "PROMPT [options]"
DESCRIPTION = "Ask a model one thing. The answer is streamed to stdout; nothing is kept."
EXAMPLES = """\
examples:
  ai-router ask "What is a deque?"
  ai-router ask --temperature 0.7 --seed 1 "Name a sorting algorithm."
  git diff | ai-router ask - --system "Say in one sentence what changes."
"""
LOADING_SHOWN = 0.5  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the prompt, or - to read it from standard input")
    parser.add_argument(
        "--model", metavar="ID", help="the model, see `ai-router models`, or auto (default: as in the settings)"
    )
    add_routing_flags(parser, wishes=False)
    add_flags(parser, SamplingOptions)


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    prompt = _prompt(args.prompt)
    wanted = args.model or session.workspace.settings.model
    choice = None
    if wanted == AUTO:
        choice = router_for(session, args).choose(Request(prompt))
        wanted = choice.models[0]
    else:
        refuse_flags(args)
    spec = session.registry.get(wanted)
    if not spec.ready:
        raise UsageError(f"Model {spec.id} is not ready: {spec.why}")
    sampling = build_options(SamplingOptions, {**spec.sampling, **given(args, SamplingOptions)})
    engine = make_engine(spec, sampling, workers=1)
    narrate(f"Asking {spec.id}…" if choice is None else f"Asking {spec.id} ({inert(choice.reason)})…")
    started = time.monotonic()
    printer = Printer()
    response = asyncio.run(ask_once(engine, Request(prompt), printer.partial))
    seconds = time.monotonic() - started
    if response is None:
        raise UsageError("The model gave no answer")
    if response.data is not None:
        printer.whole(response.data)
    if response.error is not None:
        printer.end_line()
        narrate(f"Error: {response.error.message}")
        return Exit.SOME_FAILED
    narrate(_figures(response, seconds))
    return Exit.DONE


def _figures(response: BatchResponse[Answer], seconds: float) -> str:
    """Tokens and times; the rate is of the answering alone, and a model that had to be loaded first says so."""
    answering = response.duration_ns / 1e9
    parts = [plural(response.tokens_output, "token"), f"{response.tokens_input:,} read"]
    if not answering:
        return ", ".join([*parts, f"{seconds:.1f} s"])
    parts += [f"{answering:.1f} s", f"{response.tokens_output / answering:,.1f} tok/s"]
    if (loading := seconds - answering) >= LOADING_SHOWN:
        parts.append(f"model loaded in {loading:.1f} s")
    if response.data is not None and response.data.cut:
        parts.append("cut at the token limit (--max-tokens)")
    return ", ".join(parts)


def _prompt(text: str | None) -> str:
    if text == "-" or (text is None and not is_terminal(sys.stdin)):
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError:
            raise UsageError("Standard input is not UTF-8") from None
    if text is None or not text.strip():
        raise UsageError('What is to be asked? ai-router ask "PROMPT"')
    return text


class Printer:
    """Writes a text that grows; each character once: the answer as data, what is thought before it to the person."""

    def __init__(self) -> None:
        self._written = self._thought = ""
        self._apart = False  # whether a line stands between what was thought and the answer
        self._terminal = is_terminal(sys.stdout)

    def partial(self, text: str) -> None:
        """The text so far. What does not go on from what stands there waits for the whole."""
        thought, answer = self._told_apart(text)
        if not answer:
            thought = _without_tag(thought)
        if len(thought) > len(self._thought) and thought.startswith(self._thought):
            self._think(thought)
        if any(f"<{tag}>".startswith(answer.strip()) for tag in TAGS):  # it may become one
            return
        if len(answer) > len(self._written) and answer.startswith(self._written):
            self._write(answer[len(self._written) :])
            self._written = answer

    def whole(self, answer: Answer) -> None:
        """The answer."""
        thought, text = self._told_apart(answer.text, answer.extra)
        if thought != self._thought:
            self._think(thought)
        if self._written and not text.startswith(self._written):
            narrate("\nThe engine began again; this is the answer:")
            self._written = ""
        self._write(text[len(self._written) :])
        self._write("" if text.endswith("\n") else "\n")
        self._written = ""

    def end_line(self) -> None:
        """What follows begins in a line of its own, wherever the text broke off."""
        if self._written and not self._written.endswith("\n"):
            self._write("\n")
        elif self._thought and not self._apart:
            narrate("")

    def _told_apart(self, text: str, extra: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Thought and answer; where it is seen too late that a text began with thinking, it goes on as it was begun."""
        thought, answer = thinking_apart(text, extra)
        if self._written and not answer.startswith(self._written) and text.startswith(self._written):
            return self._thought, text
        return thought, answer

    def _think(self, thought: str) -> None:
        """What is thought before the answer is no part of it: the person reads it on stderr."""
        begun = thought.startswith(self._thought)
        narrate(thought[len(self._thought) :] if begun else f"\n{thought}", end="")
        self._thought = thought

    def _write(self, text: str) -> None:
        if self._thought and text and not self._apart:
            self._apart = True
            narrate("\n")
        sys.stdout.write(inert(text, lines=True) if self._terminal else text)
        sys.stdout.flush()


def _without_tag(thought: str) -> str:
    """A thought that is still written, without the beginning of what may become the tag that closes it."""
    at = thought.rfind("<")
    return thought[:at].rstrip() if at >= 0 and any(f"</{tag}>".startswith(thought[at:]) for tag in TAGS) else thought
