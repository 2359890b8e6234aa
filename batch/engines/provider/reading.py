"""The results of one batch: which item each is to, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batch.engines.provider.base import Result, Settings
from batch.errors import Cause, ErrorClass, Failure
from batch.items import Answer, BatchResponse, ItemId

Costs = dict[tuple[int, ...], int | None]  # by the figures of a usage, which is slower to look up


class Reading:
    """Puts results to items by the names they bear, never by their order."""

    def __init__(self, key: str, ids: Sequence[ItemId]) -> None:
        self.seen = 0
        self.untried = 0  # items that the provider says it never tried
        self.strangers = 0  # unreadable ones too
        self.unreadable = 0  # lines that are none
        self.duplicates = 0
        self._key, self._ids, self._count = key, ids, len(ids)
        self._places = bytearray(len(ids))

    def place(self, result: Result) -> ItemId | None:
        """The item of a result; None of a second one, and of one to nothing that was asked."""
        start, _, tail = result.custom_id.rpartition("-")
        position = int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 10 else -1
        if not 0 <= position < self._count or start != self._key or (tail[0] == "0" and len(tail) > 1):
            self.strangers += 1
            self.unreadable += not result.custom_id and result.failure is not None
            return None
        if self._places[position]:
            self.duplicates += 1
            return None
        self._places[position] = 1
        if result.reply is None and result.failure is None:
            self.untried += 1
        else:
            self.seen += 1
        return self._ids[position]

    def responses(self, results: Sequence[Result], settings: Settings, costs: Costs) -> list[BatchResponse[Answer]]:
        """What became of the items of these results."""
        found = []
        for result in results:
            item_id = self.place(result)
            if item_id is not None and (result.reply is not None or result.failure is not None):
                found.append(response_of(item_id, result, settings, costs))
        return found

    @property
    def missing(self) -> int:
        """Items without an answer."""
        return len(self._ids) - self.seen

    @property
    def report(self) -> Mapping[str, int]:
        """What is kept with the submission."""
        counts = {"answers": self.seen, "missing": self.missing}
        return counts | {k: v for k, v in (("strangers", self.strangers), ("duplicates", self.duplicates)) if v}


def response_of(
    item_id: ItemId, result: Result, settings: Settings, costs: Costs, *, batch: bool = True
) -> BatchResponse[Answer]:
    """What became of an item, at the price of batches or the standard one.

    `costs` keeps what was worked out before: usage repeats itself in a batch.
    """
    reply = result.reply
    if reply is None:
        return BatchResponse(item_id, None, error=result.failure, model=settings.model)
    usage, price = reply.usage, settings.price
    cost = reply.cost
    if cost is None and price is not None and usage is not None:
        key = (usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning)
        if key not in costs:
            costs[key] = price.cost(usage, batch=batch)
        cost = costs[key]
    extra, finish = reply.extra, reply.finish
    if finish:
        extra["finish_reason"] = finish
    if reply.reasoning:
        extra["reasoning"] = reply.reasoning
    failure = None
    if finish == "content_filter":
        failure = Failure(ErrorClass.PERMANENT, "a content filter ended the answer", cause=Cause.FILTERED)
    elif not reply.text.strip() and finish == "length":
        failure = Failure(ErrorClass.PERMANENT, "no text came before max_tokens was used up (by thinking?)")
    return BatchResponse(
        item_id,
        Answer(reply.text, extra or None),
        error=failure,
        tokens_input=usage.input if usage else 0,
        tokens_output=usage.output if usage else 0,
        tokens_cached=usage.cached if usage else 0,
        tokens_reasoning=usage.reasoning if usage else 0,
        cost=cost,
        model=reply.model or settings.model,
    )
