"""What a server did that nobody asked for: another model, a prompt cut short, a schema ignored, an answer repeated.

None of these is an error to the server, so only the client can see them. Each is a sentence on the answer.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from batch.engines.http.wire import Reply

REPEATS = 3  # prompts with the same answer before it is an alarm
LEAST_REPEATED = 40  # characters; "yes" may well be the answer to many
KEPT = 4096  # answers that are remembered
LEAST_JUDGED = 2000  # bytes of a prompt before its token count is judged
CUT_RATIO = 3.0  # times as many bytes a token as other prompts have
MOST_BYTES_A_TOKEN = 24.0  # of any tokenizer, over a text of some length
_VERSION = re.compile(r"(?:[-@:.](?:latest|\d{2,8}|\d{4}-\d{2}-\d{2}|v\d+|preview))+")
CONTEXT_STEP = 512  # limits of contexts are multiples of it


class Alarms:
    """Looks at every answer of one run; counts by kind."""

    def __init__(self, model: str, context: int | None = None) -> None:
        self._model = model
        self._context = context
        self.counts: Counter[str] = Counter()
        self.answered_by: Counter[str] = Counter()
        self._repeats: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()  # answer -> (prompts, the last prompt)
        self._bytes_a_token: list[float] = []  # of the first prompts, sorted
        self._totals: Counter[int] = Counter()

    def look(self, prompt: bytes, reply: Reply, schema: Mapping[str, Any] | None) -> list[str]:
        """The alarms of one answer, a sentence each."""
        found = [
            *self._substituted(reply),
            *self._cut(prompt, reply),
            *self._off_schema(reply, schema),
            *self._repeated(prompt, reply),
        ]
        for kind, _ in found:
            self.counts[kind] += 1
        return [text for _, text in found]

    def _substituted(self, reply: Reply) -> list[tuple[str, str]]:
        self.answered_by[reply.model or self._model] += 1
        if not reply.model or same_model(self._model, reply.model):
            return []
        return [("another model", f"asked for {self._model}, answered by {reply.model}")]

    def _cut(self, prompt: bytes, reply: Reply) -> list[tuple[str, str]]:
        usage = reply.usage
        if usage is None or usage.input <= 0 or len(prompt) < LEAST_JUDGED:
            return []
        ratio = len(prompt) / usage.input
        usual = self._usual()
        self._learn(ratio)
        if ratio > MOST_BYTES_A_TOKEN or (usual is not None and ratio > CUT_RATIO * usual):
            return [("prompt cut", f"the server counted {usage.input:,} tokens in a prompt of {len(prompt):,} bytes")]
        total = usage.input + usage.output
        if self._context is not None and total > self._context:  # some read on past their context, and write anything
            said = f"{total:,} tokens of prompt and answer, where the context has {self._context:,}"
            return [("past the context", said)]
        self._totals[total] += 1
        sits = total == self._context or (total % CONTEXT_STEP == 0 and self._totals[total] >= REPEATS)
        if sits and (reply.finish == "length" or (usual is not None and ratio > 1.3 * usual)):
            return [("prompt cut", f"prompt and answer end at {total:,} tokens, as at a context limit")]
        return []

    def _usual(self) -> float | None:
        known = self._bytes_a_token
        return known[len(known) // 2] if len(known) >= 5 else None

    def _learn(self, ratio: float) -> None:
        if len(self._bytes_a_token) < 201:
            self._bytes_a_token.append(ratio)
            self._bytes_a_token.sort()

    def _off_schema(self, reply: Reply, schema: Mapping[str, Any] | None) -> list[tuple[str, str]]:
        if schema is None or reply.finish == "length":
            return []
        problem = schema_problem(reply.text, schema)
        return [] if problem is None else [("schema ignored", f"the answer does not fit the schema: {problem}")]

    def _repeated(self, prompt: bytes, reply: Reply) -> list[tuple[str, str]]:
        if len(reply.text) < LEAST_REPEATED:
            return []
        answer = hashlib.blake2b(reply.text.encode("utf-8", "replace"), digest_size=16).digest()
        asked = hashlib.blake2b(prompt, digest_size=8).digest()
        count, last = self._repeats.pop(answer, (0, b""))
        count += asked != last
        self._repeats[answer] = (count, asked)
        if len(self._repeats) > KEPT:
            self._repeats.popitem(last=False)
        return [("repeated", f"the same answer as to {count - 1} other prompts")] if count >= REPEATS else []


@lru_cache(1024)
def same_model(asked: str, answered: str) -> bool:
    """Whether a name that came back may stand for the one that was asked: a path to it, a dated version, a tag."""
    a, b = _plain(asked), _plain(answered)
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    rest = long.removeprefix(short)
    return (
        rest != long and re.fullmatch(r"(?:[-@:.](?:latest|\d{2,8}|\d{4}-\d{2}-\d{2}|v\d+|preview))+", rest) is not None
    )


def _plain(name: str) -> str:
    name = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].lower()
    return name.removesuffix(".gguf").removesuffix(":latest")


def schema_problem(text: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer that has to be JSON of a schema; None where it fits.

    Without the package jsonschema only the JSON itself and the type at the top are checked.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    try:
        import jsonschema
    except ImportError:
        kind = {"object": dict, "array": list, "string": str}.get(str(schema.get("type")))
        return None if kind is None or isinstance(value, kind) else f"it is no {schema['type']}"
    try:
        found = next(iter(jsonschema.validators.validator_for(schema)(schema).iter_errors(value)), None)
    except Exception as problem:  # a schema that is none, or that refers to what is not there
        return f"the schema cannot be used: {type(problem).__name__}"
    return None if found is None else f"{found.json_path}: {found.message[:160]}"


def said(about: Mapping[str, Any]) -> list[str]:
    """What people should know of how a server was used and what it did, a few words each."""
    words = [f"not sent: {about['not sent']}"] if "not sent" in about else []
    if "rate limits met" in about:
        words.append(f"rate limit met {about['rate limits met']:,} times")
    words += [f"alarm: {kind} ({count:,})" for kind, count in about.get("alarms", {}).items()]
    if "alarms" in about and "answered by" in about:
        words.append(f"answered by {', '.join(about['answered by'])}")
    return words
