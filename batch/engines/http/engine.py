"""Any server that speaks HTTP as an engine: as fast as it bears, honest about what it did, patient on its bad days."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from batch.engines.adaptive import AdaptiveLimit
from batch.engines.base import closing_answers
from batch.engines.desk import Desk
from batch.engines.http.alarms import Alarms, said
from batch.engines.http.bodies import Bodies
from batch.engines.http.client import Client, Lost, NotSent, Outcome, Refused
from batch.engines.http.errors import ServerError, failure_of, parse_error
from batch.engines.http.headers import NONE, Limits
from batch.engines.http.pool import Endpoint, Pool
from batch.engines.http.server import Server
from batch.engines.http.wire import Reply, prompt_bytes
from batch.engines.http.wires import WIRES
from batch.engines.local.core import item_sampling
from batch.engines.pull import side_by_side
from batch.errors import BatchError, Cause, ErrorClass, Failure, FatalError, PermanentError, classify
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request, Timing
from batch.options import SamplingOptions
from batch.prices import Usage
from batch.running.policy import RateLimit, Taking

SHOWN = 16  # requests in flight up to which answers are streamed, so that a person sees them grow
FIRST_HOLD = 1.0  # seconds that all wait after "too many" where the server names no time; doubles by episode
LONGEST_HOLD = 60.0
LONGEST_RESET = 15 * 60.0  # a limit that is whole again later than that ends the run, with its rows pending
MOST_REFUSALS = 12  # "too many" to one item before that is its failure

_pause = asyncio.sleep  # for the entry's own limits


class Again(Enum):
    """Why an item is asked once more at once."""

    LIMITED = auto()  # too many requests: all have waited
    ALONE = auto()  # too many requests, which it is rarely told: it waits by itself
    ELSEWHERE = auto()  # the endpoint could not be reached, or an option was refused that is left out now


class HttpEngine:
    """Answers items through a server.

    `timeout` (seconds) is for one whole answer. Rate limits never fail an item: it waits, and all others with it.
    A wrong key, an empty account, an unknown model and a server that stays away raise FatalError, so that the run
    stops with its rows pending. A request whose answer was lost is asked again only where that costs nothing.
    """

    many_sockets = True  # a run gives it an event loop that is quick with them

    def __init__(
        self, server: Server, sampling: SamplingOptions | None = None, *, timeout: float | None = None, name: str = ""
    ) -> None:
        self.server = server
        self.name = name or server.model
        self._sampling = sampling or SamplingOptions()
        self._timeout = timeout or server.timeout
        self._wire = WIRES[server.wire]()
        most = server.concurrency or 512
        # Where the user says how many it bears, it is trusted with a good part of them from the start.
        self._adaptive = AdaptiveLimit(start=max(16, (server.concurrency or 0) // 4), most=most)
        self._pool = Pool(server.base_urls, server.patience)
        self._alarms = Alarms(server.model, server.context)
        self._partials: dict[ItemId, str] = {}
        self._bodies = Bodies(server, self._wire, self._sampling)
        self._free = server.free
        self._limit = RateLimit(server.rpm, server.tpm)
        self._limited = self._limit.active or server.rpd is not None
        self._turn = asyncio.Lock()  # who waits for the limit: one, and the others behind it
        self._day, self._sent_today = 0, 0
        self._held_until = 0.0
        self._hold = FIRST_HOLD
        self._throttled = 0
        self._client: Client | None = None
        self._client_loop: asyncio.AbstractEventLoop | None = None

    @property
    def status(self) -> str:
        """What it waits for, or how many are in flight."""
        held = self._held_until - time.monotonic()
        if held > 0.5:
            return f"the server asks to wait, {held:.0f} s"
        return self._pool.waiting or f"up to {self._adaptive.limit} at once"

    @property
    def about(self) -> Mapping[str, Any]:
        """Where it is, what it was not sent, and what it did that nobody asked for."""
        about: dict[str, Any] = {
            "engine": f"server ({self.server.wire})",
            "place": ", ".join(endpoint.url for endpoint in self._pool.endpoints),
            "concurrency": self._adaptive.limit,
            "most": self._adaptive.most,
        }
        if len(self._pool.endpoints) > 1:
            about["endpoints"] = {
                endpoint.url: f"{'up' if endpoint.up else 'down'}, {endpoint.answered:,} answered"
                for endpoint in self._pool.endpoints
            }
        if self._bodies.left_out:
            about["not sent"] = ", ".join(sorted(self._bodies.left_out))
        if self._throttled:
            about["rate limits met"] = self._throttled
        if self._alarms.counts:
            about["alarms"] = dict(self._alarms.counts)
        if len(self._alarms.answered_by) > 1 or self.server.model not in self._alarms.answered_by:
            about["answered by"] = dict(self._alarms.answered_by.most_common(5))
        about["notes"] = [about["place"], *said(about)]
        return about

    def most_cost(self, request: Request) -> int | None:
        """The most that a request may cost, billionths of a dollar: a token a byte, and all of `max_tokens`."""
        if self._free:
            return 0
        if self.server.price is None:
            return None
        try:
            options, _ = item_sampling(self._sampling, request.params)
        except PermanentError:
            return 0  # it will not be sent
        system = len(options.system.encode("utf-8", "replace")) if options.system else 0
        prompt = len(prompt_bytes(request)) + system + 64  # a template's own tokens
        return self.server.price.cost(Usage(prompt, options.max_tokens))

    def partial_texts(self) -> Mapping[ItemId, str]:
        """The text so far of answers that are streamed."""
        return self._partials.copy()

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled."""
        client = self._connected()
        answers = side_by_side(items, lambda item: self._one(client, item), lambda: self._adaptive.limit)
        async with closing_answers(answers):
            async for response in answers:
                yield response

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> Client:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client_loop is not loop:
            self._client = Client(self.server, self._wire, self.server.key(), self._adaptive.most)
            self._client_loop = loop
        return self._client

    # -- one item -----------------------------------------------------------------------------------------------------

    async def _one(self, client: Client, item: BatchItem[Request]) -> BatchResponse[Answer]:
        try:
            return await self._asked(client, item)
        except BatchError:
            raise
        except Exception as error:  # one item's trouble is its own
            return BatchResponse(item.id, None, error=classify(error))
        finally:
            self._partials.pop(item.id, None)

    async def _asked(self, client: Client, item: BatchItem[Request]) -> BatchResponse[Answer]:
        start = time.perf_counter_ns()
        refusals = 0
        try:
            options, ignored = item_sampling(self._sampling, item.data.params)
        except PermanentError as error:
            return BatchResponse(item.id, None, 0, classify(error))
        for name in ignored:
            self._bodies.left_out[name] += 1
        while True:
            if self._held_until > time.monotonic():
                await self._held()
            reserved = None
            if self._limited:
                reserved = await self._allowed(len(item.data.text) + 4 * options.max_tokens)
            endpoint = self._pool.ready() or await self._pool.take()
            ticket = self._adaptive.sent()
            queued = time.perf_counter_ns()
            try:
                outcome = await self._ask(client, endpoint, item, options)
            except BaseException:
                self._adaptive.dropped(ticket)
                endpoint.left()
                raise
            response = self._took(outcome, endpoint, ticket, item, options, (start, queued))
            if isinstance(response, BatchResponse):
                if reserved is not None:
                    self._limit.settle(reserved, response.tokens_input + response.tokens_output)
                return response if response.duration_ns else _timed(response, start)
            self._limit.settle(reserved, 0)
            if response is not Again.ELSEWHERE:
                refusals += 1
                if refusals >= MOST_REFUSALS:
                    message = f"the server said {refusals} times that there are too many requests"
                    failure = Failure(ErrorClass.TRANSIENT, message, cause=Cause.RATE)
                    return _timed(BatchResponse(item.id, None, error=failure), start)
            if response is Again.ALONE:
                await _pause(random.uniform(0.5, 1) * min(LONGEST_HOLD, FIRST_HOLD * 2 ** (refusals - 1)))

    async def _ask(
        self, client: Client, endpoint: Endpoint, item: BatchItem[Request], options: SamplingOptions
    ) -> Outcome:
        stream = self.server.stream
        if stream is None:
            stream = self._adaptive.in_flight <= SHOWN
        if not stream or self.server.wire == "embeddings":
            body = self._bodies.of(item.data, options, streamed=False)
            return await client.post(endpoint.url, body, self._timeout, None)

        def partial(text: str) -> None:
            self._partials[item.id] = text

        body = self._bodies.of(item.data, options, streamed=True)
        return await client.post(endpoint.url, body, self._timeout, partial)

    async def _held(self) -> None:
        while (wait := self._held_until - time.monotonic()) > 0:
            # Not all at the same moment, or they meet the limit together again.
            await asyncio.sleep(wait + random.uniform(0, min(1.0, wait / 4)))

    async def _allowed(self, characters: int) -> Taking | None:
        """Wait until the entry's own limits let another request begin; returns what was reserved of the tokens.

        Raises FatalError when the day's requests are used up.
        """
        if self.server.rpd is not None:
            day = int(time.time() // 86400)
            if day != self._day:
                self._day, self._sent_today = day, 0
            if self._sent_today >= self.server.rpd:
                raise FatalError(f"the {self.server.rpd:,} requests of today (rpd) are used up; resume tomorrow (UTC)")
            self._sent_today += 1
        async with self._turn:
            while (wait := self._limit.take(characters)) > 0:
                await _pause(min(wait, 1.0))  # what answers did not use comes back sooner
            return self._limit.reserved

    # -- what became of a request -------------------------------------------------------------------------------------

    def _took(
        self,
        outcome: Outcome,
        endpoint: Endpoint,
        ticket: int,
        item: BatchItem[Request],
        options: SamplingOptions,
        times: tuple[int, int],
    ) -> BatchResponse[Answer] | Again:
        if isinstance(outcome, NotSent):
            self._adaptive.dropped(ticket)
            endpoint.failed(outcome.message, unreachable=True)
            if outcome.fatal and len(self._pool.endpoints) == 1:
                raise FatalError(outcome.message)
            return Again.ELSEWHERE
        if isinstance(outcome, Lost):
            self._adaptive.troubled(ticket)
            endpoint.failed(outcome.message, unreachable=False)
            return BatchResponse(item.id, None, error=self._lost(outcome))
        self._pool.heard()
        self._hear_limits(outcome.limits)
        if isinstance(outcome, Refused):
            return self._refusal(outcome, endpoint, ticket, item)
        self._adaptive.answered(ticket)
        endpoint.worked()
        self._hold = FIRST_HOLD
        return self._answered(outcome.reply, item, options, times)

    def _lost(self, outcome: Lost) -> Failure:
        again = self.server.retry_lost if self.server.retry_lost is not None else self._free
        if again:
            return Failure(ErrorClass.TRANSIENT, outcome.message, cause=Cause.SERVER)
        said = f"{outcome.message}; it may have been charged: ask again with --retry-failed"
        return Failure(ErrorClass.EXHAUSTED, said, cause=Cause.SERVER)

    def _refusal(
        self, outcome: Refused, endpoint: Endpoint, ticket: int, item: BatchItem[Request]
    ) -> BatchResponse[Answer] | Again:
        error = parse_error(outcome.status, outcome.body, outcome.content_type)
        failure = failure_of(error, retry_after=outcome.limits.retry_after, where=_host(endpoint))
        if failure.error_class is ErrorClass.TRANSIENT and failure.cause is Cause.RATE:
            self._throttled += 1
            endpoint.worked()
            return self._throttle(ticket, outcome.limits.retry_after)
        if failure.error_class is ErrorClass.TRANSIENT:
            self._adaptive.troubled(ticket)
            endpoint.failed(failure.message, unreachable=False)
            if outcome.limits.retry_after:
                self._hold_all(outcome.limits.retry_after)
            return BatchResponse(item.id, None, error=failure)
        self._adaptive.dropped(ticket)
        endpoint.worked()
        if failure.error_class is ErrorClass.FATAL:
            raise FatalError(failure.message + self._hint(error))
        name = error.rejected_parameter
        if name is not None and self._bodies.drop(name):
            return Again.ELSEWHERE  # a refusal costs nothing
        return BatchResponse(item.id, None, error=failure)

    def _throttle(self, ticket: int, retry_after: float | None) -> Again:
        """All wait, as long as the server says, or longer with each episode; where it is rare, the item alone does."""
        began = self._adaptive.limited(ticket)
        if retry_after is not None:
            if retry_after > LONGEST_RESET:
                raise FatalError(
                    f"the server's rate limit is whole again in {retry_after / 60:.0f} minutes; resume then"
                )
            self._hold_all(retry_after)
        elif began is None:
            return Again.ALONE
        elif began:
            self._hold_all(self._hold)
            self._hold = min(LONGEST_HOLD, self._hold * 2)
        elif self._held_until <= time.monotonic():
            self._hold_all(min(self._hold, FIRST_HOLD))
        return Again.LIMITED

    def _hear_limits(self, limits: Limits) -> None:
        """Wait before the limit is met, where the server says that nothing is left."""
        if limits is NONE or limits.retry_after is not None:
            return  # nothing is said, or it names the time itself
        for allowance in (limits.requests, limits.tokens):
            if allowance.remaining == 0 and allowance.reset and allowance.limit != 0:
                self._hold_all(min(allowance.reset, LONGEST_HOLD))

    def _hold_all(self, seconds: float) -> None:
        self._held_until = max(self._held_until, time.monotonic() + seconds)

    def _hint(self, error: ServerError) -> str:
        return f" (see {self.server.api_key_env})" if error.bad_key and self.server.api_key_env else ""

    def _answered(
        self, reply: Reply, item: BatchItem[Request], options: SamplingOptions, times: tuple[int, int]
    ) -> BatchResponse[Answer]:
        usage = reply.usage
        alarms = self._alarms.look(prompt_bytes(item.data), reply, options.json_schema)
        price = self.server.price
        estimate = price.cost(usage) if price is not None and usage is not None else None
        if price is None and self._free:
            estimate = 0
        extra: dict[str, Any] = {**reply.extra}
        if reply.finish:
            extra["finish_reason"] = reply.finish
        if reply.reasoning:
            extra["reasoning"] = reply.reasoning
        if alarms:
            extra["alarms"] = alarms
        if reply.cost is not None and estimate is not None and reply.cost != estimate:
            extra["cost_estimated"] = estimate
        start, queued = times
        duration = time.perf_counter_ns() - start
        return BatchResponse(
            item.id,
            Answer(reply.text, extra or None),
            duration,
            self._fault(reply, alarms),
            tokens_input=usage.input if usage else 0,
            tokens_output=usage.output if usage else 0,
            tokens_cached=usage.cached if usage else 0,
            tokens_reasoning=usage.reasoning if usage else 0,
            cost=reply.cost if reply.cost is not None else estimate,
            model=reply.model or self.server.model,
            timing=Timing(queued - start, None, duration),
        )

    def _fault(self, reply: Reply, alarms: list[str]) -> Failure | None:
        if reply.finish == "content_filter":
            return Failure(ErrorClass.PERMANENT, "a content filter ended the answer", cause=Cause.FILTERED)
        if alarms and self.server.on_alarm == "fail":
            return Failure(ErrorClass.PERMANENT, f"alarm: {alarms[0]}")
        if not reply.text.strip() and reply.finish == "length":
            return Failure(ErrorClass.PERMANENT, "no text came before max_tokens was used up (by thinking?)")
        return None


def _timed(response: BatchResponse[Answer], start: int) -> BatchResponse[Answer]:
    duration = time.perf_counter_ns() - start
    timing = response.timing and replace(response.timing, total_ns=duration)
    return replace(response, duration_ns=duration, timing=timing)


def _host(endpoint: Endpoint) -> str:
    return endpoint.url.split("://", 1)[-1].split("/", 1)[0]
