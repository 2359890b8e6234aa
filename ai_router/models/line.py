"""A model's line: what is known of how it runs, in the words that its engine has for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def place_of(about: Mapping[str, Any]) -> str:
    """`cpu fp32`: where a model runs and in what precision; "" of what is not known."""
    return " ".join(str(about[key]) for key in ("device", "precision") if about.get(key))


def words_of(about: Mapping[str, Any]) -> list[str]:
    """What an engine has to say of a model beside its place: what runs it, and its notes."""
    runner, origin = str(about.get("runner", "")), about.get("kernels_from")
    runs = f"{runner} ({origin})" if runner and origin else runner
    return [*([runs] if runs else []), *map(str, about.get("notes", ()))]
