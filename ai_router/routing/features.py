"""What a prompt looks like, as hashed features: the same for the categories and for the predictors of success."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from zlib import crc32

from ai_router.routing.cues import TERM
from ai_router.routing.cues import found as found_cues
from ai_router.routing.language import language_of

BUCKETS = 1 << 13
MOST_CHARACTERS = 1500  # of a long prompt: what is asked stands at its beginning or its end
_HEAD, _TAIL = 1000, 500
_MOST_WORDS = 90
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]+|[^\W\d_]+|\d+|[=+*/^<>{}\[\]();:?!]")
_WIDE = re.compile(r"[぀-ヿ㐀-鿿가-힯]")
_CODE = re.compile(
    r"```|^\s*(def|class|import|from \w+ import|for .+:|while .+:|if .+:|return)\b|[;{]\s*$|\w+\([^()\n]*\)\s*[;{:]|"
    r"=>|->|==|!=|\+=|&&|\|\||</?\w+>|\bSELECT\b.+\bFROM\b|\w+\.\w+\(|\w+\[\w+\]|#include",
    re.MULTILINE,
)
_SUM = re.compile(
    r"\d\s*[-+*/×^=÷]\s*\d|\d\s*[a-z]\s*[-+=]|\b[a-z]\s*\^?\d?\s*[-+=]\s*\d|\d+\s*(%|percent)|[²³√∫]|\b\w+\(x\)"
)
_CAPITALS = re.compile(r"\b[A-Z]{2,}\b")  # SQL, HTTP, WHERE
_PAYLOAD = re.compile(r"[:：]\s*\S|\n\s*\S")


def has_code(text: str) -> bool:
    """Whether a text holds program code, or what looks very much like it."""
    return _CODE.search(text) is not None


def clipped(text: str) -> str:
    """The beginning and the end of a long text."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:_HEAD]}\n{text[-_TAIL:]}"


def feature_names(text: str) -> list[tuple[str, float]]:
    """Features by name with their weight, before they are hashed."""
    text = unicodedata.normalize("NFKC", clipped(text)).strip()
    low = text.lower()
    words = _words(low)
    found = [(f"w:{word}", 1.0) for word in words]
    found += [(f"b:{a} {b}", 1.0) for a, b in pairwise(words)]
    found += [(f"p:{word[:5]}", 0.7) for word in words if len(word) > 5]
    found += [(f"f{n}:{word}", 1.0) for n, word in enumerate(words[:3])]
    scale = 1 / math.sqrt(len(found) + 4)
    made = [(name, weight * scale) for name, weight in found]
    payload = _PAYLOAD.search(low)
    head = payload.start() if payload else len(low)
    cues = found_cues(low)
    for part, weight, end in (("c", 0.5, len(low)), ("i", 0.8, head)):
        counts = Counter(category for at, category in cues if at < end)
        made += [(f"{part}:{category}", weight * min(count, 3) ** 0.5) for category, count in counts.items()]
    made += [(f"s:{name}", 0.5) for name in _shape(text, low)]
    return made


def features(text: str) -> tuple[list[int], list[float]]:
    """Buckets and weights; a bucket may come twice, its weights add up."""
    named = feature_names(text)
    return [crc32(name.encode()) % BUCKETS for name, _ in named], [weight for _, weight in named]


def plain_features(text: str) -> list[float]:
    """A few that mean something by themselves, each from 0 to about 1."""
    low = clipped(text).lower()
    payload = _PAYLOAD.search(low)
    terms = sum(category == TERM for _, category in found_cues(low))
    letters = max(1, len(low))
    return [
        min(terms, 1),
        min(terms, 4) / 4,
        min(1.0, math.log2(letters) / 10),
        0.0 if payload is None else 1.0,
        float(has_code(text)),
        float(_CAPITALS.search(text) is not None),
        min(1.0, 5 * sum(map(str.isdigit, low)) / letters),
        float(low.rstrip().endswith(("?", "？"))),
        float(language_of(low) == "en"),
    ]


def _words(low: str) -> list[str]:
    words: list[str] = []
    for match in _WORD.finditer(low):
        word = match[0]
        if _WIDE.match(word):
            words += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word.isdigit():
            words.append("0" * min(len(word), 4))
        else:
            words.append(word)
        if len(words) >= _MOST_WORDS:
            break
    return words


def _shape(text: str, low: str) -> list[str]:
    said = []
    if has_code(text):
        said.append("code")
    sums = len(_SUM.findall(low))
    said += [f"sum{n}" for n in range(1, 1 + min(sums, 2))]
    digits = len(re.findall(r"\d+", low))
    said.append(f"digits{min(digits, 3)}")
    payload = _PAYLOAD.search(text)
    said.append("payload" if payload else "bare")
    if payload and len(text) - payload.start() > 60:
        said.append("long payload")
    said.append(f"length{min(7, len(text.encode()).bit_length())}")
    if low.rstrip().endswith(("?", "？")):
        said.append("question")
    if '"' in text or "「" in text or "«" in text:
        said.append("quotes")
    if _CAPITALS.search(text) and text != text.upper():
        said.append("capitals")
    said.append(f"lines{min(3, text.count(chr(10)))}")
    return [*said, "english" if language_of(low) == "en" else "other language"]
