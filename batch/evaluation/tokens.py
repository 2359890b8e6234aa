"""Texts as tokens. One evaluation uses one tokeniser for every metric and names it in its report."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from batch.errors import MissingExtraError

TOKENISERS = ("auto", "mecab", "script", "character", "13a")
EXTRA = "evaluation"

_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
# Words and numbers of scripts that write spaces, and katakana runs, are kept; kanji, hiragana and signs stand alone.
_LETTER = r"(?:(?![\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff\d_])\w)"
_SCRIPT = re.compile(
    r"[\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f]+"
    r"|\d+(?:[.,]\d+)*"
    rf"|{_LETTER}+(?:['’]{_LETTER}+)*"
    r"|\S"
)


@dataclass(frozen=True, slots=True)
class Tokeniser:
    """Splits a text into tokens. `bleu` is what sacrebleu calls it; "none" where it has no such one."""

    name: str
    split: Callable[[str], list[str]]
    bleu: str
    note: str = ""  # what a reader of the scores should know

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text."""
        return self.split(text)


def find_tokeniser(name: str = "auto", texts: Iterable[str] = ()) -> Tokeniser:
    """The tokeniser of a name (TOKENISERS); `auto` looks at some texts.

    auto: mecab for Japanese (texts with kana) where it is installed, 13a for others where sacrebleu is, else script.
    mecab: words of the IPA dictionary, the same as sacrebleu's ja-mecab. script: words, numbers and katakana runs, any
    other character by itself. character: every character that is no space. 13a: the standard of machine translation.
    Raises MissingExtraError where what was named is not installed, ValueError for other names.
    """
    if name == "auto":
        return _chosen(texts)
    if name == "mecab":
        return _mecab()
    if name == "13a":
        return _13a()
    if name == "script":
        return Tokeniser("script", _SCRIPT.findall, "none")
    if name == "character":
        return Tokeniser("character", characters, "char")
    raise ValueError(f"{name!r} is no tokeniser; there are {', '.join(TOKENISERS)}")


def characters(text: str) -> list[str]:
    """Every character that is no space."""
    return list("".join(text.split()))


def is_japanese(texts: Iterable[str]) -> bool:
    """Whether some text holds kana."""
    return any(_KANA.search(text) for text in texts)


def _chosen(texts: Iterable[str]) -> Tokeniser:
    japanese = is_japanese(texts)
    try:
        return _mecab() if japanese else _13a()
    except MissingExtraError:
        what = "mecab's words" if japanese else "the standard 13a"
        return Tokeniser(
            "script",
            _SCRIPT.findall,
            "none",
            f'words and single characters, as {what} needs pip install "ai-router[{EXTRA}]"; '
            "scores by different tokenisers cannot be compared",
        )


def _mecab() -> Tokeniser:
    try:
        ipadic: Any = importlib.import_module("ipadic")
        mecab: Any = importlib.import_module("MeCab")
    except ImportError:
        raise MissingExtraError(EXTRA, "The tokeniser mecab") from None
    tagger = mecab.Tagger(f"{ipadic.MECAB_ARGS} -Owakati")

    def split(text: str) -> list[str]:
        # It reads up to a NUL or a line break only.
        parsed = tagger.parse(text.replace("\0", "\ufffd").replace("\n", " "))
        return parsed.split() if parsed is not None else _SCRIPT.findall(text)

    return Tokeniser(f"mecab-{tagger.version()}-IPA", split, "ja-mecab")


def _13a() -> Tokeniser:
    try:
        module: Any = importlib.import_module("sacrebleu.tokenizers.tokenizer_13a")
    except ImportError:
        raise MissingExtraError(EXTRA, "The tokeniser 13a") from None
    tokenize = module.Tokenizer13a()
    return Tokeniser("13a", lambda text: tokenize(text).split(), "13a")
