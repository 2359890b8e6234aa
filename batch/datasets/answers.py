"""What a model wrote -> the answer to compare: no thinking, no template tokens, no echo of the prompt."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from batch.engines.base import Engine, closing_answers
from batch.engines.desk import Desk
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.thinking import TAGS

_ENDS = re.compile(r"<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>|<\|end_of_text\|>|<end_of_turn>|<\|end\|>|</s>|<eos>")
_HEAD = re.compile(r"\A\s*(?:<\|im_start\|>\s*assistant\b|<start_of_turn>\s*model\b|<\|assistant\|>)\s*")


def clean_answer(text: str, prompt: str = "") -> str:
    """The answer in what a model wrote; empty where it only thought. `prompt` is dropped where the answer repeats it.

    A text is cut at the first token that ends a turn.
    """
    if prompt and (bare := text.lstrip()).startswith(prompt):
        text = bare[len(prompt) :]
    text = _HEAD.sub("", text)
    for tag in TAGS:
        if f"{tag}>" in text:
            text = _without(text, f"<{tag}>", f"</{tag}>")
    end = _ENDS.search(text)
    return (text[: end.start()] if end else text).strip()


def _without(text: str, opening: str, closing: str) -> str:
    """Blocks between two tags left out: also one that the token limit cut off, or whose opening the template wrote."""
    first_close, first_open = text.find(closing), text.find(opening)
    if first_close >= 0 and (first_open < 0 or first_close < first_open):
        text = text[first_close + len(closing) :]
    kept: list[str] = []
    at = 0
    while (start := text.find(opening, at)) >= 0:
        kept.append(text[at:start])
        end = text.find(closing, start)
        if end < 0:
            return "".join(kept)
        at = end + len(closing)
    return "".join([*kept, text[at:]])


KEPT = 4096  # prompts kept in memory while their answers are awaited; others are read again


class CleaningEngine:
    """An engine whose answers are cleaned as they come, so that a job keeps what is compared.

    What a model wrote around its answer stays in the answer's extra as `raw`. An answer that is empty without it is a
    failure.
    """

    def __init__(self, engine: Engine[Request, Answer]) -> None:
        self.inner = engine
        self.name = engine.name

    @property
    def status(self) -> str:
        """As the engine says."""
        return self.inner.status

    @property
    def about(self) -> Mapping[str, Any]:
        """As the engine says."""
        return self.inner.about

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The texts so far, as they are."""
        return self.inner.partial_texts()

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled."""
        prompts: dict[ItemId, str] = {}

        async def noted() -> AsyncIterator[BatchItem[Request]]:
            async for item in items:
                if len(prompts) < KEPT:
                    prompts[item.id] = instructions_around(item.data)
                yield item

        def prompt_of(item_id: ItemId) -> str:
            # Many are held at once by some engines, and some answers are to prompts of an earlier process.
            known = prompts.pop(item_id, None)
            return instructions_around(desk.request(item_id)) if known is None else known

        async with closing_answers(self.inner.answer(noted(), desk)) as answers:
            async for response in answers:
                yield response if response.data is None else _cleaned(response, prompt_of(response.id))

    async def close(self) -> None:
        """Close the engine."""
        await self.inner.close()


def instructions_around(request: Request) -> str:
    """The last user turn where it is more than the bare input: an echo of that cannot be the answer."""
    users = [message for message in request.messages if message.get("role") == "user"]
    prompt = str(users[-1].get("content", "")).strip() if users else ""
    bare = str((request.extra or {}).get("input", ""))
    return prompt if len(prompt) > len(bare) else ""


def _cleaned(response: BatchResponse[Answer], prompt: str) -> BatchResponse[Answer]:
    answer = response.data
    if answer is None or response.error is not None:
        return response
    text = clean_answer(answer.text, prompt)
    if text == answer.text:
        return response
    if not text:
        shown = " ".join(answer.text.split())[:80]
        failure = Failure(ErrorClass.PERMANENT, f"the model gave no answer beside its thinking: {shown}")
        return replace(response, data=None, error=failure)
    extra = {**(answer.extra or {})}
    if text != answer.text.strip():
        extra["raw"] = answer.text
    return replace(response, data=Answer(text, extra or None))
