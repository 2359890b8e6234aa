"""Vertex AI asked at once, through Google's own library: it alone knows who one is there, and goes on knowing it.

All other providers are asked at once through the engine for servers.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from batch.engines.adaptive import AdaptiveLimit
from batch.engines.base import closing_answers
from batch.engines.desk import Desk
from batch.engines.local.core import item_sampling
from batch.engines.provider.base import Result, Settings
from batch.engines.provider.faults import Refused, read, status_of
from batch.engines.provider.reading import response_of
from batch.engines.pull import side_by_side
from batch.errors import BatchError, Cause, ErrorClass, Failure, FatalError, PermanentError, classify
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions

if TYPE_CHECKING:
    from batch.engines.provider.gemini import GeminiPage

MOST = 64  # requests in flight, each in a thread


class AtOnce:
    """Answers items one by one at the standard price. A wrong key or project raises FatalError."""

    def __init__(
        self,
        settings: Settings,
        open_page: Callable[[], GeminiPage],
        sampling: SamplingOptions,
        workers: int | None = None,
    ) -> None:
        self.name = settings.model
        self._settings, self._open, self._sampling = settings, open_page, sampling
        self._page: GeminiPage | None = None
        self._adaptive = AdaptiveLimit(most=workers or MOST)
        self._left_out: Counter[str] = Counter()

    @property
    def status(self) -> str:
        """How many may be in flight."""
        return f"up to {self._adaptive.limit} at once"

    @property
    def about(self) -> Mapping[str, Any]:
        """Where it is, and what is not sent."""
        about: dict[str, Any] = {"engine": "provider", "place": f"{self._settings.provider}, at once"}
        return about | ({"not sent": ", ".join(sorted(self._left_out))} if self._left_out else {})

    def partial_texts(self) -> Mapping[ItemId, str]:
        """None."""
        return {}

    async def close(self) -> None:
        """Free the client."""
        page, self._page = self._page, None
        if page is not None:
            await asyncio.to_thread(page.close)

    async def answer(
        self, items: AsyncIterator[BatchItem[Request]], desk: Desk
    ) -> AsyncIterator[BatchResponse[Answer]]:
        """Yield one response for every item pulled."""
        page = self._page = self._page or self._open()
        with ThreadPoolExecutor(self._adaptive.most, thread_name_prefix="at-once") as threads:

            async def one(item: BatchItem[Request]) -> BatchResponse[Answer]:
                ticket = self._adaptive.sent()
                start = time.perf_counter_ns()
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(threads, self._asked, page, item.data)
                response = response_of(item.id, result, self._settings, {}, batch=False)
                self._hear(ticket, response.error)
                response.duration_ns = time.perf_counter_ns() - start  # type: ignore[misc]  # nobody else has it yet
                return response

            async with closing_answers(side_by_side(items, one, lambda: self._adaptive.limit)) as answers:
                async for response in answers:
                    yield response

    def _hear(self, ticket: int, error: Failure | None) -> None:
        if error is not None and error.cause is Cause.RATE:
            self._adaptive.limited(ticket)
        elif error is not None and error.cause is Cause.SERVER:
            self._adaptive.troubled(ticket)
        else:
            self._adaptive.answered(ticket)

    def _asked(self, page: GeminiPage, request: Request) -> Result:
        try:
            options, ignored = item_sampling(self._sampling, request.params)
            self._left_out.update(ignored)
            return Result("", page.ask(request, options, lambda name: self._left_out.update([name])))
        except PermanentError as error:
            return Result("", failure=classify(error))
        except BatchError:
            raise
        except Exception as error:
            return Result("", failure=self._failure(error))

    def _failure(self, error: Exception) -> Failure:
        found = read(self._settings.provider, error)
        if isinstance(found, FatalError):
            raise found
        if isinstance(found, Refused):
            if found.failure.error_class is ErrorClass.FATAL:
                raise FatalError(found.failure.message)
            return found.failure
        if status_of(error) is not None:  # an answer, that there is none
            return Failure(ErrorClass.TRANSIENT, str(found), cause=Cause.SERVER)
        said = f"{found}; it may have been charged: ask again with --retry-failed"
        return Failure(ErrorClass.EXHAUSTED, said, cause=Cause.SERVER)
