"""A provider's batch API as an engine: everything that may go wrong between an order and its answers, in one place.

A batch is written ahead: that it is meant, its uploaded file, that its creation begins, its name there; each is on the
disk before the next. A creation is never tried twice: one whose answer was lost is looked for, and where it cannot be
told whether it was made, a person is asked (`ai-router reconcile`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from batch.engines.base import Engine
from batch.engines.desk import Desk, Submission
from batch.engines.local.core import item_sampling
from batch.engines.provider.base import Found, Limits, Lookup, Page, Remote, Result, Settings
from batch.engines.provider.faults import Lost, Refused, asked
from batch.engines.provider.reading import Reading, response_of
from batch.engines.provider.rescue import Rescue
from batch.engines.provider.shard import Shard
from batch.engines.pull import Puller
from batch.errors import ErrorClass, FatalError, PermanentError, classify
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions
from batch.prices import Usage

T = TypeVar("T")
ROOM = 1024  # items taken ahead of the file that is filled
CHUNK = 1024  # results read at a time
LINGER = 30.0  # seconds without a next item after which what is there goes
HOLD = 60.0  # seconds after which an order that a quota refused is tried again; doubles
LONGEST_HOLD = 1800.0
YOUNG = 600.0  # seconds within which a batch that is not there may still appear
EMPTY_LOOKS = 20  # looks at a batch that is over without any result, before a person is asked
CREATING = "creating"  # the step of an intent from which on a batch may be there


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


class Inbox:
    """Items as they are taken from the run, up to `ROOM` ahead."""

    def __init__(self, items: AsyncIterator[BatchItem[Request]], wake: asyncio.Event) -> None:
        self.taken: deque[BatchItem[Request]] = deque()
        self._ended: list[Exception | None] = []
        self._wake = wake
        self._puller = Puller(items, self._took, self._over, ROOM)

    @property
    def ended(self) -> bool:
        """Whether no more will come; raises what the iterator raised."""
        if self._ended and (error := self._ended[0]) is not None:
            raise error
        return bool(self._ended)

    def done(self) -> None:
        """The first of those taken is somewhere else now."""
        self.taken.popleft()
        self._puller.release()

    async def stop(self) -> None:
        """Take nothing more."""
        await self._puller.stop()

    def _took(self, item: BatchItem[Request]) -> None:
        self.taken.append(item)
        self._wake.set()

    def _over(self, error: Exception | None) -> None:
        self._ended.append(error)
        self._wake.set()


class ProviderEngine:
    """Answers items through a provider's batches.

    Items of any number are held as ids; their requests go into a file. With `lane` "auto" what has no answer near the
    `deadline` is cancelled and asked for at once, at the standard price, through `rescue`; "now" asks all so.
    """

    takes_all = True  # the run's limits are for single requests

    def __init__(
        self,
        settings: Settings,
        open_page: Callable[[], Page],
        sampling: SamplingOptions | None = None,
        *,
        rescue: Callable[[], Engine[Request, Answer]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.name = settings.model
        self.strangers = self.duplicates = 0
        self.holds_back = False  # whether it ended with items that a quota has no room for yet
        self._open_page, self._make_rescue, self._clock = open_page, rescue, clock
        self._sampling = sampling or SamplingOptions()
        self._page: Page | None = None
        self._run = secrets.token_hex(5)
        self._number = 0
        self._watched: dict[str, Watched] = {}
        self._left_out: Counter[str] = Counter()
        self._hold, self._held_until, self._held_why = HOLD, 0.0, ""
        self._shard: Shard | None = None
        self._doing = ""
        self._given_up = ""  # a batch that a person has cancelled
        self._filled = 0.0  # monotonic seconds of the last item
        self._rescuing: Rescue | None = None

    # -- what a person sees ---------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """How many batches there are, how far, how old, until when, and what comes next."""
        watched = list(self._watched.values())
        parts = [self._doing] if self._doing else []
        if watched:
            parts.append(f"{len(watched)} batch{'es' * (len(watched) != 1)} with {self.settings.provider}")
            counted = [w.done for w in watched if w.done is not None]
            if counted:
                parts.append(f"{sum(counted):,} of {sum(w.count for w in watched):,} done")
            parts.append(self._age(watched))
            if unclear := sum(bool(w.unclear) for w in watched):
                parts.append(f"{unclear} to be settled by ai-router reconcile")
            looks = [w.due for w in watched if not w.unclear]
            if looks and not self._doing:
                parts.append(f"looks again in {max(0, min(looks) - time.monotonic()):.0f} s")
        if self._held:
            parts.append(f"waits for room: {self._held_why}")
        if self._rescuing is not None:
            parts.append(f"at once: {self._rescuing.status or 'the rest'}")
        return ", ".join(parts)

    def _age(self, watched: list[Watched]) -> str:
        now = self._clock()
        text = f"oldest {_span(now - min(w.details.get('at', now) for w in watched))}"
        expiring = [w.details["expires"] for w in watched if w.details.get("expires")]
        return f"{text}, expires in {_span(min(expiring) - now)}" if expiring and min(expiring) > now else text

    @property
    def about(self) -> Mapping[str, Any]:
        """What it is, what was not sent, and answers that nobody asked for."""
        about: dict[str, Any] = {"engine": "provider", "place": f"{self.settings.provider}, batches"}
        if self._left_out:
            about["not sent"] = ", ".join(sorted(self._left_out))
        if self.strangers:
            about["answers to no request"] = self.strangers
        if self.duplicates:
            about["second answers"] = self.duplicates
        return about

    def partial_texts(self) -> Mapping[ItemId, str]:
        """Of what is asked at once."""
        return self._rescuing.partial_texts() if self._rescuing is not None else {}

    async def close(self) -> None:
        """Free the client."""
        page, self._page = self._page, None
        if page is not None:
            await asyncio.to_thread(page.close)

    # -- the loop -------------------------------------------------------------------------------------------------

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled, in this process or a later one."""
        self.holds_back, self._given_up = False, ""
        self._watched = {s.key: Watched.of(s) for s in desk.open_submissions()}
        wake = asyncio.Event()
        if self.settings.lane == "now":
            self._begin_rescue(desk, wake)
        for watched in list(self._watched.values()):
            async for response in self._look(watched, desk):
                yield response
        if self._given_up:
            raise FatalError(f"{self._given_up} was cancelled; what has no answer is handed over again on resuming")
        inbox = Inbox(items, wake)
        try:
            while not self._is_over(inbox, desk):
                wake.clear()
                for refused in await self._fill(inbox, desk):
                    yield refused
                for answered in self._rescuing.take() if self._rescuing is not None else ():
                    yield answered
                async for response in self._look_at_due(desk, wake):
                    yield response
                if self._is_over(inbox, desk):
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), self._rest())
        finally:
            await inbox.stop()
            self._drop_shard()
            rescuing, self._rescuing = self._rescuing, None
            if rescuing is not None:
                await rescuing.stop()
                await rescuing.close()

    def _is_over(self, inbox: Inbox, desk: Desk) -> bool:
        if self._rescuing is not None and self._rescuing.in_flight:
            return False
        waits = desk.waits and any(not w.unclear for w in self._watched.values())
        if desk.stopping:
            return True
        if not inbox.ended and not (self._held and not desk.waits) and not self._stuck(inbox, desk):
            return False
        if inbox.taken or self._shard is not None:
            if not self._held or desk.waits:
                return False
        elif waits:
            return False
        self._leave_rest(inbox, desk)
        return True

    def _leave_rest(self, inbox: Inbox, desk: Desk) -> None:
        """What a quota has no room for is handed over by a later run; raises FatalError where it has none at all."""
        if not (inbox.taken or self._shard is not None or desk.pending):
            return
        if not self._watched:
            raise FatalError(f"{self.settings.provider} takes nothing now: {self._held_why or 'no reason given'}")
        self.holds_back = True

    def _stuck(self, inbox: Inbox, desk: Desk) -> bool:
        """Whether all that is left waits for a person."""
        left = inbox.taken or self._shard is not None or desk.pending
        return bool(self._watched) and not left and all(w.unclear for w in self._watched.values())

    def _rest(self) -> float:
        now = time.monotonic()
        due = [w.due - now for w in self._watched.values() if not w.unclear]
        if self._shard is not None and self._held:
            due.append(self._held_until - now)
        return max(0.005, min([1.0, *due]))

    @property
    def _held(self) -> bool:
        return self._held_until > time.monotonic()

    # -- orders ---------------------------------------------------------------------------------------------------

    async def _fill(self, inbox: Inbox, desk: Desk) -> list[BatchResponse[Answer]]:
        """Put what was taken into the file of the next batch, and hand it over when it is whole. Returns refusals."""
        refused: list[BatchResponse[Answer]] = []
        since = time.monotonic()
        while inbox.taken and not desk.stopping:
            item = inbox.taken[0]
            try:
                if self._rescuing is not None:
                    self._rescuing.put(item)
                elif not self._add(item):
                    await self._hand_over(desk)
                    if self._shard is not None:  # there is no room now
                        return refused
                    continue
            except PermanentError as error:
                refused.append(BatchResponse(item.id, None, error=classify(error)))
            inbox.done()
            self._filled = time.monotonic()
            if self._filled - since > 0.05:  # the loop is others' too
                since = self._filled
                await asyncio.sleep(0)
        if self._rescuing is not None:
            self._spill(desk)
            return refused
        whole = inbox.ended or desk.pending == 0 or time.monotonic() - self._filled > LINGER
        if self._shard is not None and not inbox.taken and whole and not desk.stopping and not desk.paused:
            await self._hand_over(desk)
        return refused

    def _add(self, item: BatchItem[Request]) -> bool:
        page = self._opened()
        if self._shard is None:
            self._number += 1
            self._shard = Shard(f"{self._run}-{self._number}", self._limits(page))
        options, ignored = item_sampling(self._sampling, item.data.params)
        for name in ignored:
            self._left_out[name] += 1
        line = self._shard.line(page, item, options, self._leave_out)
        if not self._shard.fits(line):
            if not len(self._shard):
                raise PermanentError(f"the request has {len(line):,} bytes, more than a whole batch may have")
            return False
        self._shard.add(item.id, line)
        return True

    def _leave_out(self, option: str) -> None:
        self._left_out[option] += 1

    def _limits(self, page: Page) -> Limits:
        most = self.settings
        return Limits(
            min(page.limits.requests, most.most_requests or page.limits.requests),
            min(page.limits.bytes, most.most_bytes or page.limits.bytes),
        )

    async def _hand_over(self, desk: Desk) -> None:
        """Make a batch of the file; it stays where a quota has no room for it."""
        shard, page = self._shard, self._opened()
        assert shard is not None
        if self._held:
            return
        path, key = shard.finish(), shard.key
        details = {
            "provider": self.settings.provider,
            "model": self.settings.model,
            "at": self._clock(),
            "bytes": shard.bytes,
        }
        await desk.submitting(key, shard.ids, details=details)
        watched = self._watched[key] = Watched(key, len(shard), details, None)
        try:
            self._doing = f"sending {len(shard):,} requests"
            file = await self._call(lambda: page.upload(path, key)) if page.uploads else None
            await self._note(desk, watched, {"file": file, "step": CREATING, "creating": self._clock()})
            self._doing = f"ordering {len(shard):,} requests"
            remote = await self._call(lambda: page.create(path, file or None, key))
        except Refused as refusal:
            await self._give_up(desk, watched)
            if not refusal.quota:
                self._drop_shard()
                raise FatalError(refusal.failure.message + await self._models(refusal)) from None
            self._wait_for_room(refusal.failure.message, refusal.failure.retry_after)
        except Lost as lost:
            if watched.details.get("step") == CREATING:
                self._drop_shard()
                watched.word = str(lost)
                watched.due = time.monotonic() + self._poll(watched)
            else:  # a file alone costs nothing
                await self._give_up(desk, watched)
                self._wait_for_room(str(lost), None)
        else:
            self._drop_shard()
            self._hold, self._held_why = HOLD, ""
            await self._made(desk, watched, remote)
        finally:
            self._doing = ""

    def _wait_for_room(self, why: str, seconds: float | None) -> None:
        """Keep the items and try again later; the file is written anew, as a key is used but once."""
        self._held_why = why
        self._held_until = time.monotonic() + (seconds or min(self._hold, self.settings.grace))
        self._hold = min(self._hold * 2, LONGEST_HOLD)
        self._drop_shard()

    async def _made(self, desk: Desk, watched: Watched, remote: Remote) -> None:
        watched.remote_id = remote.id
        known = {"state": remote.word, "unclear": ""} | ({"expires": remote.expires} if remote.expires else {})
        watched.details |= known
        await desk.submitted(watched.key, remote.id, details=known)
        watched.due = time.monotonic() + self._poll(watched)

    async def _give_up(self, desk: Desk, watched: Watched, why: str = "") -> None:
        await desk.withdrawn(watched.key, details={"ended": why} if why else None)
        self._watched.pop(watched.key, None)

    async def _models(self, refusal: Refused) -> str:
        """What could be asked instead, where the model is unknown."""
        if not refusal.error.unknown_model:
            return ""
        with suppress(Exception):
            names = await self._call(self._opened().models)
            shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
            return f"; the key may use: {shown}" if names else ""
        return ""

    def _drop_shard(self) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.close()

    # -- looks ----------------------------------------------------------------------------------------------------

    async def _look_at_due(self, desk: Desk, wake: asyncio.Event) -> AsyncIterator[BatchResponse[Answer]]:
        if self._is_late() and not desk.stopping:
            self._begin_rescue(desk, wake)
        for watched in list(self._watched.values()):
            if watched.unclear or watched.due > time.monotonic() or desk.stopping:
                continue
            if self._rescuing is not None and self.settings.lane == "auto":
                await self._cancel(watched)
            async for response in self._look(watched, desk):
                yield response

    async def _look(self, watched: Watched, desk: Desk) -> AsyncIterator[BatchResponse[Answer]]:
        watched.due = time.monotonic() + self._poll(watched)
        try:
            if watched.remote_id is None and not await self._adopted(watched, desk):
                return
            assert watched.remote_id is not None
            remote_id = watched.remote_id
            remote = await self._call(lambda: self._opened().check(remote_id))
        except Lost as lost:
            watched.word = str(lost)
            return
        except Refused as refusal:
            await self._refused_look(watched, refusal, desk)
            return
        watched.word, watched.done = remote.word, remote.done
        if not remote.over:
            await self._note_state(desk, watched, remote)
            return
        async for response in self._read(watched, remote, desk):
            yield response

    async def _refused_look(self, watched: Watched, refusal: Refused, desk: Desk) -> None:
        if refusal.error.status in (404, 410):
            if self._clock() - watched.details.get("at", 0.0) > YOUNG:
                await self._ask(
                    desk, watched, f"{self.settings.provider} does not know batch {watched.remote_id} any more"
                )
            return
        if refusal.failure.error_class is ErrorClass.FATAL:
            raise FatalError(refusal.failure.message) from None
        watched.word = refusal.failure.message

    async def _adopted(self, watched: Watched, desk: Desk) -> bool:
        """Find the batch of an intent; without one it was never made, and its items are pending again."""
        details = watched.details
        if details.get("step") != CREATING:
            await self._give_up(desk, watched, "never ordered")
            return False
        known = frozenset(w.remote_id for w in self._watched.values() if w.remote_id)
        since = float(details.get("creating", 0.0))
        lookup = Lookup(watched.key, details.get("file"), since, watched.count, known)
        try:
            found: Found = await self._call(lambda: self._opened().find(lookup))
        except Refused as refusal:
            if refusal.error.status not in (404, 405):
                raise
            found = Found(sure=False)  # there is no list
        if found.remote is not None:
            await self._made(desk, watched, found.remote)
            return True
        if self._clock() - since < self.settings.grace:
            return False  # it may be on its way
        if found.sure:
            await self._give_up(desk, watched, "never made")
        else:
            names = ", ".join(found.maybe[:5])
            await self._ask(desk, watched, f"its order was not answered; it may be {names}", maybe=list(found.maybe))
        return False

    async def _ask(self, desk: Desk, watched: Watched, why: str, **more: Any) -> None:
        watched.unclear = why
        await self._note(desk, watched, {"unclear": why, **more})

    async def _read(self, watched: Watched, remote: Remote, desk: Desk) -> AsyncIterator[BatchResponse[Answer]]:
        """Every answer of a batch that is over; then it is settled."""
        if not (remote.results or remote.inline) and not remote.untried:
            looks = int(watched.details.get("empty", 0)) + 1  # over, and nothing there: it comes late
            await self._note(desk, watched, {"empty": looks})
            if looks >= EMPTY_LOOKS:
                await self._ask(desk, watched, f"batch {remote.id} is over ({remote.word}) and has no results")
            return
        self._doing = f"reading the answers of {remote.id}"
        reading = Reading(watched.key, desk.submission_ids(watched.key))
        costs: dict[Usage, int | None] = {}
        try:
            results = self._opened().results(remote)
            while chunk := await self._call(lambda: _some(results)):
                for result in chunk:
                    item_id = reading.place(result)
                    if item_id is not None and (result.reply or result.failure):
                        yield response_of(item_id, result, self.settings, costs)
        except Lost as lost:
            watched.word = str(lost)  # what was read is kept; the rest is read at the next look
            return
        except Refused as refusal:
            if refusal.failure.error_class is ErrorClass.FATAL and refusal.error.status not in (404, 410):
                raise FatalError(refusal.failure.message) from None
            if refusal.error.status in (404, 410):
                await self._ask(desk, watched, f"the results of batch {remote.id} are gone: {refusal.error.message}")
            return
        finally:
            self._doing = ""
            self.strangers += reading.strangers
            self.duplicates += reading.duplicates
        ended = {"ended": remote.word, **reading.report}
        self._watched.pop(watched.key, None)
        if reading.missing and (remote.untried or reading.untried):
            await desk.withdrawn(watched.key, details=ended)
        else:
            await desk.settled(watched.key, details=ended)
        self._held_until = 0.0  # there is room again
        if watched.details.get("cancelled") and reading.missing:
            self._given_up = f"batch {remote.id}"
        self._refused_batch(remote, reading)

    def _refused_batch(self, remote: Remote, reading: Reading) -> None:
        """What a batch that was refused as a whole means for the next ones."""
        if remote.word.lower() != "failed" or reading.seen:
            return
        if any(
            word in f"{remote.code} {remote.error}".lower() for word in ("token_limit", "enqueued", "quota", "rate")
        ):
            self._wait_for_room(remote.error or remote.code, None)
            return
        raise FatalError(
            f"{self.settings.provider} refused the batch: {remote.error or remote.code or 'no reason given'}"
        )

    async def _note(self, desk: Desk, watched: Watched, details: dict[str, Any]) -> None:
        watched.details |= details
        await desk.noted(watched.key, details)

    async def _note_state(self, desk: Desk, watched: Watched, remote: Remote) -> None:
        now: dict[str, Any] = {"state": remote.word, "done": remote.done, "failed": remote.failed}
        if remote.expires:
            now["expires"] = remote.expires
        if any(watched.details.get(name) != value for name, value in now.items()):
            await self._note(desk, watched, {**now, "looked": self._clock()})

    def _poll(self, watched: Watched) -> float:
        """Seconds until the next look: few at first, then as the settings say."""
        watched.pause = min(self.settings.poll, max(watched.pause * 1.5, min(2.0, self.settings.poll)))
        return watched.pause

    # -- the rest at once -----------------------------------------------------------------------------------------

    def _is_late(self) -> bool:
        settings = self.settings
        if settings.lane != "auto" or settings.deadline is None or self._rescuing is not None or not self._watched:
            return False
        began = min(w.details.get("at", self._clock()) for w in self._watched.values())
        return bool(self._clock() >= began + settings.deadline - min(3600.0, settings.deadline / 4))

    def _begin_rescue(self, desk: Desk, wake: asyncio.Event) -> None:
        if self._rescuing is not None and self._rescuing.alive:
            return
        if self._make_rescue is None:
            raise FatalError(f"{self.settings.provider}: nothing answers at once there; leave --lane at batch")
        self._rescuing = Rescue(self._make_rescue(), desk, wake)
        for watched in self._watched.values():
            watched.due = 0.0

    def _spill(self, desk: Desk) -> None:
        """What is in the file of the next batch is asked at once too."""
        shard = self._shard
        if shard is not None and self._rescuing is not None:
            for item_id in shard.ids:
                self._rescuing.put(BatchItem(item_id, desk.request(item_id)))
            self._drop_shard()

    async def _cancel(self, watched: Watched) -> None:
        remote_id = watched.remote_id
        if watched.cancelled or remote_id is None or not self._opened().cancels:
            return
        with suppress(Lost, Refused):  # it is over already, or is cancelled at the next look
            await self._call(lambda: self._opened().cancel(remote_id))
            watched.cancelled = True
            watched.pause = 0.0

    # -- calls ----------------------------------------------------------------------------------------------------

    def _opened(self) -> Page:
        if self._page is None:
            self._page = self._open_page()
        return self._page

    async def _call(self, work: Callable[[], T]) -> T:
        self._opened()
        return await asyncio.to_thread(asked, self.settings.provider, work)


def _some(results: Iterator[Result]) -> list[Result]:
    chunk = []
    for result in results:
        chunk.append(result)
        if len(chunk) >= CHUNK:
            break
    return chunk


def _span(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
