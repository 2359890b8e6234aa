"""What a model thinks aloud before it answers, apart from its answer.

Servers with a reasoning parser send it in a field of its own (`reasoning_content`, `reasoning`; an answer's extra holds
it as `reasoning`); else it stands before the answer between `<think>` tags, as the chat templates of DeepSeek-R1 and
Qwen3 have it, the first of which the template may write itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TAGS = ("think", "thinking", "reasoning")
OPENING, CLOSING = "<think>", "</think>"
_BLOCK = re.compile(rf"\s*<({'|'.join(TAGS)})>(.*?)(?:</\1>|\Z)\s*", re.DOTALL)
_REST = re.compile(r"(.*?)^[ \t]*</think>\s*", re.DOTALL | re.MULTILINE)


def thinking_apart(text: str, extra: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """What was thought, and the answer. `extra` is what the engine said beside the text."""
    said = (extra or {}).get("reasoning")
    if isinstance(said, str) and said.strip():
        return said.strip(), text
    match = _BLOCK.match(text)
    if match is not None:
        return match.group(2).strip(), text[match.end() :]
    if CLOSING in text and (match := _REST.match(text)) is not None:
        return match.group(1).strip(), text[match.end() :]
    raw = (extra or {}).get("raw")  # of an answer that was cleaned to be compared
    if isinstance(raw, str):
        return thinking_apart(raw)[0], text
    return "", text


def with_thinking(thought: str, text: str) -> str:
    """Both as one text, from which they can be told apart again; the block stays open until the answer begins."""
    if not thought:
        return text
    block = f"{OPENING}\n{thought.strip()}\n"
    return f"{block}{CLOSING}\n\n{text}" if text else block
