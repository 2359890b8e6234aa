"""The line that results are filtered by: `failed tokens>200 model=qwen "some text" -word`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from batch.checkpoint.selecting import NUMBERS, TEXTS, Condition, Operator
from batch.options import nearest

if TYPE_CHECKING:
    from batch.checkpoint.rows import Part
    from batch.job import BatchResult

PARTS = ("failed", "done", "pending", "all")
# What else a person may call a field.
NAMES = {"out": "tokens", "seconds": "time", "s": "time", "attempts": "tries", "#": "id", "n": "id"}
HELP = 'failed tokens>200 time>=1.5 model=qwen error~timeout "some text" -without'
_WORD = re.compile(r'\s*(?:(-?)"([^"]*)"?|(\S+))')
_CONDITION = re.compile(r"([#\w]+)(>=|<=|!=|=|>|<|~)(.+)")


class QueryError(ValueError):
    """A line that is no filter; the text says which word, and what may stand there."""


@dataclass(frozen=True, slots=True)
class Query:
    """A filter: the part of items (None: as it is), conditions on fields, texts that must and must not occur."""

    part: Part | None = None
    conditions: tuple[Condition, ...] = ()
    texts: tuple[str, ...] = ()  # casefolded
    without: tuple[str, ...] = ()

    def holds(self, result: BatchResult) -> bool:
        """Whether prompt, answer or error of an item has the texts."""
        return self.holds_in(result.prompt, result.response_text, result.error_message or "")

    def holds_in(self, prompt: str, answer: str, error: str) -> bool:
        """The same of the texts alone."""
        if not (self.texts or self.without):
            return True
        parts = [part.casefold() for part in (prompt, answer, error)]
        return all(any(text in part for part in parts) for text in self.texts) and not any(
            text in part for part in parts for text in self.without
        )


def parse_query(line: str) -> Query:
    """The filter that a line says; QueryError where a word is none.

    A word that begins like a condition on no known field is a text, unless it is nearly the name of one.
    """
    part: str | None = None
    conditions: list[Condition] = []
    texts: list[str] = []
    without: list[str] = []
    for match in _WORD.finditer(line):
        minus, quoted, word = match.groups()
        if word is None:
            (without if minus else texts).append(quoted.casefold())
        elif word in PARTS:
            part = word
        elif (found := _CONDITION.fullmatch(word)) and (condition := _condition(*found.groups())):
            conditions.append(condition)
        elif len(word) > 1 and word[0] == "-":
            without.append(word[1:].casefold())
        else:
            texts.append(word.casefold())
    return Query(cast("Part | None", part), tuple(conditions), tuple(filter(None, texts)), tuple(filter(None, without)))


def complaint(line: str) -> str:
    """Why a line is no filter; "" where it is one."""
    try:
        parse_query(line)
    except QueryError as error:
        return str(error)
    return ""


def _condition(name: str, operator: str, text: str) -> Condition | None:
    field = NAMES.get(name.lower(), name.lower())
    text = text.strip('"')
    if field in TEXTS:
        if operator not in ("=", "!=", "~"):
            raise QueryError(f"{name} is a text: ask with =, != or ~")
        return Condition(field, cast("Operator", operator), text)
    if field not in NUMBERS:
        if near := nearest(field, [*NUMBERS, *TEXTS, *NAMES]):
            raise QueryError(f"{name} is no field; did you mean {near}?")
        return None
    try:
        value = float(text.replace(",", "").lstrip("$").removesuffix("s"))
    except ValueError:
        raise QueryError(f"{name} is a number, and {text} is none") from None
    return Condition(field, cast("Operator", operator), value)
