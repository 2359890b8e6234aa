"""What a job will cost and how long it will take: from its prompts before it runs, from a sample of answers after."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ai_router.models import TEMPLATE_ROOM, ModelSpec
from batch.errors import BatchError
from batch.job import BatchResult
from batch.options import RunOptions, SamplingOptions
from batch.prices import Usage, dollars
from batch.running.progress import format_duration
from batch.sources import Validation

FEWEST, MOST = 1 / 5, 1 / 3  # tokens a character of plain text, for a tokenizer that is not at hand
FEWEST_EXTRA, MOST_EXTRA = 1 / 6, 1 / 2  # and for each further byte of a character that has several
TEMPLATE = 8  # tokens that a chat template adds to a prompt
STUDENT = 2.0  # of the t distribution at 95 %, for samples of about twenty and more


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figures of a whole job, each from low to high. Costs are billionths of a dollar, times seconds; None: unknown."""

    items: int
    tokens_input: tuple[int, int]
    tokens_output: tuple[int, int]
    cost: tuple[int, int] | None
    seconds: float | None = None

    @property
    def text(self) -> str:
        """`1,000 prompts, 40,000–67,000 tokens in, 1,000–256,000 out, $0.02–$0.31, about 4m 10s`."""
        return f"{self._amounts}, {self._spent}"

    @property
    def cost_first(self) -> str:
        """`$0.02–$0.31, about 4m 10s; 1,000 prompts, …`, where the end may have no room."""
        return f"{self._spent}; {self._amounts}"

    @property
    def _amounts(self) -> str:
        tokens = f"{_span(*self.tokens_input)} tokens in, {_span(*self.tokens_output)} out"
        return f"{self.items:,} prompts, {tokens}"

    @property
    def _spent(self) -> str:
        time = "" if self.seconds is None else f", about {format_duration(self.seconds)}"
        return f"{self.cost_text}{time}"

    @property
    def cost_text(self) -> str:
        """`$0.02–$0.31`, `free`, `cost unknown`."""
        return "cost unknown" if self.cost is None else _money(*self.cost)


def before(
    spec: ModelSpec, report: Validation, sampling: SamplingOptions, run: RunOptions | None = None
) -> Estimate | None:
    """What is known before anything has run; None for a model that runs here, which costs nothing.

    `run` has the choices that change a price: a provider's batches cost less than its answers at once.
    """
    prices = prices_of(spec if run is None else spec.configured(run))
    if not spec.is_remote:
        return None
    characters, extra = report.mean_length, report.mean_bytes - report.mean_length
    system = len(sampling.system or "") / 4
    low = round(report.total * (characters * FEWEST + extra * FEWEST_EXTRA + system + 1))
    high = round(report.total * (characters * MOST + extra * MOST_EXTRA + system + TEMPLATE))
    if report.tokens is not None:
        texts = report.tokens - report.total * TEMPLATE_ROOM  # by the tokenizer that its entry names
        low, high = texts + report.total, texts + report.total * TEMPLATE
    outputs = (report.total, report.total * sampling.max_tokens)
    if prices is None:
        return Estimate(report.total, (low, high), outputs, None)
    each = max(1, report.total)
    ends = zip(prices, (low, high), outputs, strict=True)
    costs = [price(Usage(tokens // each, out // each)) for price, tokens, out in ends]
    known = None if None in costs else (report.total * (costs[0] or 0), report.total * (costs[1] or 0))
    return Estimate(report.total, (low, high), outputs, known)


_Price = Callable[[Usage], int | None]


def prices_of(spec: ModelSpec) -> tuple[_Price, _Price] | None:
    """Billionths of a dollar of a usage at the least and at the most, as functions; None where no price is known."""
    from batch.engines.http.row import server_of
    from batch.engines.provider.row import settings_of

    entry = {**({"url": spec.place} if spec.place else {}), **spec.engine_options}
    try:
        if spec.engine == "provider":
            settings = settings_of(entry)
            if (price := settings.price) is None:
                return None
            # Of lane auto some are rescued at the standard price, which may be all.
            return partial(price.cost, batch=settings.lane != "now"), partial(
                price.cost, batch=settings.lane == "batch"
            )
        if spec.engine != "server":
            return None
        server = server_of(entry)
    except BatchError:
        return None
    if server.free:
        return _nothing, _nothing
    return (server.price.cost, server.price.cost) if server.price is not None else None


def _nothing(usage: Usage) -> int:
    return 0


def after(sample: Sequence[BatchResult], items: int, seconds: float) -> Estimate | None:
    """What a whole job will come to by a sample of its answers, with 95 % intervals; None without any.

    `seconds` is what the sample took; the rest is taken to go on as fast.
    """
    answers = [result for result in sample if result.success]
    if not answers:
        return None
    inputs = _total([result.tokens_input for result in answers], items)
    outputs = _total([result.tokens_output for result in answers], items)
    costs = [result.cost for result in answers]
    known = [cost for cost in costs if cost is not None]
    cost = _total(known, items) if len(known) == len(costs) else None
    return Estimate(items, inputs, outputs, cost, seconds * (items - len(sample)) / len(sample))


def _total(values: Sequence[int], items: int) -> tuple[int, int]:
    """The sum over all items, by a sample: its 95 % interval, and never less than the sample itself."""
    mean = statistics.fmean(values)
    # The sample is part of the whole, which makes the interval narrower the more of it was tried.
    rest = max(0, items - len(values))
    wide = STUDENT * statistics.stdev(values) / math.sqrt(len(values)) * rest if len(values) > 1 else mean * rest
    middle = sum(values) + mean * rest
    return max(sum(values), round(middle - wide)), round(middle + wide)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _money(low: int, high: int) -> str:
    if not high:
        return "free"
    return dollars(low) if dollars(low) == dollars(high) else f"{dollars(low)}–{dollars(high)}"
