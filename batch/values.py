"""Classes of values that are made several times for each item of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen, slots):
        """As `dataclass`; but that a field is never set again is held by type checkers alone.

        Guarded, each field costs a call when an object is made, and of these there are several for each item of a job.
        """
        return dataclass(slots=slots, unsafe_hash=frozen)
