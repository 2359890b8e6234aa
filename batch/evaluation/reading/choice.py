"""The letter of the choice that an answer names; every letter of the alphabet is read by the same rules."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading import marks

_WIDTH = Normalisation(width=True)
_NEAR = 60  # characters looked at on either side of a letter
_TEX = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|mbox)\s?(?=\{)")
_LETTER = re.compile(
    r"(?<![A-Za-z0-9_&])(?<![A-Za-z0-9]['’.\-–])([A-Za-z])(?![A-Za-z0-9_&]|['’][A-Za-z]|[-–][A-Za-z]|\.[A-Za-z])"
)
_TOGETHER = re.compile(r"(?<![A-Za-z0-9_])([A-J]{2,8})(?=[*_)\]}.$\s]*(?:\n|\Z))")
_SEVERAL = re.compile(
    r"[\s(\[*]*(?:[A-J]{2,8}|[A-Z][)\]*]*(?:(?:\s*[,;/&、]\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+)[(\[*]*[A-Z][)\]*]*){1,25})[.\s]*"
)
_OPENINGS = "*_`\"'“”‘’「『（([<{【$\\"
_CLOSINGS = "*_`\"'“”‘’」』）)]>}】$\\"
_BRACKETS = "(（[【「『"

# What follows a letter that stands for itself. A word written small makes it a word: "A hash table" names no choice,
# and so does "B hash table" not.
_ENDS = re.compile(r"\s*\Z|[ \t]*\n")
_STOPS = re.compile(r"[ \t]?[.。、，；：,:;!?！？/]|[ \t]+(?:[-–—=→]|[(（\[])|[^\x00-\x7f]")
_GOES_ON = re.compile(
    r"[ \t]+(?:because|since|as|so|due|which|though|although|but|not|while|where|given|weil|denn|car|porque|perché)"
    r"(?![A-Za-z])"
)
_ANOTHER = re.compile(r"[ \t]+(?:and|or|und|et|oder|ou)[ \t]+[*_(\[]{0,3}[A-Z](?![A-Za-z0-9'’])")
_CAPITAL = re.compile(r"[ \t]+(?:[A-Z][\w'’]|\d)")

_NOUN = r"(?:(?:the[ \t]+)?(?:option|choice|letter|answer|statement|选项|選択肢)[ \t]{0,3})?"
_LEAD = re.compile(rf"[\s:：{re.escape(_OPENINGS)}]{{0,12}}(?i:{_NOUN})[\s{re.escape(_OPENINGS)}]{{0,12}}")
_JOINS = re.compile(
    r"\s{0,3}(?:,|;|/|&|、|と|和|(?:,\s{0,2})?(?:and|or|und|et|oder|ou)(?![A-Za-z]))\s{0,3}(?:(?:and|or)\s)?"
)
_OR = re.compile(r"(?<![A-Za-z])(?:or|oder|ou)(?![A-Za-z])|/|または|或")

# "B is correct", B が正解; and what says so in front of the letter: "I choose B", 我选B.
_IS_RIGHT = re.compile(
    r"[ \t]+(?:is|would be|must be|should be|seems|looks|appears)(?![A-Za-z])"
    r"(?:[ \t]+(?!not\b|never\b|hardly\b|no\b)[A-Za-z]+){0,3}?"
    r"[ \t]+(?:correct|right|true|best|answer|accurate|appropriate)(?![A-Za-z])"
    r"|\s{0,2}(?:が|は)\s{0,2}(?:最も)?(?:正解|正しい|答え|適切|適当)"
    r"|\s{0,2}(?:です|を選|だと思|是正确|是对|正确|이 정답|가 정답)"
)
_CHOSEN = re.compile(
    r"(?:(?<![A-Za-z])(?:choose|chose|pick|picked|select|selected|go with|going with|opt for|vote for|answer with|say)"
    rf"[ \t]{{1,3}}(?i:{_NOUN})|(?:选择|選擇|我选|选项|選択肢)(?:は|是|为)?\s?)\Z"
)
_NEGATION = re.compile(r"(?:not|n['’]t|never|neither|nor|without)[ \t]+(?:[a-z]+[ \t]+){0,2}\Z")
_EAST_NEGATION = re.compile(r"\s{0,2}(?:では(?:な|あり)|じゃ|ではなく|不是|不对)")

_ITEM = re.compile(r"[ \t]{0,8}(?:[-*][ \t])?[*_(\[（]{0,3}([A-Z])[*_]{0,2}[).:、．\]）]")
_DELIMITED = re.compile(r"[*_]{0,2}[).:、．\]）]")
_DELIMITER = re.compile(r"[.:、。．：;](?=\s|[*_`)\]]|\Z|[^\x00-\x7f])|[ \t]{1,3}[-–—=→(（]")
_CONTEXT = re.compile(
    r"(?:(?<![A-Za-z])(?:is|be|choose|pick|select|say|with|option|choice|letter|answer|therefore|thus|hence|so|think|guess)"
    r"|['’]s|\A|\n|[,;:=→–—]|(?<=\s)-)[ \t,:]{0,3}\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Letter:
    """A letter that no word holds, with the brackets, quotes and stars around it."""

    letter: str
    start: int
    end: int
    begin: int  # with what opens before it
    close: int  # with what closes behind it

    def bracketed(self, text: str) -> bool:
        return self.begin < self.start and self.close > self.end

    def stands(self, text: str) -> bool:
        """Whether it is a letter for itself rather than a word, by what follows it."""
        if self.bracketed(text):
            return True
        if _ENDS.match(text, self.close) or _STOPS.match(text, self.close) or _GOES_ON.match(text, self.close):
            return True
        return self.letter.isupper() and bool(_CAPITAL.match(text, self.close) or _ANOTHER.match(text, self.close))


def choice_in(text: str) -> str | None:
    """The letter of the choice a text names, in upper case, or several in order (AC); None where it names none.

    In this order: what the last `\\\\boxed{…}` holds; the last phrase that names an answer ("the answer is B", "B is
    correct", "I choose B"); the letter that the text begins with; the last letter that stands for itself. A letter in
    front of a word written small is taken for a word, whichever it is. "A or B" names none.
    """
    text = _TEX.sub("", marks.own_part(_WIDTH(text)))
    if (box := marks.boxed(text)) is not None:
        return _announced(box, _letters(box), 0)[0]
    letters = _letters(text)
    if len(text) < 2 * _NEAR and _SEVERAL.fullmatch(text):
        return _announced(text, letters, 0)[0]
    said = _said(text, letters)
    return said[0] if said else _leading(text, letters) or _last(text, letters)


def _letters(text: str) -> list[_Letter]:
    found = []
    for match in _LETTER.finditer(text):
        begin, close = match.start(), match.end()
        while begin and match.start() - begin < 6 and text[begin - 1] in _OPENINGS:
            begin -= 1
        while close < len(text) and close - match.end() < 6 and text[close] in _CLOSINGS:
            close += 1
        found.append(_Letter(match[1], match.start(), match.end(), begin, close))
    return found


def _said(text: str, letters: Sequence[_Letter]) -> tuple[str | None] | None:
    """What the last phrase that names an answer names, if there is one."""
    last: tuple[int, str | None] | None = None
    for at in marks.marked(text):
        named, said = _announced(text, letters, at)
        if said:
            last = at, named
    for letter in letters:
        if last is not None and letter.start <= last[0]:
            continue
        if (letter.letter.isupper() or letter.bracketed(text)) and _is_chosen(text, letter):
            last = letter.start, letter.letter.upper()
    return None if last is None else (last[1],)


def _is_chosen(text: str, letter: _Letter) -> bool:
    """Whether the words around a letter say that it is right, or that it is chosen."""
    if _EAST_NEGATION.match(text, letter.close):
        return False
    before = text[max(0, letter.begin - _NEAR) : letter.begin]
    if _IS_RIGHT.match(text, letter.close) and not _NEGATION.search(before):
        return True
    phrase = _CHOSEN.search(before) if letter.stands(text) else None
    return phrase is not None and not _NEGATION.search(before[: phrase.start()] + " ")


def _announced(text: str, letters: Sequence[_Letter], at: int) -> tuple[str | None, bool]:
    """The letters that stand at a place where an answer is announced; and whether any do."""
    lead = _LEAD.match(text, at)
    begin = lead.end() if lead else at
    together = _TOGETHER.match(text, begin)
    if together and all(a < b for a, b in pairwise(together[1])):
        return together[1], True
    index = bisect_left(letters, begin, key=lambda letter: letter.start)
    if index == len(letters) or letters[index].start != begin:
        return None, False
    first = letters[index]
    if not first.stands(text) or _EAST_NEGATION.match(text, first.close):
        return None, False
    found, hedged = {first.letter.upper()}, False
    for here, following in pairwise(letters[index : index + 27]):
        joint = _JOINS.fullmatch(text, here.close, following.begin)
        if not joint or not following.stands(text) or following.letter.isupper() != first.letter.isupper():
            break
        hedged = hedged or bool(_OR.search(joint[0]))
        found.add(following.letter.upper())
    return None if hedged else "".join(sorted(found)), True


def _leading(text: str, letters: Sequence[_Letter]) -> str | None:
    """The letter that a text begins with, where it is set off from what follows."""
    if not letters or text[: letters[0].begin].strip(" \t\r\n-#>") or letters[0].start in _listed(text, letters):
        return None
    first = letters[0]
    at = first.close
    set_off = (
        at > first.end
        or _ENDS.match(text, at)
        or _DELIMITER.match(text, at)
        or _GOES_ON.match(text, at)
        or (text.startswith(",", at) and (_GOES_ON.match(text, at + 1) or _CAPITAL.match(text, at + 1)))
    )
    return first.letter.upper() if set_off else None


def _last(text: str, letters: Sequence[_Letter]) -> str | None:
    """The last letter that stands for itself where an answer could; None where it is one of several."""
    listed = _listed(text, letters)
    for index in range(len(letters) - 1, -1, -1):
        letter = letters[index]
        before = text[max(0, letter.begin - _NEAR) : letter.begin]
        if letter.start in listed or not letter.stands(text) or _NEGATION.search(before):
            continue
        if letter.letter.islower() and not (letter.bracketed(text) and text[letter.start - 1] in _BRACKETS):
            continue
        if not letter.bracketed(text) and not _CONTEXT.search(before):
            continue
        near = letters[max(0, index - 1) : index + 2]
        joined = any(_JOINS.fullmatch(text, one.close, other.begin) for one, other in pairwise(near))
        return None if joined else letter.letter.upper()
    return None


def _listed(text: str, letters: Sequence[_Letter]) -> set[int]:
    """Where the letters of choices that are written out again stand: A) … B) … C) …, on lines or in one."""
    items: list[tuple[int, str]] = []
    at = 0
    for line in text.splitlines(keepends=True):
        if item := _ITEM.match(line):
            items.append((at + item.start(1), item[1]))
        elif line.strip():
            items.append((-1, ""))
        at += len(line)
    listed = _runs(items, 2)
    return listed | _runs([(each.start, each.letter) for each in letters if _DELIMITED.match(text, each.end)], 3)


def _runs(items: Sequence[tuple[int, str]], shortest: int) -> set[int]:
    """The places of letters that follow each other in the order of the alphabet, at least so many of them."""
    found: set[int] = set()
    run: list[int] = []
    before = ""
    for at, letter in [*items, (-1, "")]:
        if not (letter and before and ord(letter) == ord(before) + 1):
            if len(run) >= shortest:
                found.update(run)
            run = []
        if letter:
            run.append(at)
        before = letter
    return found
