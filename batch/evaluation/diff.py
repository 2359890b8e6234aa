"""The differences of a pair's texts as spans to show, with marks for where there is no colour."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from batch.evaluation.edits import Edit, edits

Kind = Literal["same", "deleted", "inserted"]
Span = tuple[str, Kind]

# Words and white space stay whole, every other character stands for itself.
_PIECES = re.compile(r"[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+|\s+|.", re.DOTALL)
_ALIKE = 0.5
MARKS: dict[Kind, tuple[str, str]] = {"same": ("", ""), "deleted": ("[-", "-]"), "inserted": ("{+", "+}")}


class PairDiff(NamedTuple):
    """What to show of a pair: what should have been changed in the input, and where the prediction is wrong."""

    input: list[Span]  # what the expected text has not is "deleted"
    expected: list[Span]  # what the input has not is "inserted"
    predicted: list[Span]  # against the expected text: missing is "deleted", too much is "inserted"


def diff(input: str, expected: str, predicted: str, *, correction: bool = True) -> PairDiff:  # noqa: A002 - its name
    """The spans of a pair's three texts; where it is no correction, input and expected text stand as they are.

    An answer that has little of the expected text stands as it is too: its differences would be all of it.
    """
    if not correction:
        return PairDiff(_plain(input), _plain(expected), spans_if_alike(expected, predicted))
    wanted = spans(input, expected)
    return PairDiff(
        [span for span in wanted if span[1] != "inserted"],
        [span for span in wanted if span[1] != "deleted"],
        spans(expected, predicted),
    )


def spans(before: str, after: str) -> list[Span]:
    """What stays, goes and comes from one text to another, in order; joined without what came it is `before`."""
    pieces, target = _PIECES.findall(before), _PIECES.findall(after)
    found: list[Span] = []
    at = 0
    for edit in _joined(pieces, edits(pieces, target)):
        _add(found, pieces[at : edit.start], "same")
        _add(found, pieces[edit.start : edit.end], "deleted")
        _add(found, edit.replacement, "inserted")
        at = edit.end
    _add(found, pieces[at:], "same")
    return found


def spans_if_alike(before: str, after: str) -> list[Span]:
    """As `spans`; a text that has little of the one before stands as it is: its differences would be all of both."""
    found = spans(before, after)
    kept = sum(len(text) for text, kind in found if kind == "same")
    return found if kept >= _ALIKE * max(len(before), len(after)) else _plain(after)


def marked(parts: Iterable[Span]) -> str:
    """Spans as plain text: [-gone-] and {+come+}."""
    return "".join(f"{MARKS[kind][0]}{text}{MARKS[kind][1]}" for text, kind in parts)


def _plain(text: str) -> list[Span]:
    return [(text, "same")] if text else []


def _joined(pieces: list[str], found: list[Edit]) -> list[Edit]:
    """Edits with nothing but one space between them as one: a phrase that changed reads better whole."""
    joined: list[Edit] = []
    for edit in found:
        if joined and edit.start - joined[-1].end == 1 and pieces[joined[-1].end].isspace():
            last = joined.pop()
            edit = Edit(last.start, edit.end, (*last.replacement, pieces[last.end], *edit.replacement))
        joined.append(edit)
    return joined


def _add(found: list[Span], pieces: Iterable[str], kind: Kind) -> None:
    if text := "".join(pieces):
        found.append((text, kind))
