"""The desk of a run: what is with a provider is written into the job's store before anything else happens."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from batch.checkpoint import CheckpointStore, ResultWriter, submissions
from batch.engines.desk import Submission
from batch.items import ItemId, Request
from batch.running.answering import Answering
from batch.running.feed import WITH_PROVIDER, Feed


class StoreDesk:
    """What an engine may ask of the run, over the job's store. All of it belongs to the run's event loop.

    `waits` says whether the run stays for answers from far away, `stopping` whether it is to end soon; `begun` is
    called when the engine takes up what earlier processes have left.
    """

    def __init__(
        self,
        store: CheckpointStore,
        writer: ResultWriter,
        feed: Feed,
        answering: Answering,
        *,
        waits: bool,
        stopping: Callable[[], bool],
        begun: Callable[[], None],
    ) -> None:
        self._store, self._writer, self._feed, self._answering = store, writer, feed, answering
        self._waits, self._stopping, self._begun = waits, stopping, begun
        self._asked = False
        self._begun_writes: set[asyncio.Task[None]] = set()

    @property
    def awaits(self) -> bool:
        """Whether this run stays for what is with a provider: an engine that never asked for it would not bring it."""
        return self._waits and self._asked

    async def submitting(
        self, key: str, ids: Sequence[ItemId], *, lane: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Write down that these items are about to be handed over; on the disk when it returns."""
        self._asked = True
        if not self._feed.are_given(ids):
            with_provider = [index for index in ids if self._feed.place(index) == WITH_PROVIDER]
            what = f"item {with_provider[0]} is with a provider already" if with_provider else "items it does not have"
            raise ValueError(f"submission {key!r}: {what}")
        items = cast("list[int]", list(ids))
        await self._whole(self._insert(key, items, lane, dict(details or {})))

    async def _insert(self, key: str, items: list[int], lane: str, details: dict[str, Any]) -> None:
        await self._write(submissions.insert(key, items, lane, details))
        self._feed.hand_over(items)

    async def noted(self, key: str, details: Mapping[str, Any]) -> None:
        """Add to a submission's details; on the disk when it returns."""
        await self._whole(self._write(submissions.note(key, dict(details))))

    async def submitted(self, key: str, remote_id: str, *, details: Mapping[str, Any] | None = None) -> None:
        """The other side has it under this name; on the disk when it returns."""
        await self._whole(self._write(submissions.submit(key, remote_id, dict(details or {}))))

    async def settled(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """Everything it had to give was yielded; on the disk when it returns, after all those answers.

        Items that it has no answer to have had a try that failed, and are given out again as such.
        """
        await self._whole(self._settle(key, dict(details or {})))

    async def _settle(self, key: str, details: dict[str, Any]) -> None:
        ids = self._ids(key) if self._feed.with_provider else ()  # of most all that they had were answers
        await self._write(submissions.settle(key, details))
        for index in ids:
            if self._feed.place(index) == WITH_PROVIDER:
                self._answering.unanswered(index)

    async def withdrawn(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """It was never made or is given up: its items are pending again."""
        await self._whole(self._withdraw(key, dict(details or {})))

    async def _withdraw(self, key: str, details: dict[str, Any]) -> None:
        ids = self._ids(key)
        await self._write(submissions.withdraw(key, details))
        self._feed.return_all(ids)

    def open_submissions(self) -> Sequence[Submission]:
        """What is with a provider now, oldest first, from earlier processes too."""
        self._asked = True
        found = submissions.open_submissions(self._store)
        if found:
            self._begun()
        return found

    def submission_ids(self, key: str) -> Sequence[ItemId]:
        """The items of a submission, in the order in which they were given to `submitting`."""
        return self._ids(key)

    def request(self, id: ItemId) -> Request:  # noqa: A002 - the field's own name
        """An item's request, read from the store; KeyError of an id that is none of the job's."""
        if self._feed.place(id) is None:
            raise KeyError(id)
        return self._feed.request(int(id))

    @property
    def pending(self) -> int:
        """Items that may still be given out before one comes back."""
        return self._feed.pending

    @property
    def stopping(self) -> bool:
        """Whether the run is to end soon."""
        return self._stopping()

    @property
    def paused(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._feed.paused

    @property
    def waits(self) -> bool:
        """Whether the run stays until answers come from far away."""
        return self._waits

    def _ids(self, key: str) -> list[int]:
        return submissions.submission_ids(self._store, key)

    async def drain(self) -> None:
        """Until nothing that was begun is left half done, though the engine was cancelled in the middle of it."""
        await asyncio.gather(*self._begun_writes, return_exceptions=True)

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to its end, whatever becomes of the caller: what the disk says and what the run knows stay the same."""
        task = asyncio.create_task(work)
        self._begun_writes.add(task)
        task.add_done_callback(self._begun_writes.discard)
        await asyncio.shield(task)

    async def _write(self, op: Callable[[sqlite3.Connection], None]) -> None:
        await asyncio.wrap_future(self._writer.write(op))
