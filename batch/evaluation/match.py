"""Whether a prediction is right, for tasks whose answers are checked in different ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading.choice import choice_in
from batch.evaluation.reading.number import read_number
from batch.evaluation.reading.pattern import SlowPatternError, found_by
from batch.evaluation.reading.value import fields_of, json_in

Match = Literal["exact", "contains", "regex", "number", "json", "choice"]
MATCHES: tuple[Match, ...] = get_args(Match)


class Unscorable(ValueError):
    """A pair cannot be judged by this kind of match; the text says why."""


def is_right(expected: str, predicted: str, match: Match, normalise: Normalisation) -> bool:
    """Whether the prediction counts as right.

    exact: the same text. contains: the expected text is in the prediction. regex: the expected text is a pattern that
    is found in the prediction. number: both give the same number. json: both are the same JSON value, whatever the
    order of keys. choice: both name the same letter. `reading` says what is read. Raises Unscorable.
    """
    if not expected.strip():
        raise Unscorable("there is no expected answer")
    return _CHECKS[match](expected, predicted, normalise)


def _exact(expected: str, predicted: str, normalise: Normalisation) -> bool:
    return normalise(expected) == normalise(predicted)


def _contains(expected: str, predicted: str, normalise: Normalisation) -> bool:
    return normalise(expected) in normalise(predicted)


def _regex(expected: str, predicted: str, normalise: Normalisation) -> bool:
    try:
        return found_by(expected, normalise(predicted))
    except SlowPatternError as error:
        raise Unscorable(str(error)) from None
    except ValueError as error:
        raise Unscorable(f"the expected answer is no regular expression: {error}") from None


def _number(expected: str, predicted: str, normalise: Normalisation) -> bool:
    if (right := read_number(expected)) is None:
        raise Unscorable("the expected answer is no single number")
    found = read_number(predicted)
    return found is not None and found.same_as(right)


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
