"""Whether a prediction is right, for tasks whose answers are checked in different ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal, get_args

from batch.evaluation.normalise import Normalisation

Match = Literal["exact", "contains", "regex", "number", "json", "choice"]
MATCHES: tuple[Match, ...] = get_args(Match)

_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+\u2212]?\.\d+")
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
# "The answer is (B)", "Answer: B", 答えはB; then a letter at the very beginning; then the last one that stands alone.
_CHOICES = (
    re.compile(
        r"(?:answer|choice|option|答え|正解|回答)(?:\s{1,4}is|\s{0,4}は)?\s{0,4}[:：]?\s{0,4}[*(\[（「]{0,4}([A-Z])(?![A-Za-z])",
        re.IGNORECASE,
    ),
    re.compile(r"^\s*[*(\[（「]*([A-Za-z])(?:[)\].:、。*）」]|(?<![Ii]),|\s*$)"),
    re.compile(r"(?<![A-Za-z'’])([B-HJ-Z]|[AI](?=[)\].:、。*）」]|\s*$))(?![A-Za-z'’])"),
)


class Unscorable(ValueError):
    """The expected answer cannot be used with this kind of match; the text says why."""


def is_right(expected: str, predicted: str, match: Match, normalise: Normalisation) -> bool:
    """Whether the prediction counts as right.

    exact: the same text. contains: the expected text is in the prediction. regex: the expected text is a pattern that
    is found in the prediction. number: the last number in both is the same. json: both are the same JSON value,
    whatever the order of keys. choice: both name the same letter. Raises Unscorable.
    """
    if not expected.strip():
        raise Unscorable("there is no expected answer")
    return _CHECKS[match](expected, predicted, normalise)


def number_in(text: str) -> Decimal | None:
    """The last number of a text, without thousands separators; None where there is none."""
    found = _NUMBER.findall(_DIGITS(text))
    if not found:
        return None
    try:
        return Decimal(found[-1].replace(",", "").replace("\u2212", "-"))
    except InvalidOperation:
        return None


def json_in(text: str) -> Any:
    """The JSON value a text is, or the one in its first fenced block. Raises ValueError where there is none."""
    try:
        return _loads(text)
    except ValueError:
        if fence := _FENCE.search(text):
            return _loads(fence[1])
        raise


def choice_in(text: str) -> str | None:
    """The letter of the choice a text names, in upper case; None where it names none."""
    text = _DIGITS(text)
    if found := list(_CHOICES[0].finditer(text)):
        return str(found[-1][1]).upper()
    if begin := _CHOICES[1].match(text):
        return str(begin[1]).upper()
    alone = _CHOICES[2].findall(text)
    return str(alone[-1]) if alone else None


def fields_of(value: Any, normalise: Normalisation) -> dict[tuple[str | int, ...], str]:
    """The leaves of a JSON value by their path, each as JSON text; what field accuracy compares."""
    found: dict[tuple[str | int, ...], str] = {}
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, (dict, list)) and item:
            inside = item.items() if isinstance(item, dict) else enumerate(item)
            left += [((*path, key), part) for key, part in inside]
            continue
        if isinstance(item, str):
            item = normalise(item)
        elif isinstance(item, float) and item.is_integer():
            item = int(item)  # 1 and 1.0 are the same number
        found[path] = json.dumps(item, ensure_ascii=False)
    return found


def _exact(expected: str, predicted: str, normalise: Normalisation) -> bool:
    return normalise(expected) == normalise(predicted)


def _contains(expected: str, predicted: str, normalise: Normalisation) -> bool:
    return normalise(expected) in normalise(predicted)


def _regex(expected: str, predicted: str, normalise: Normalisation) -> bool:
    return _pattern(expected).search(normalise(predicted)) is not None


def _number(expected: str, predicted: str, normalise: Normalisation) -> bool:
    if (right := number_in(expected)) is None:
        raise Unscorable("the expected answer holds no number")
    return number_in(predicted) == right


def _json(expected: str, predicted: str, normalise: Normalisation) -> bool:
    try:
        right = json_in(expected)
    except ValueError:
        raise Unscorable("the expected answer is not JSON") from None
    try:
        return fields_of(right, normalise) == fields_of(json_in(predicted), normalise)
    except ValueError:
        return False


def _choice(expected: str, predicted: str, normalise: Normalisation) -> bool:
    if (right := choice_in(expected)) is None:
        raise Unscorable("the expected answer names no choice")
    return choice_in(predicted) == right


_CHECKS: dict[Match, Callable[[str, str, Normalisation], bool]] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "number": _number,
    "json": _json,
    "choice": _choice,
}
_DIGITS = Normalisation(width=True)


@lru_cache(1024)
def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise Unscorable(f"the expected answer is no regular expression: {error}") from None


def _loads(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
