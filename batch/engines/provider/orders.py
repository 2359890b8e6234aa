"""Orders: requests are gathered in a file, and handed over as a batch when it is whole and there is room.

Intent, uploaded file, the beginning of the creation and the batch's name are each on the disk before the next step. A
creation is never tried twice: one whose answer was lost is looked for by `looks`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from contextlib import suppress

from batch.engines.desk import Desk
from batch.engines.local.core import item_sampling
from batch.engines.provider.base import Limits, Page, Settings
from batch.engines.provider.faults import Lost, Refused
from batch.engines.provider.inbox import Inbox
from batch.engines.provider.ledger import Ledger, Line
from batch.engines.provider.rescue import Rescue
from batch.engines.provider.shard import Shard
from batch.errors import FatalError, PermanentError, classify
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

LINGER = 30.0  # seconds without a next item after which what is there goes
HOLD = 60.0  # seconds after which an order that a quota refused is tried again; doubles
LONGEST_HOLD = 1800.0
CREATING = "creating"  # the step of an intent from which on a batch may be there
TURN = 0.05  # seconds of filling after which the loop is others' too
LOOK = 32  # items after which it is looked at


class Orders:
    """The next batch while it is filled, and its way to the provider."""

    def __init__(self, line: Line, ledger: Ledger, sampling: SamplingOptions, left_out: Counter[str]) -> None:
        self.shard: Shard | None = None
        self.why_held = ""
        self._line, self._ledger, self._sampling, self._left_out = line, ledger, sampling, left_out
        self._run = secrets.token_hex(5)
        self._number = 0
        self._hold, self._held_until = HOLD, 0.0
        self._filled = 0.0  # monotonic seconds of the last item

    @property
    def settings(self) -> Settings:
        """As the user has described the model."""
        return self._line.settings

    @property
    def held(self) -> bool:
        """Whether a quota has no room now."""
        return self._held_until > time.monotonic()

    @property
    def next_try(self) -> float | None:
        """Seconds until what a quota refused is tried again; None where nothing is."""
        return self._held_until - time.monotonic() if self.shard is not None and self.held else None

    async def fill(self, inbox: Inbox, rescuing: Rescue | None) -> list[BatchResponse[Answer]]:
        """Put what was taken into the file of the next batch, and hand it over when it is whole. Returns refusals.

        With a rescue all goes there.
        """
        desk = self._ledger.desk
        refused: list[BatchResponse[Answer]] = []
        since = time.monotonic()
        taken, count = inbox.taken, 0
        while taken and not (count % LOOK == 0 and desk.stopping):
            item = taken[0]
            count += 1
            try:
                if rescuing is not None:
                    rescuing.put(item)
                elif not self.add(item):
                    await self._hand_over()
                    if self.shard is not None:  # there is no room now
                        return refused
                    continue
            except PermanentError as error:
                refused.append(BatchResponse(item.id, None, error=classify(error)))
                if self.shard is not None and not len(self.shard):
                    self.drop()  # a batch of nothing is not ordered
            inbox.done()
            if count % LOOK == 0 or not taken:
                self._filled = time.monotonic()
                if self._filled - since > TURN:
                    since = self._filled
                    await asyncio.sleep(0)
        if rescuing is not None:
            self._spill(desk, rescuing)
            return refused
        whole = inbox.ended or desk.pending == 0 or time.monotonic() - self._filled > LINGER
        if self.shard is not None and not inbox.taken and whole and not desk.stopping and not desk.paused:
            await self._hand_over()
        return refused

    def add(self, item: BatchItem[Request]) -> bool:
        """Write an item's line; False where the file has no room for it. Raises PermanentError where none could."""
        shard = self.shard
        if shard is None:
            self._number += 1
            shard = self.shard = Shard(f"{self._run}-{self._number}", self._limits(self._line.page))
        request = item.data
        line = self._own_line(shard, item) if request.extra else shard.plain_line(request.text)
        if line is None:  # the first of those that have nothing of their own
            line = shard.begin(self._line.page, request, self._sampling, self._leave_out)
        if not shard.add(item.id, line):
            if not len(shard):
                raise PermanentError(f"the request has {len(line):,} bytes, more than a whole batch may have")
            return False
        return True

    def _own_line(self, shard: Shard, item: BatchItem[Request]) -> bytes:
        """The line of a request that has more than its text."""
        if item.data.endpoint == "completions":
            raise PermanentError(
                "a bare text to go on with is nothing that a provider's batches are asked for; use chat"
            )
        options, ignored = item_sampling(self._sampling, item.data.params)
        for name in ignored:
            self._left_out[name] += 1
        return shard.line(self._line.page, item.data, options, self._leave_out)

    def wait_for_room(self, why: str, seconds: float | None) -> None:
        """Keep the items and try again later; the file is written anew, as a key is used but once."""
        self.why_held = why
        self._held_until = time.monotonic() + (seconds or min(self._hold, self.settings.grace))
        self._hold = min(self._hold * 2, LONGEST_HOLD)
        self.drop()

    def has_room(self) -> None:
        """A batch has ended."""
        self._held_until = 0.0

    def drop(self) -> None:
        """Give up the file."""
        shard, self.shard = self.shard, None
        if shard is not None:
            shard.close()

    def _leave_out(self, option: str) -> None:
        self._left_out[option] += 1

    def _limits(self, page: Page) -> Limits:
        most = self.settings
        return Limits(
            min(page.limits.requests, most.most_requests or page.limits.requests),
            min(page.limits.bytes, most.most_bytes or page.limits.bytes),
        )

    async def _hand_over(self) -> None:
        """Make a batch of the file; it stays where a quota has no room for it."""
        shard, ledger = self.shard, self._ledger
        assert shard is not None
        if self.held:
            return
        path, key, count = shard.finish(), shard.key, len(shard)
        watched = await ledger.intend(key, shard.ids, shard.bytes)
        try:
            file = None
            if self._line.page.uploads:
                file = await self._line.call(lambda page: page.upload(path, key), f"sending {count:,} requests")
            await ledger.note(watched, {"file": file, "step": CREATING, "creating": ledger.clock()})
            remote = await self._line.call(
                lambda page: page.create(path, file or None, key), f"ordering {count:,} requests"
            )
        except Refused as refusal:
            await ledger.give_up(watched)
            if not refusal.quota:
                self.drop()
                raise FatalError(refusal.failure.message + await self._models(refusal)) from None
            self.wait_for_room(refusal.failure.message, refusal.failure.retry_after)
        except Lost as lost:
            if watched.details.get("step") == CREATING:
                self.drop()
                watched.word = str(lost)
                ledger.later(watched)
            else:  # a file alone costs nothing
                await ledger.give_up(watched)
                self.wait_for_room(str(lost), None)
        else:
            self.drop()
            self._hold, self.why_held = HOLD, ""
            await ledger.made(watched, remote)

    async def _models(self, refusal: Refused) -> str:
        """What could be asked instead, where the model is unknown."""
        if not refusal.error.unknown_model and refusal.error.status != 404:
            return ""
        with suppress(Exception):
            names = await self._line.call(lambda page: page.models())
            shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
            return f"; the key may use: {shown}" if names else ""
        return ""

    def _spill(self, desk: Desk, rescuing: Rescue) -> None:
        """What is in the file of the next batch is asked at once too."""
        if self.shard is not None:
            for item_id in self.shard.ids:
                rescuing.put(BatchItem(item_id, desk.request(item_id)))
            self.drop()
