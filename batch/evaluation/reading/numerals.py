"""The numbers of a text, each as one token with its sign, its fraction, its power and the word that scales it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_MOST_DIGITS = 1_000  # of a number, written out; longer ones are not read

# How a run of digits and separators is a number: the form, what separates groups, the points.
_SPACES = " \u00a0\u2009\u202f"
_FORMS = tuple(
    (re.compile(form), groups, point)
    for form, groups, point in (
        (r"\d+(?:\.\d+)?|\.\d+", "", "."),
        (r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", ",", "."),
        (r"[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?", ",", "."),  # 12,34,567
        (r"[1-9]\d{0,2}(?:['’_]\d{3})+(?:\.\d+)?", "'’_", "."),
        (rf"[1-9]\d{{0,2}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?", _SPACES, ".,"),
        (r"[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}", ".", ","),  # 1.234,5
        (r"0,\d+|\d+,(?:\d{1,2}|\d{4,})", "", ","),  # 3,14
    )
)
_MONEY = r"(?:(?:US|CA|AU|NZ|HK|[CA])?[$€£¥₹₩₽]|(?<![A-Za-z])(?:USD|EUR|GBP|JPY|INR|CHF|CNY|RMB|Rs\.?)) ?"
_RUN = (
    rf"[1-9]\d{{0,2}}(?:[{_SPACES}]\d{{3}})+(?![\d/:'’_-])(?:[.,]\d+)?(?![\d/:])"
    r"|\d+(?:[.,:/'’_–—-]\d+)*|\.\d+"
)
_NUMERAL = re.compile(
    rf"(?P<sign>[-+–](?=[\d.$€£¥₹]|{_MONEY}\d)|[-+][ \t](?=[\d.$]))?(?P<money>{_MONEY})?(?P<late>-)?(?P<run>{_RUN})"
    r"(?P<exponent>[eE][-+]?\d{1,30}(?![A-Za-z\d]))?"
)
# What is a number to a mathematician only, and a tuple, which is several.
_FORMULA = re.compile(
    r"[(\[{]\s{0,3}-?[\d./]{1,40}(?:\s{0,3}[,;]\s{0,3}-?[\d./]{1,40}){1,20}\s{0,3}[)\]}]"
    r"|(?:[√π∞±]|\\(?:sqrt|frac|pi|infty|pm|binom|log|ln|sin|cos|tan|sum|int|[cl]?dots)(?![A-Za-z])"
    r"|(?<![A-Za-z])(?:sqrt|pi)(?![A-Za-z])|(?<=[)}])\s?\^|(?<![A-Za-z])[a-fknp-rt-z]\s?\^|(?<![A-Za-z\d])[xyz](?=\s?[-+*/]\s?\d))"
    r"(?:\s?\\?[({\[](?:[^\n(){}\[\]]|\{[^\n{}]{0,80}\}){0,80}[)}\]]|\s?[-+*/^]?\s?\d{1,20}){0,3}"
)
_FRACTION = re.compile(r"(.+?)/(.+)")
_SPACED_FRACTION = re.compile(r" / (\d{1,20})(?![\d.,:/])")
_POWER = re.compile(r"\s?\^\s?(?:\{\s?([-+]?\d{1,30})\s?\}|([-+]?\d{1,30}))")
_TENS = re.compile(r"\s?[×x*·]\s?10\s?\^\s?(?:\{\s?([-+]?\d{1,30})\s?\}|([-+]?\d{1,30}))")
_MIXED = re.compile(r"(?: and |[ \u00a0])(\d{1,9})/(\d{1,9})(?![\d/])")
_FACTORS = {
    "%": Fraction(1, 100),
    "パーセント": Fraction(1, 100),
    "percent": Fraction(1, 100),
    "per cent": Fraction(1, 100),
    "k": Fraction(1_000),
    "hundred": Fraction(100),
    "thousand": Fraction(1_000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
_FACTOR = re.compile(
    r"\s?(%|パーセント)|[ -]?(percent|per cent|hundred|thousand|million|billion|trillion)s?(?![A-Za-z])"
    r"|(k)(?![A-Za-z\d])",
    re.IGNORECASE,
)
_EAST = dict.fromkeys("百백", 10**2) | dict.fromkeys("千천", 10**3) | dict.fromkeys("万萬만", 10**4)
_EAST |= dict.fromkeys("億亿억", 10**8) | dict.fromkeys("兆조", 10**12)
_EAST_STEP = re.compile(rf"(\d[\d,]{{0,20}}(?:\.\d{{1,20}})?)([{''.join(_EAST)}])|(\d{{1,8}})(?![\d.,])")
_VARIABLE = re.compile(r"(?:[xyzni]|\\[a-z]{2,9})(?![A-Za-z])")
_NEGATIVE = re.compile(r"(?:negative|minus) ", re.IGNORECASE)
_JOINED = re.compile(r"\s?[*·×/^]?\s?")
_BEFORE_SIGN = (*"=([{:,$≈<>", " is")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written, and the factor that a word or sign behind it stands for (`%`, million, 万)."""

    value: Fraction
    factor: Fraction = Fraction(1)

    @property
    def scaled(self) -> Fraction:
        """With its factor."""
        return self.value * self.factor

    def same_as(self, other: Number) -> bool:
        """Whether both are exactly the same; one side may leave its factor to the question, or write it out."""
        if self.scaled == other.scaled:
            return True
        return self.value == other.value and self.factor != other.factor and 1 in (self.factor, other.factor)


@dataclass(frozen=True, slots=True)
class Numeral:
    """Where in a text a number stands; `number` is None for a formula or a tuple, which are none."""

    start: int
    end: int
    number: Number | None


def numerals(text: str, at: int = 0, end: int | None = None) -> Iterator[Numeral]:
    """The numbers and formulas of a text that `prepared` has seen, or of a part of it.

    Dates, times, ranges, versions and names such as H2O are left out.
    """
    stop = len(text) if end is None else end
    formula = _FORMULA.search(text, at, stop)
    while found := _NUMERAL.search(text, at, stop):
        if formula is not None and formula.end() <= at:
            formula = _FORMULA.search(text, at, stop)
        if formula is not None and formula.start() <= found.end("run"):
            # 2\sqrt{3}: the number before it is a part of it
            joined = found.start() < formula.start() and _JOINED.fullmatch(text, found.end(), formula.start())
            if joined or found.start() >= formula.start():
                at = max(formula.end(), found.end() if joined else 0)
                yield Numeral(min(found.start(), formula.start()), at, None)
                formula = _FORMULA.search(text, at, stop)
                continue
        numeral = _numeral(text, found)
        if numeral is not None:
            yield numeral
        at = max(found.end(), numeral.end if numeral else 0)
    if formula is not None and formula.start() >= at:
        yield Numeral(formula.start(), formula.end(), None)


def begins_with_number(text: str, at: int) -> bool:
    """Whether a number or a formula may begin there; cheap, and not the last word."""
    return bool(_NUMERAL.match(text, at) or _FORMULA.match(text, at) or _NEGATIVE.match(text, at))


def _numeral(text: str, found: re.Match[str]) -> Numeral | None:
    start, begin = found.start(), found.start("run")
    run, end = found["run"], found.end()
    if _is_part_of_a_name(text, start if found["money"] else begin, found):
        return None
    number = _fraction(run, found["exponent"])
    if number is None:
        return None
    number, end = _with_power(text, number, run, end)
    negative = found["late"] is not None
    if found["sign"]:
        if _is_sign(text, start, spaced=found["sign"][-1].isspace()):
            negative = negative or found["sign"][0] in "-–"
        else:
            start += len(found["sign"])
    elif before := re.search(r"(?:negative|(?<!\d )minus) \Z", text[max(0, start - 12) : start], re.IGNORECASE):
        negative, start = True, start - len(before[0])
    if number is None or _VARIABLE.match(text, end):
        return Numeral(start, max(end, found.end()), None)
    sign = -1 if negative else 1
    if east := _east(text, begin, run):
        value, factor, end = east
        return Numeral(start, end, Number(sign * value, factor))
    factor = Fraction(1)
    if scale := _FACTOR.match(text, end):
        factor, end = _FACTORS[(scale[1] or scale[2] or scale[3]).lower()], scale.end()
    return Numeral(start, end, Number(sign * number, factor))


def _is_part_of_a_name(text: str, at: int, found: re.Match[str]) -> bool:
    """H2O, x_1, COVID-19: no numbers; nor an exponent that belongs to a unit."""
    before = text[max(0, at - 3) : at]
    if found["money"]:
        return False
    if before.endswith(("_", "^", "_{", "^{")):
        return True
    if re.search(r"[A-Za-z]\Z", before) or re.search(r"\^\{?-\Z", before):
        return True
    return bool(found["sign"] or before.endswith("-")) and bool(re.search(r"[A-Za-z]-?\Z", before))


def _is_sign(text: str, at: int, *, spaced: bool) -> bool:
    before = text[max(0, at - 6) : at]
    if spaced:
        bare = before.rstrip(" \t")
        return bare.endswith(_BEFORE_SIGN)
    return not before or not re.search(r"[A-Za-z\d)\]}%°]\Z", before)


def _fraction(run: str, exponent: str | None) -> Fraction | None:
    if "/" in run:
        parts = run.split("/")
        above, below = _decimal(parts[0]), _decimal(parts[-1])
        return above / below if len(parts) == 2 and above is not None and below else None
    number = _decimal(run)
    if number is None or exponent is None:
        return number
    return _times_ten(number, int(exponent[1:]))


def _decimal(run: str) -> Fraction | None:
    if len(run) > _MOST_DIGITS:
        return None
    for form, groups, points in _FORMS:
        if form.fullmatch(run):
            plain = run.translate(dict.fromkeys(map(ord, groups)))
            for point in points:
                plain = plain.replace(point, ".")
            return Fraction(plain)
    return None


def _with_power(text: str, number: Fraction, run: str, end: int) -> tuple[Fraction | None, int]:
    """The number with what multiplies it or is added to it behind it: 1.5 × 10^3, 2^10, 2 1/2, 3 / 4."""
    if tens := _TENS.match(text, end):
        return _times_ten(number, int(tens[1] or tens[2])), tens.end()
    if power := _POWER.match(text, end):
        exponent = int(power[1] or power[2])
        if len(run) * abs(exponent) > _MOST_DIGITS or (not number and exponent < 0):
            return None, power.end()
        return number**exponent, power.end()
    if run.isdigit() and (mixed := _MIXED.match(text, end)) and 0 < int(mixed[1]) < int(mixed[2]):
        return number + Fraction(int(mixed[1]), int(mixed[2])), mixed.end()
    if "/" not in run and (spaced := _SPACED_FRACTION.match(text, end)) and int(spaced[1]):
        return number / int(spaced[1]), spaced.end()
    return number, end


def _times_ten(number: Fraction, exponent: int) -> Fraction | None:
    return number * Fraction(10) ** exponent if abs(exponent) <= _MOST_DIGITS else None


def _east(text: str, begin: int, run: str) -> tuple[Fraction, Fraction, int] | None:
    """1億2000万 as one number; 3万 as three with a factor; None where no such word follows."""
    total, count, at, least = Fraction(0), 0, begin, 10**13
    first: tuple[Fraction, int] | None = None
    while step := _EAST_STEP.match(text, at):
        if step[3] is not None:
            if not count:
                return None
            total, at, count = total + int(step[3]), step.end(), count + 1
            break
        number, unit = _decimal(step[1]), _EAST[step[2]]
        if number is None or unit >= least:
            break
        first = first or (number, unit)
        total, at, count, least = total + number * unit, step.end(), count + 1, unit
    if first is None:
        return None
    return (first[0], Fraction(first[1]), at) if count == 1 else (total, Fraction(1), at)
