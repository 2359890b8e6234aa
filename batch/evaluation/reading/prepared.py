"""LaTeX and typographic ways to write a number, brought to plain ones before it is read."""

from __future__ import annotations

import re
import unicodedata

_ANNOTATION = re.compile(r"<<[^<>\n]{0,300}>>")  # GSM8K's own, <<48/2=24>>
_FRACTION = re.compile(
    r"\\[dtc]?frac\s?(?:\{\s?([-+]?)([\d.,]{1,40})\s?\}|()(\d))\s?(?:\{\s?([-+]?)([\d.,]{1,40})\s?\}|()(\d))"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf)|mbox|operatorname)\s?\{([^{}]{0,200})\}")
_PART_OF = re.compile(r"(\d{1,20})\s?分[のの之]\s?(\d{1,20})")
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR = re.compile("(\\d?)([¼-¾⅐-⅞])")
_PLAIN = (
    (re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|\\[!]"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\[,;: ](?=\d{3})"), "\u2009"),
    (re.compile(r"\\[,;: ]|\\quad|~"), " "),
    (re.compile(r"\^\s?\{?\s?\\circ\s?\}?"), "°"),
    (re.compile(r"\\([$%&_#])"), r"\1"),
    (re.compile(r"\\times(?![a-z])"), "×"),
    (re.compile(r"\\cdot(?![a-z])"), "·"),
    (re.compile(r"\\div(?![a-z])"), "÷"),
    (re.compile(r"\\approx(?![a-z])"), "≈"),
    (re.compile("[\u2044\u2215]"), "/"),
    (re.compile("\u2212"), "-"),
)


def prepared(text: str) -> str:
    """A text with fractions as 3/4, powers as 10^3 and signs as ASCII has them."""
    text = _ANNOTATION.sub("", text)
    if "\\" in text or "{" in text or "~" in text:
        text = _TEXT.sub(r" \1", text)
    for pattern, plain in _PLAIN:
        text = pattern.sub(plain, text)
    text = _FRACTION.sub(_fraction, text)
    text = _VULGAR.sub(_vulgar, text)
    text = _SUPERS.sub(lambda found: "^" + found[0].translate(_SUPER), text)
    return _PART_OF.sub(r"\2/\1", text)


def _fraction(found: re.Match[str]) -> str:
    groups = [group for group in found.groups() if group is not None]
    sign, above, below_sign, below = groups
    minus = "-" if (sign == "-") != (below_sign == "-") else ""
    # 2\frac{1}{2} is a mixed number: a space keeps the digits apart.
    before = found.string[found.start() - 1] if found.start() else ""
    return f"{' ' if before.isdigit() else ''}{minus}{above}/{below}"


def _vulgar(found: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return f"{found[1]} {plain}" if found[1] else plain
