"""What a batch may be: how many items, each with an id of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from batch.errors import BatchError
from batch.items import BatchItem, ItemId

Q = TypeVar("Q")


class BatchRequestError(BatchError, ValueError):
    """A request or a batch that cannot be run as it is; the text says what is allowed."""


def check_batch(requests: Iterable[BatchItem[Q]], most: int, *, split: bool) -> list[BatchItem[Q]]:
    """The requests as a list; raises BatchRequestError for too many of them, or for one id given twice."""
    items = list(requests)
    if len(items) > most and not split:
        raise BatchRequestError(
            f"a batch may have {most:,} items, and this one has {len(items):,}; split=True runs it in parts"
        )
    seen: set[ItemId] = set()
    for item in items:
        if item.id in seen:
            raise BatchRequestError(f"the id {item.id!r} is given to two items of the batch")
        seen.add(item.id)
    return items


def parts(items: Sequence[Q], size: int) -> Iterator[Sequence[Q]]:
    """The items in parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
