"""The number that an answer gives, as an exact fraction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading import marks
from batch.evaluation.reading.numerals import Number, Numeral, begins_with_number, numerals
from batch.evaluation.reading.prepared import prepared

_WIDTH = Normalisation(width=True)
_LINE = 2_000  # characters looked at behind a mark
_TAILS = (200, 4_000)  # characters at the end in which the last number of a longer text is looked for first
_MOST_LISTED = 20  # numbers of one answer
_ENUMERATOR = re.compile(r"\d{1,3}[.)][ \t]+[^\s]")
# Between an announcement and its number.
_LEAD = re.compile(
    r"(?:[\s*_`\"'“”(\[{$≈~]|\\[(\[]|(?:about|approximately|exactly|around|just|simply|only|therefore|thus|now)(?=\s)"
    r"|[A-Za-z]{1,12}\s{0,2}[=≈](?!=)){0,16}"
)
# Between two numbers: of a sum that has no result yet, before a result, of a list.
_OPERATOR = re.compile(r"\s{0,3}(?:[A-Za-z]{1,20}\s{1,2})?(?:[+*×·÷]|-(?=\s)|/(?=\s)|x(?=\s))\s{0,3}")
_EQUALS = re.compile(r"(?:\s{0,3}[A-Za-z%]{1,20})?\s{0,3}[=≈]\s{0,3}")
_LISTED = re.compile(
    r"\s{0,3}(?:[,;&/、と]|,?\s{0,2}(?:and|or|to|und|et|ou|oder|bis|或|和)(?![A-Za-z]))\s{0,3}(?:[a-z]\s{0,2}=\s{0,2})?"
)
_ENDS = re.compile(r"[\s.。!)\]}$*_]*\Z")
# A text of numbers alone: nothing but signs, variables with = and the words of lists.
_BARE = re.compile(r"(?:[^A-Za-z\u3040-\u9fff\uac00-\ud7af]|(?<![A-Za-z])(?:[a-z](?=\s{0,2}=)|and|or|to)(?![A-Za-z]))*")
# What may stand in a box beside the number: its name before, its unit behind.
_NAME = re.compile(r"[\s$(]*(?:\\?[A-Za-z][A-Za-z ]{0,40}[=:≈])?[\s$≈(]*")
_UNIT = re.compile(
    r"[\s$.,!°()\[\]{}*\\/]*(?:[A-Za-zµμΩ\u3040-\u9fff\uac00-\ud7af]{1,40}(?:\^\{?-?\d\}?)?[\s$.,!°(){}*/]*){0,12}"
)


def number_in(text: str) -> Fraction | None:
    """The number that a text gives, without what stands behind it (60 of 60%); None where it gives none."""
    found = read_number(text)
    return None if found is None else found.value


def read_number(text: str) -> Number | None:
    """The number that a text gives as its answer; None where there is none, several, or a formula.

    In this order: what the last `\\boxed{…}` holds; what follows the last `####`; what follows the last phrase such as
    "the answer is" at once; the last number of the text. Of a calculation with its result the result is read.
    """
    text = marks.own_part(_WIDTH(text))
    if (box := marks.boxed(text)) is not None:
        return _of_box(prepared(box))
    text = prepared(text)
    if (at := text.rfind("####")) >= 0:
        end = _line_end(text, at)
        if found := list(islice(numerals(text, at, end), _MOST_LISTED)):
            return _of_answer(text[:end], found)
    for at in reversed(list(marks.marked(text))):
        lead = _LEAD.match(text, at)
        begin = lead.end() if lead else at
        if not begins_with_number(text, begin):
            continue
        end = _line_end(text, begin)
        found = list(islice(numerals(text, begin, end), _MOST_LISTED))
        if found and found[0].start == begin:
            return _of_answer(text[:end], found)
    return _of_text(text)


def _of_text(text: str) -> Number | None:
    """The number of a text in which nothing marks the answer."""
    for tail in _TAILS:
        # Of a long text the end is enough, where several numbers stand in it.
        begin = text.find(" ", len(text) - tail) + 1 if len(text) > tail else 0
        if begin:
            found = list(numerals(text, begin))
            if sum(not _enumerates(text, numeral) for numeral in found) > 2:
                return _last(text, found)
    found = list(numerals(text))
    return _of_answer(text, found) if found and _BARE.fullmatch(text) else _last(text, found)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at, at + _LINE)
    return min(len(text), at + _LINE) if end < 0 else end


def _of_answer(text: str, found: Sequence[Numeral]) -> Number | None:
    """The number where an answer begins with one: the result of the calculation that follows, None of a list."""
    index, operated = 0, False
    while index + 1 < len(found):
        here, following = found[index], found[index + 1]
        if _OPERATOR.fullmatch(text, here.end, following.start):
            operated = True
        elif operated and _EQUALS.fullmatch(text, here.end, following.start):
            operated = False
            found = found[index + 1 :]
            index = -1
        else:
            break
        index += 1
    if operated or _is_list(text, found):
        return None
    if len(found) > 1 and _BARE.fullmatch(text) and _EQUALS.fullmatch(text, found[-2].end, found[-1].start):
        return found[-1].number
    return found[0].number


def _is_list(text: str, found: Sequence[Numeral]) -> bool:
    if len(found) < 2:
        return False
    last = 0
    while last + 1 < len(found) and _LISTED.fullmatch(text, found[last].end, found[last + 1].start):
        last += 1
    return last > 0 and bool(_ENDS.match(text, found[last].end))


def _of_box(box: str) -> Number | None:
    """The number that a box holds and nothing else, but for its name and its unit."""
    found = list(numerals(box))
    if not found:
        return None
    first, last = found[0], found[-1]
    if len(found) > 1:
        return _of_answer(box, found) if _EQUALS.fullmatch(box, found[-2].end, last.start) else None
    name = _NAME.fullmatch(box, 0, first.start)
    return first.number if name and _UNIT.fullmatch(box, first.end) else None


def _last(text: str, found: Sequence[Numeral]) -> Number | None:
    """The last number of a text that is more than the number of a list's item."""
    if not found:
        return None
    kept = [numeral for numeral in found if not _enumerates(text, numeral)]
    last = (kept or found)[-1]
    if len(kept) > 1 and _OPERATOR.fullmatch(text, kept[-2].end, last.start):
        return None  # a calculation without its result
    return last.number


def _enumerates(text: str, numeral: Numeral) -> bool:
    line = text.rfind("\n", 0, numeral.start) + 1
    return not text[line : numeral.start].strip(" \t*#") and bool(_ENUMERATOR.match(text, numeral.start))
