"""Answers that fit a JSON schema: which tokens may come next, through the llguidance library, for any local engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from batch.errors import FatalError, MissingExtraError, PermanentError

# As models are used to JSON, and so that no answer is white space without end.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def schema_of(params: dict[str, Any]) -> dict[str, Any] | None:
    """Take `response_format` (the OpenAI form) or `json_schema` out of an item's parameters; the schema they ask for.

    Raises PermanentError for a format that is none of text, json_object and json_schema, and for what is no schema.
    """
    form, schema = params.pop("response_format", None), params.pop("json_schema", None)
    if schema is None and form is not None:
        kind = form.get("type") if isinstance(form, Mapping) else None
        if kind == "json_object":
            return {"type": "object"}
        if kind == "json_schema":
            named = form.get("json_schema")
            schema = named.get("schema") if isinstance(named, Mapping) else None
            if schema is None:
                raise PermanentError('response_format: there is no schema at "json_schema": {"schema": …}')
        elif kind != "text":
            raise PermanentError(f"response_format: {kind!r} is none of text, json_object, json_schema")
    if isinstance(schema, str):  # never a file's name: whoever wrote the batch may not read files here
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError as error:
            raise PermanentError(f"json_schema: not JSON: {error}") from None
    if schema is not None and not isinstance(schema, Mapping):
        raise PermanentError("json_schema: a schema is a JSON object")
    return None if schema is None else dict(schema)


class Constraint:
    """Where one answer stands in its schema."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self) -> bytes:
        """The tokens that may come next, a bit each, lowest first; the end token once the answer may end."""
        mask: bytes = self._matcher.compute_bitmask()
        return mask

    def take(self, token: int) -> None:
        """One more token of the answer."""
        self._matcher.consume_token(token)

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the answer fits the schema as it is."""
        return self.error is None and bool(self._matcher.is_accepting())

    @property
    def error(self) -> str | None:
        """Why the schema cannot be followed any further, where it cannot."""
        return _line(self._matcher.get_error()) if self._matcher.is_error() else None


class Schemas:
    """Makes constraints for the answers of one tokenizer; each schema is compiled once."""

    KEPT = 256

    def __init__(self, tokenizer: Any, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = sorted(end_ids)
        self._vocabulary: Any = None  # the library's form of the tokenizer, made with the first schema
        self._compiled: dict[bytes, Any] = {}

    def check(self, schema: Mapping[str, Any] | None) -> None:
        """Raise FatalError for a whole run's schema that cannot be used: no answer could follow it."""
        if schema is not None:
            try:
                self.constraint(schema)
            except PermanentError as error:
                raise FatalError(str(error)) from None

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """A new answer's constraint. Raises MissingExtraError, and PermanentError for a schema that cannot be used."""
        key = orjson.dumps(schema)
        matcher = self._compiled.get(key)
        if matcher is None:
            matcher = self._compile(key)
            if len(self._compiled) >= self.KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[key] = matcher
        return Constraint(matcher.deep_copy())

    def _compile(self, schema: bytes) -> Any:
        try:
            from llguidance import LLMatcher, LLTokenizer
        except ImportError as error:
            raise MissingExtraError("schema", "An answer that fits a JSON schema") from error
        if self._vocabulary is None:
            backend = getattr(self._tokenizer, "backend_tokenizer", None)
            if backend is None:
                raise PermanentError("json_schema: this model's tokenizer has no tokenizer.json, which a schema needs")
            self._vocabulary = LLTokenizer(backend.to_str(), eos_token=self._end_ids or None)
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema.decode(), overrides=LAYOUT)
        except ValueError as error:
            raise PermanentError(f"json_schema: {_line(str(error))}") from None
        matcher = LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise PermanentError(f"json_schema: {_line(matcher.get_error())}")
        return matcher


def unfinished_json(constraint: Constraint, reason: str, max_tokens: int) -> str:
    """Why an answer that has ended does not fit its schema, in a sentence."""
    if constraint.error is not None:
        return f"json_schema: {constraint.error}"
    if reason == "length":
        return f"the JSON was not complete after {max_tokens:,} tokens; raise max_tokens, or bound the schema's lengths"
    return "the JSON was cut by a stop text before it was complete"


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
