"""What is with a provider now: each batch as this process knows it, and on the disk before anything follows from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from batch.engines.desk import Desk, Submission
from batch.engines.provider.base import Page, Remote, Settings
from batch.engines.provider.faults import asked

T = TypeVar("T")


@dataclass(slots=True)
class Watched:
    """A submission in this process."""

    key: str
    count: int
    details: dict[str, Any]
    remote_id: str | None
    due: float = 0.0  # monotonic seconds of the next look
    pause: float = 0.0  # until the one after it
    unclear: str = ""  # why a person has to say how it goes on
    cancelled: bool = False  # by the rescue
    word: str = ""
    done: int | None = None

    @classmethod
    def of(cls, submission: Submission) -> Watched:
        """One that is on the disk."""
        return cls(submission.key, submission.count, dict(submission.details), submission.remote_id)


class Line:
    """The line to a provider: its page, opened when it is first needed, and calls that block nobody."""

    def __init__(self, settings: Settings, open_page: Callable[[], Page]) -> None:
        self.settings = settings
        self.open_page = open_page
        self.doing = ""  # in words, what is going on
        self._page: Page | None = None

    @property
    def page(self) -> Page:
        """The provider; raises FatalError without a key."""
        if self._page is None:
            self._page = self.open_page()
        return self._page

    async def call(self, work: Callable[[Page], T], doing: str = "") -> T:
        """What `work` makes of the page, in a thread; raises Refused, Lost or FatalError."""
        page, before = self.page, self.doing
        self.doing = doing or before
        try:
            return await asyncio.to_thread(asked, self.settings.provider, lambda: work(page))
        finally:
            self.doing = before

    async def close(self) -> None:
        """Free the client."""
        page, self._page = self._page, None
        if page is not None:
            await asyncio.to_thread(page.close)


class Ledger:
    """The batches that are open, over a run's desk. Every change is on the disk when it returns."""

    def __init__(self, settings: Settings, desk: Desk, clock: Callable[[], float]) -> None:
        self.settings, self.desk, self.clock = settings, desk, clock
        self._watched = {s.key: Watched.of(s) for s in desk.open_submissions()}
        known = [w.details.get("began", w.details.get("at")) for w in self._watched.values()]
        # Seconds since the epoch of the first batch whose items are not all answered: a deadline counts from it.
        self.began: float | None = min((float(at) for at in known if at is not None), default=None)

    def __iter__(self) -> Iterator[Watched]:
        return iter(list(self._watched.values()))

    def __len__(self) -> int:
        return len(self._watched)

    @property
    def clear(self) -> list[Watched]:
        """Those of which nobody has to be asked."""
        return [watched for watched in self._watched.values() if not watched.unclear]

    async def intend(self, key: str, ids: list[Any], size: int) -> Watched:
        """A batch is about to be made of these items, by a file of so many bytes."""
        now = self.clock()
        self.began = self.began or now
        about = {"provider": self.settings.provider, "model": self.settings.model}
        details = {**about, "at": now, "began": self.began, "bytes": size}
        await self.desk.submitting(key, ids, details=details)
        watched = self._watched[key] = Watched(key, len(ids), details, None)
        return watched

    async def note(self, watched: Watched, details: dict[str, Any]) -> None:
        """Something more is known of it."""
        watched.details |= details
        await self.desk.noted(watched.key, details)

    async def note_state(self, watched: Watched, remote: Remote) -> None:
        """How it stands there, where that has changed."""
        now: dict[str, Any] = {"state": remote.word, "done": remote.done, "failed": remote.failed}
        if remote.expires:
            now["expires"] = remote.expires
        if any(watched.details.get(name) != value for name, value in now.items()):
            await self.note(watched, {**now, "looked": self.clock()})

    async def made(self, watched: Watched, remote: Remote) -> None:
        """The provider has it, under this name."""
        watched.remote_id = remote.id
        known = {"state": remote.word, "unclear": ""} | ({"expires": remote.expires} if remote.expires else {})
        watched.details |= known
        await self.desk.submitted(watched.key, remote.id, details=known)
        self.later(watched)

    async def give_up(self, watched: Watched, why: str = "") -> None:
        """It was never made; its items are pending again."""
        await self.desk.withdrawn(watched.key, details={"ended": why} if why else None)
        self._watched.pop(watched.key, None)

    async def ask(self, watched: Watched, why: str, **more: Any) -> None:
        """A person has to say how it goes on."""
        watched.unclear = why
        await self.note(watched, {"unclear": why, **more})

    async def close(self, watched: Watched, details: dict[str, Any], *, untried: bool) -> None:
        """All that it had was taken. What is without an answer had a try, or, where it is `untried`, had none."""
        self._watched.pop(watched.key, None)
        if untried:
            await self.desk.withdrawn(watched.key, details=details)
        else:
            await self.desk.settled(watched.key, details=details)

    def later(self, watched: Watched) -> None:
        """Set the time of the next look: soon at first, then as the settings say."""
        longest = self.settings.poll
        watched.pause = min(longest, max(watched.pause * 1.5, min(2.0, longest)))
        watched.due = time.monotonic() + watched.pause

    # -- in words ------------------------------------------------------------------------------------------------

    @property
    def words(self) -> list[str]:
        """How many there are, how far, how old, until when."""
        watched = list(self._watched.values())
        if not watched:
            return []
        parts = [f"{len(watched)} batch{'es' * (len(watched) != 1)} with {self.settings.provider}"]
        counted = [w.done for w in watched if w.done is not None]
        if counted:
            parts.append(f"{sum(counted):,} of {sum(w.count for w in watched):,} done")
        now = self.clock()
        parts.append(f"oldest {_span(now - min(w.details.get('at', now) for w in watched))}")
        expiring = [w.details["expires"] for w in watched if w.details.get("expires")]
        if expiring and min(expiring) > now:
            parts.append(f"expires in {_span(min(expiring) - now)}")
        if unclear := sum(bool(w.unclear) for w in watched):
            parts.append(f"{unclear} to be settled by ai-router reconcile")
        return parts

    @property
    def next_look(self) -> float | None:
        """Seconds until it is looked at again; None where nothing is."""
        due = [w.due for w in self._watched.values() if not w.unclear]
        return max(0.0, min(due) - time.monotonic()) if due else None


def _span(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
