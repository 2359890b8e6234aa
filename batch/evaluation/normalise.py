"""What may be evened out in texts before they are compared. Nothing is, unless it is asked for."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, fields

# Halfwidth and Fullwidth Forms, and the ideographic space.
_WIDTH = re.compile("[\u3000\uff01-\uffef]+")


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Which differences between texts do not count. Called with a text, gives the text to compare."""

    nfkc: bool = False  # Unicode compatibility: ㍿ is 株式会社, ① is 1; width goes with it
    width: bool = False  # full-width Latin is half-width, half-width katakana full-width; nothing else
    whitespace: bool = False  # runs of white space are one space, none at the ends
    case: bool = False  # A is a

    def __call__(self, text: str) -> str:
        """The text to compare."""
        if self.nfkc:
            text = unicodedata.normalize("NFKC", text)
        elif self.width:
            text = _WIDTH.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
        if self.case:
            text = text.casefold()
        if self.whitespace:
            text = " ".join(text.split())
        return text

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(getattr(self, spec.name) for spec in fields(self))

    @property
    def names(self) -> tuple[str, ...]:
        """What is evened out, e.g. ("nfkc", "whitespace"); empty by default."""
        return tuple(spec.name for spec in fields(self) if getattr(self, spec.name))

    @classmethod
    def of(cls, names: str) -> Normalisation:
        """From a list like "nfkc,whitespace"; "" and "none" are the default. Raises ValueError for other names."""
        given = [name.strip().lower() for name in names.split(",") if name.strip()]
        known = [spec.name for spec in fields(cls)]
        if given == ["none"]:
            given = []
        for name in given:
            if name not in known:
                raise ValueError(f"{name!r} is no normalisation; there are {', '.join(known)}")
        return cls(**dict.fromkeys(given, True))
