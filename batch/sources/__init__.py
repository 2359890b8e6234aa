"""Files, tables and pipes -> requests: lazily, again as often as wanted, and checked before the first token."""

from __future__ import annotations

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
