"""A chat to prompt tokens. Special tokens come from the chat template alone; typed into a text they are letters."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from batch.errors import PermanentError
from batch.items import Request

# Private-use characters that stand for special tokens typed into a text while a template is rendered.
MARKS = range(0xF0000, 0xFFFFE)


def encode_chat(tokenizer: Any, messages: Sequence[Any], system: str | None) -> list[int]:
    """The tokens of a chat, up to where the model's answer begins.

    `system` goes before a chat that has no system turn. A tokenizer without a chat template belongs to a base model,
    which continues text: it gets the turns' texts one after the other, a blank line between (one user turn is exactly
    its text), with the special tokens its tokenizer adds. A special token's name in a turn (`<|im_end|>`) is encoded as
    the characters it is written with. Raises PermanentError for what is not a chat of texts.
    """
    turns = [_turn(message) for message in messages]
    if system and not any(turn["role"] in ("system", "developer") for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    specials = _specials(tokenizer)
    marks = specials.marks_for(turns)
    if marks:
        turns = [{key: specials.pattern.sub(lambda m: marks[m[0]], text) for key, text in t.items()} for t in turns]
    text = _rendered(tokenizer, turns)
    templated = bool(tokenizer.chat_template)
    if marks:
        return specials.encode(text, marks, add_special=not templated)
    return list(tokenizer(text, add_special_tokens=not templated, verbose=False)["input_ids"])


def encode_request(tokenizer: Any, request: Request, system: str | None) -> list[int]:
    """The tokens of what a request asks: its chat, or of a completion its bare text.

    A completion is written whole by whoever asks, as its API has it: no template and no system prompt go around it, the
    tokenizer adds what it always adds, and a special token's name in it is that token.
    """
    if request.endpoint != "completions":
        return encode_chat(tokenizer, request.messages, system)
    return list(tokenizer(request.text, add_special_tokens=True, verbose=False)["input_ids"])


def truncated(prompt: list[int], length: int, side: str) -> list[int]:
    """So many tokens of a prompt, what is on that side cut away."""
    return prompt[-length:] if side == "left" else prompt[:length]


def _rendered(tokenizer: Any, turns: list[dict[str, str]]) -> str:
    if not tokenizer.chat_template:
        return "\n\n".join(turn["content"] for turn in turns)
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template is a program of the model's author and may raise anything
        raise PermanentError(f"the model's chat template refuses this chat: {error}") from error
    return str(text)


class _Specials:
    """A tokenizer's special tokens, and a twin of it that knows them by names nobody can type."""

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.values()
        self._names = sorted({t.content for t in added if t.special and t.content}, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, self._names)) or "(?!)")
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._aliases: dict[str, str] = {}
        self._twin: Any = None

    def marks_for(self, turns: Sequence[dict[str, str]]) -> dict[str, str]:
        """A character for each special token that stands in a turn, one that no turn has; mostly there are none."""
        found = sorted({m for turn in turns for text in turn.values() for m in self.pattern.findall(text)})
        if not found:
            return {}
        used = {ord(c) for turn in turns for text in turn.values() for c in text}
        free = (chr(code) for code in MARKS if code not in used)
        return dict(zip(found, free, strict=False))

    def encode(self, text: str, marks: dict[str, str], *, add_special: bool) -> list[int]:
        """Tokens of a rendered text: what it has of special tokens is the template's, what is marked was typed."""
        if self._twin is None:
            self._twin = self._make_twin()
        text = self.pattern.sub(lambda m: self._aliases[m[0]], text)
        for name, mark in marks.items():
            text = text.replace(mark, name)
        return list(self._twin.encode(text, add_special_tokens=add_special).ids)

    def _make_twin(self) -> Any:
        """The same tokenizer, its special tokens renamed throughout, so that their ids stay and their names are text.

        Renamed in the vocabulary too: a unigram model would find them there without their being special.
        """
        from tokenizers import Tokenizer

        names = ", ".join(self._names)
        if self._backend is None:
            raise PermanentError(f"the prompt has a special token in it, and this tokenizer cannot escape it ({names})")
        secret = secrets.token_hex(8)
        self._aliases = {name: f"<{i}:{secret}>" for i, name in enumerate(self._names)}
        form: Any = orjson.loads(self._backend.to_str())
        for token in form["added_tokens"]:
            if token["content"] in self._aliases:
                token |= {"content": self._aliases[token["content"]], "normalized": False}
        model = form["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {self._aliases.get(piece, piece): i for piece, i in model["vocab"].items()}
        else:  # unigram: pieces with their scores
            model["vocab"] = [[self._aliases.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in self._aliases:
            model["unk_token"] = self._aliases[model["unk_token"]]
        form["truncation"] = form["padding"] = None
        return Tokenizer.from_str(orjson.dumps(form).decode())


_known: WeakKeyDictionary[Any, _Specials] = WeakKeyDictionary()


def _specials(tokenizer: Any) -> _Specials:
    found = _known.get(tokenizer)
    if found is None:
        found = _known[tokenizer] = _Specials(tokenizer)
    return found


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
