"""Files, tables and pipes -> requests: lazily, again as often as wanted, and checked before the first token."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch.sources.paths import user_path
    from batch.sources.readers import Entry, Tally
    from batch.sources.source import FILE_ENDINGS, FORMATS, Source, from_prompts, load_prompts, open_source
    from batch.sources.validation import Problem, Validation, validate

__all__ = [
    "FILE_ENDINGS",
    "FORMATS",
    "Entry",
    "Problem",
    "Source",
    "Tally",
    "Validation",
    "from_prompts",
    "load_prompts",
    "open_source",
    "user_path",
    "validate",
]

_HOMES = {
    **dict.fromkeys(("user_path",), "paths"),
    **dict.fromkeys(("Entry", "Tally"), "readers"),
    **dict.fromkeys(("FILE_ENDINGS", "FORMATS", "Source", "from_prompts", "load_prompts", "open_source"), "source"),
    **dict.fromkeys(("Problem", "Validation", "validate"), "validation"),
}


def __getattr__(name: str) -> Any:
    # On first use: who only wants to know how a path is meant need not wait for all readers.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
