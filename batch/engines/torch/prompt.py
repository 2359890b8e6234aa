"""A chat to prompt tokens. Special tokens come from the chat template alone; typed into a text they are letters."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from batch.errors import PermanentError
from batch.items import Request

# Private-use characters that stand for special tokens typed into a text while a template is rendered.
MARKS = range(0xF0000, 0xFFFFE)
SYSTEMS = ("system", "developer")
PROBE = "1729417294"  # a text that templates do not have by themselves, nor change in another case


def encode_chat(tokenizer: Any, messages: Sequence[Any], system: str | None) -> list[int]:
    """The tokens of a chat, up to where the model's answer begins.

    `system` goes before a chat that has no system turn, and into the first user turn where the template has no place
    for one (see `takes`). A tokenizer without a chat template belongs to a base model, which continues text: it gets
    the turns' texts one after the other, a blank line between (one user turn is exactly its text), with the special
    tokens its tokenizer adds. A control token's name in a turn (`<|im_end|>`) is encoded as the characters it is
    written with. Raises PermanentError for what is not a chat of texts.
    """
    turns = [_turn(message) for message in messages]
    if tokenizer.chat_template and turns and turns[-1]["role"] == "assistant":
        raise PermanentError("the chat ends in an assistant turn, so there is nothing left to answer")
    if system and not any(turn["role"] in SYSTEMS for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    turns = _with_roles_it_takes(tokenizer, turns)
    specials = _specials(tokenizer)
    marks = specials.marks_for(turns)
    if marks:
        turns = [_each(turn, specials.marking(turn, marks)) for turn in turns]
    text = _rendered(tokenizer, turns)
    templated = bool(tokenizer.chat_template)
    if marks:
        return specials.encode(text, marks, add_special=not templated)
    return list(tokenizer(text, add_special_tokens=not templated, verbose=False)["input_ids"])


def takes(tokenizer: Any, role: str) -> bool:
    """Whether a chat template has a place for a turn of this role; some refuse one, some leave it out in silence."""
    if not tokenizer.chat_template:
        return True
    specials = _specials(tokenizer)
    if role not in specials.takes:
        try:
            text = _rendered(tokenizer, [{"role": role, "content": PROBE}, {"role": "user", "content": "2"}])
        except PermanentError:
            text = ""
        specials.takes[role] = PROBE in text
    return specials.takes[role]


def noted(about: Mapping[str, Any], tokenizer: Any, system: str | None) -> dict[str, Any]:
    """What an engine says of itself, with what is to be said once of how its prompts are made."""
    if not system or takes(tokenizer, "system"):
        return dict(about)
    note = "its chat template has no system turn: the system prompt goes before the first question"
    return {**about, "notes": [*about.get("notes", ()), note]}


def _with_roles_it_takes(tokenizer: Any, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System turns as the template knows them: by another name, or in front of the user turn that follows."""
    found: list[dict[str, Any]] = []
    waiting: list[str] = []
    for turn in turns:
        role = turn["role"]
        if role in SYSTEMS and not takes(tokenizer, role):
            if role != "system" and takes(tokenizer, "system"):
                found.append({**turn, "role": "system"})
            else:
                waiting.append(turn["content"])
        elif role == "user" and waiting:
            found.append({**turn, "content": "\n\n".join([*waiting, turn["content"]])})
            waiting = []
        else:
            found.append(turn)
    return [*found, {"role": "user", "content": "\n\n".join(waiting)}] if waiting else found


def encode_request(tokenizer: Any, request: Request, system: str | None) -> list[int]:
    """The tokens of what a request asks: its chat, or of a completion its bare text.

    A completion is written whole by whoever asks, as its API has it: no template and no system prompt go around it, the
    tokenizer adds what it always adds. A special token's name in it is text, as it is in a chat.
    """
    if request.endpoint != "completions":
        return encode_chat(tokenizer, request.messages, system)
    specials, turn = _specials(tokenizer), {"role": "user", "content": request.text}
    if marks := specials.marks_for([turn]):
        return specials.encode(specials.marking(turn, marks)(request.text), marks, add_special=True)
    return list(tokenizer(request.text, add_special_tokens=True, verbose=False)["input_ids"])


def truncated(prompt: list[int], length: int, side: str) -> list[int]:
    """So many tokens of a prompt, what is on that side cut away."""
    return prompt[-length:] if side == "left" else prompt[:length]


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A value with each text in it changed, names of fields included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(part, change) for key, part in value.items()}
    return [_each(part, change) for part in value] if isinstance(value, list) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _rendered(tokenizer: Any, turns: list[dict[str, Any]]) -> str:
    template = tokenizer.chat_template
    if any("tool_calls" in turn for turn in turns) and "tool_calls" not in _templates(template):
        raise PermanentError("the chat has calls of tools, and the model's chat template has no place for them")
    if not template:
        return "\n\n".join(turn["content"] for turn in turns)
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template is a program of the model's author and may raise anything
        raise PermanentError(f"the model's chat template refuses this chat: {error}") from error
    return str(text)


class _Specials:
    """A tokenizer's control tokens, and a twin of it that knows them by names nobody can type.

    Control tokens are those marked special, and added ones that the chat template itself writes (`<think>`); the
    latter are the model's own words in an assistant turn. Other added tokens are words that were added.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
        self.template = tokenizer.chat_template
        hard = {token.content for token in added if token.special}
        soft = {t.content for t in added if t.content.strip() and t.content in _templates(self.template)} - hard
        self._names = _longest_first(hard | soft)
        self.pattern = _any_of(self._names)
        self._hard = _any_of(_longest_first(hard))
        self.takes: dict[str, bool] = {}  # roles that the template has a place for
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._aliases: dict[str, str] = {}
        self._twin: Any = None

    def _pattern_for(self, turn: dict[str, Any]) -> re.Pattern[str]:
        return self._hard if turn["role"] == "assistant" else self.pattern

    def marks_for(self, turns: Sequence[dict[str, Any]]) -> dict[str, str]:
        """A character for each control token that stands in a turn, one that no turn has; mostly there are none."""
        found = sorted({m for turn in turns for text in _texts(turn) for m in self._pattern_for(turn).findall(text)})
        if not found:
            return {}
        used = {ord(c) for turn in turns for text in _texts(turn) for c in text}
        free = (chr(code) for code in MARKS if code not in used)
        return dict(zip(found, free, strict=False))

    def marking(self, turn: dict[str, Any], marks: dict[str, str]) -> Callable[[str], str]:
        """What puts the marks into the texts of a turn."""
        pattern = self._pattern_for(turn)
        return lambda text: pattern.sub(lambda found: marks[found[0]], text)

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


def _templates(template: Any) -> str:
    """A tokenizer's chat template as one text; some have several, by name."""
    return template if isinstance(template, str) else "\n".join((template or {}).values())


def _longest_first(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (-len(name), name))


def _any_of(names: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


_known: WeakKeyDictionary[Any, _Specials] = WeakKeyDictionary()


def _specials(tokenizer: Any) -> _Specials:
    found = _known.get(tokenizer)
    if found is None or found.template != tokenizer.chat_template:
        found = _known[tokenizer] = _Specials(tokenizer)
    return found


def _turn(message: Any) -> dict[str, Any]:
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
    turn: dict[str, Any] = {"role": message["role"], "content": content or ""}
    if message.get("function_call"):
        raise PermanentError("the chat has a function_call, the form before tool_calls, which templates do not know")
    if message.get("tool_calls"):
        turn["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    if message["role"] == "tool":
        turn |= {key: message[key] for key in ("name", "tool_call_id") if isinstance(message.get(key), str)}
    return turn


def _call(call: Any) -> dict[str, Any]:
    """A call of a tool as templates read it: its arguments an object, where the OpenAI form has it as JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise PermanentError("a call of a tool in the chat has no function with a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except ValueError:
            raise PermanentError(f"the arguments of {function['name']} in the chat are not JSON") from None
    said = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**said, "type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}
