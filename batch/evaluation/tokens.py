"""Texts as tokens. One evaluation uses one tokeniser for every metric and names it in its report."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from batch.errors import MissingExtraError

TOKENISERS = ("auto", "mecab", "13a", "zh", "script", "character")
EXTRA = "evaluation"

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
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

    auto: mecab for Japanese (texts with kana), zh for Chinese (Han characters without any), 13a for others, where they
    are installed; else script.
    mecab: words of the IPA dictionary, the same as sacrebleu's ja-mecab. script: words, numbers and katakana runs, any
    other character by itself. character: every character that is no space. 13a and
    zh: sacrebleu's, the standard of machine translation and the one for Chinese.
    Raises MissingExtraError where what was named is not installed, ValueError for other names.
    """
    if name == "auto":
        return _chosen(texts)
    if name == "mecab":
        return _mecab()
    if name in ("13a", "zh"):
        return _sacrebleu(name)
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
    texts = list(texts)
    name = "mecab" if is_japanese(texts) else "zh" if any(map(_HAN.search, texts)) else "13a"
    try:
        return find_tokeniser(name)
    except MissingExtraError:
        return Tokeniser(
            "script",
            _SCRIPT.findall,
            "none",
            f'words and single characters, as {name} needs pip install "ai-router[{EXTRA}]"; '
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


def _sacrebleu(name: str) -> Tokeniser:
    try:
        module: Any = importlib.import_module(f"sacrebleu.tokenizers.tokenizer_{name}")
    except ImportError:
        raise MissingExtraError(EXTRA, f"The tokeniser {name}") from None
    tokenize = getattr(module, f"Tokenizer{name.capitalize()}")()
    return Tokeniser(name, lambda text: tokenize(text).split(), name)
