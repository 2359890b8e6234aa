"""The desk: what an engine may ask of the run it answers for, above all what it has handed to somebody far away.

An item is pending, with a provider, or done. A submission is a group of items handed over together; it is written
down before it is made, so that no crash can leave one that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from batch.items import ItemId, Request


class SubmissionState(StrEnum):
    """Where a submission stands."""

    INTENDED = "intended"  # written down; whether the other side has it is not known until it is looked for
    SUBMITTED = "submitted"  # the other side has it, under a name of its own
    SETTLED = "settled"  # all it had to give was taken; its items without an answer are pending again
    WITHDRAWN = "withdrawn"  # it was never made, or is given up; its items are pending again

    @property
    def open(self) -> bool:
        """Whether its items are with a provider."""
        return self in (SubmissionState.INTENDED, SubmissionState.SUBMITTED)


@dataclass(frozen=True, slots=True)
class Submission:
    """A group of items handed over together. Times are local ISO 8601 without zone."""

    key: str  # ours, unique in the job and never used twice
    state: SubmissionState
    count: int  # items in it
    lane: str = ""  # the model or lane that it was handed to
    remote_id: str | None = None  # the other side's name for it, once known
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON: uploaded file, deadline, counts, …; no secrets
    created_at: str = ""
    submitted_at: str | None = None
    settled_at: str | None = None


class Desk(Protocol):
    """What an engine may ask of the run. All of it is called in the run's event loop."""

    async def submitting(
        self, key: str, ids: Sequence[ItemId], *, lane: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Write down that these items are about to be handed over; on the disk when it returns.

        From now on they are with a provider. Raises ValueError for a key that was used before, or an item that is
        with a provider already.
        """
        ...

    async def noted(self, key: str, details: Mapping[str, Any]) -> None:
        """Add to a submission's details (the name of an uploaded file, say); on the disk when it returns."""
        ...

    async def submitted(self, key: str, remote_id: str, *, details: Mapping[str, Any] | None = None) -> None:
        """The other side has it under this name; on the disk when it returns."""
        ...

    async def settled(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """Everything it had to give was yielded; on the disk when it returns, after all those answers.

        Its items that have no answer are pending again and are given out again, in this run or the next.
        """
        ...

    async def withdrawn(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """It was never made or is given up: its items are pending again."""
        ...

    def open_submissions(self) -> Sequence[Submission]:
        """What is with a provider now, oldest first, from earlier processes too."""
        ...

    def submission_ids(self, key: str) -> Sequence[ItemId]:
        """The items of a submission, in the order in which they were given to `submitting`."""
        ...

    def request(self, id: ItemId) -> Request:  # noqa: A002 - the field's own name
        """An item's request, read from the store, so that an engine that holds many items need hold only ids."""
        ...

    @property
    def pending(self) -> int:
        """Items that nobody has been given yet; 0 means that waiting for more to fill a group is in vain."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the run is to end soon: hand over what is whole, do not wait for far-away answers."""
        ...

    @property
    def paused(self) -> bool:
        """Whether nothing new is to be begun: an engine that holds items back goes on holding them."""
        ...

    @property
    def waits(self) -> bool:
        """Whether the run stays until answers come from far away; else an engine returns once all is handed over."""
        ...


class MemoryDesk:
    """A desk for engines that answer without a job: submissions are kept in memory, requests looked up in a mapping."""

    def __init__(self, requests: Mapping[ItemId, Request] | None = None) -> None:
        self._requests: Mapping[ItemId, Request] = {} if requests is None else requests
        self._submissions: dict[str, Submission] = {}
        self._ids: dict[str, tuple[ItemId, ...]] = {}

    async def submitting(
        self, key: str, ids: Sequence[ItemId], *, lane: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Keep it."""
        if key in self._submissions:
            raise ValueError(f"submission {key!r} was made before")
        self._submissions[key] = Submission(key, SubmissionState.INTENDED, len(ids), lane, None, dict(details or {}))
        self._ids[key] = tuple(ids)

    async def noted(self, key: str, details: Mapping[str, Any]) -> None:
        """Add to its details."""
        self._change(key, self._submissions[key].state, details)

    async def submitted(self, key: str, remote_id: str, *, details: Mapping[str, Any] | None = None) -> None:
        """The other side has it."""
        self._change(key, SubmissionState.SUBMITTED, details, remote_id)

    async def settled(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """It is over."""
        self._change(key, SubmissionState.SETTLED, details)

    async def withdrawn(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """It was never made."""
        self._change(key, SubmissionState.WITHDRAWN, details)

    def open_submissions(self) -> Sequence[Submission]:
        """What is with a provider."""
        return [submission for submission in self._submissions.values() if submission.state.open]

    def submission_ids(self, key: str) -> Sequence[ItemId]:
        """The items of a submission."""
        return self._ids[key]

    def request(self, id: ItemId) -> Request:  # noqa: A002 - the field's own name
        """One of the requests that the desk was made with."""
        return self._requests[id]

    @property
    def pending(self) -> int:
        """Not known: an engine must not wait for more."""
        return 0

    @property
    def stopping(self) -> bool:
        """Never."""
        return False

    @property
    def paused(self) -> bool:
        """Never."""
        return False

    @property
    def waits(self) -> bool:
        """Always: there is no later process."""
        return True

    def _change(
        self, key: str, state: SubmissionState, details: Mapping[str, Any] | None, remote_id: str | None = None
    ) -> None:
        old = self._submissions[key]
        self._submissions[key] = Submission(
            key, state, old.count, old.lane, remote_id or old.remote_id, {**old.details, **(details or {})}
        )


class LaneDesk:
    """A desk as one lane of several has it: submissions are of this lane. `handed_over(lane, ids)` hears of them."""

    def __init__(self, desk: Desk, lane: str, handed_over: Callable[[str, Sequence[ItemId]], None]) -> None:
        self._desk, self._lane, self._handed_over = desk, lane, handed_over

    async def submitting(
        self, key: str, ids: Sequence[ItemId], *, lane: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        """Write down that these items are about to be handed over, by this lane."""
        await self._desk.submitting(key, ids, lane=self._lane, details=details)
        self._handed_over(self._lane, ids)

    async def noted(self, key: str, details: Mapping[str, Any]) -> None:
        """Add to its details."""
        await self._desk.noted(key, details)

    async def submitted(self, key: str, remote_id: str, *, details: Mapping[str, Any] | None = None) -> None:
        """The other side has it."""
        await self._desk.submitted(key, remote_id, details=details)

    async def settled(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """Everything it had to give was yielded."""
        await self._desk.settled(key, details=details)
        self._handed_over(self._lane, ())

    async def withdrawn(self, key: str, *, details: Mapping[str, Any] | None = None) -> None:
        """It was never made."""
        await self._desk.withdrawn(key, details=details)
        self._handed_over(self._lane, ())

    def open_submissions(self) -> Sequence[Submission]:
        """Those of this lane."""
        return [submission for submission in self._desk.open_submissions() if submission.lane == self._lane]

    def submission_ids(self, key: str) -> Sequence[ItemId]:
        """The items of a submission."""
        return self._desk.submission_ids(key)

    def request(self, id: ItemId) -> Request:  # noqa: A002 - the field's own name
        """An item's request."""
        return self._desk.request(id)

    @property
    def pending(self) -> int:
        """Items that nobody has been given yet, of which some may be for this lane."""
        return self._desk.pending

    @property
    def stopping(self) -> bool:
        """Whether the run is to end soon."""
        return self._desk.stopping

    @property
    def paused(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._desk.paused

    @property
    def waits(self) -> bool:
        """Whether the run stays until answers come."""
        return self._desk.waits
