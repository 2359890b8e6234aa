"""Patterns from data, searched within a time limit: one that backtracks without end must not hang a run."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# Of processor time for one row. A search that is sound takes milliseconds, one that is not takes for ever.
SECONDS = 1.0
_NAMED = re.compile(r"\\N\{[^}]*\}")
_TIMES = re.compile(r"\{(?:\d+,?\d*|,\d*)\}")
_LONGEST = 100_000  # characters of a pattern; compiling takes seconds from here on


class SlowPatternError(ValueError):
    """A search that was not over within its time."""


def found_by(pattern: str, text: str, *, seconds: float = SECONDS) -> bool:
    """Whether a pattern, as Python's `re` reads it with DOTALL, is found in a text.

    Raises ValueError where it is no pattern, SlowPatternError where the search takes longer than `seconds`.
    """
    compiled = _compiled(pattern)
    try:
        # concurrent: the interpreter is let go, so that screens and signals are served while it searches.
        return compiled.search(text, timeout=seconds, concurrent=True) is not None
    except TimeoutError:
        raise SlowPatternError(f"the pattern takes longer than {seconds:g} s") from None
    except MemoryError:
        raise SlowPatternError("the pattern takes more memory than there is") from None


@lru_cache(1024)
def _compiled(pattern: str) -> Any:
    import regex

    if len(pattern) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST:,} characters")
    try:
        # `re` has the say on what is a pattern; `regex` knows more, which a pattern from data does not mean.
        re.compile(pattern, re.DOTALL)
        return regex.compile(as_re_reads(pattern), regex.DOTALL | regex.VERSION0)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def as_re_reads(pattern: str) -> str:
    """A pattern of `re` for `regex`: what only the latter takes for fuzzy matching or a POSIX class is escaped."""
    parts: list[str] = []
    at, inside = 0, -1  # inside: where the set that is open begins
    while at < len(pattern):
        step = 1
        if pattern[at] == "\\":
            named = _NAMED.match(pattern, at)
            step = len(named[0]) if named else 2
            part = pattern[at : at + step]
        elif inside >= 0:
            if pattern[at] == "]" and at > inside:
                inside = -1
                part = "]"
            else:
                part = "\\[" if pattern[at] == "[" else pattern[at]
        elif pattern[at] == "[":
            step = 2 if pattern.startswith("[^", at) else 1
            part = pattern[at : at + step]
            inside = at + step  # a ] that stands first is itself
        elif pattern[at] == "{" and not _TIMES.match(pattern, at):
            part = "\\{"
        else:
            part = pattern[at]
        parts.append(part)
        at += step
    return "".join(parts)
