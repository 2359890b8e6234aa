"""A chat to prompt tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batch.errors import PermanentError


def encode_chat(tokenizer: Any, messages: Sequence[Any], system: str | None) -> list[int]:
    """The tokens of a chat, up to where the model's answer begins.

    `system` goes before a chat that has no system turn. A tokenizer without a chat template belongs to a base model,
    which continues text: it gets the turns' texts one after the other, a blank line between (one user turn is exactly
    its text), with the special tokens its tokenizer adds. Raises PermanentError for what is not a chat of texts.
    """
    turns = [_turn(message) for message in messages]
    if system and not any(turn["role"] in ("system", "developer") for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    if not tokenizer.chat_template:
        text = "\n\n".join(turn["content"] for turn in turns)
        return _tokens(tokenizer, text, special=True)
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template is a program of the model's author and may raise anything
        raise PermanentError(f"the model's chat template refuses this chat: {error}") from error
    return _tokens(tokenizer, text, special=False)  # the template has put them in


def _tokens(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _turn(message: Any) -> dict[str, str]:
    """One message with its content as plain text; the OpenAI form also allows a list of parts."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise PermanentError("a message of the chat has no role")
    content = message.get("content")
    if isinstance(content, list):
        parts = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind != "text" or not isinstance(part.get("text"), str):
                raise PermanentError(f"this engine reads text only, and the chat has a part of type {kind!r}")
            parts.append(part["text"])
        content = "".join(parts)
    if content is not None and not isinstance(content, str):
        raise PermanentError("the content of a message is neither a text nor a list of parts")
    return {"role": message["role"], "content": content or ""}
