"""What tokens cost: rates by model, from a table that is shipped, from the user's own entries, or from genai-prices.

Money is counted in whole billionths of a dollar, rates in billionths of a dollar a million tokens, so that no sum is
rounded on the way. A model without a known price costs None: unknown, never free.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from batch.errors import BatchError
from batch.values import value

NANOS = 1_000_000_000  # billionths of a dollar in one
PER = 1_000_000  # tokens that a rate is for
TABLE = Path(__file__).with_name("prices.json")
RATES = ("input", "output", "cached", "cache_write")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Ends of names that are versions of the same model: a date, a number, "latest".
_VERSION = re.compile(r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3,4}|latest|preview-\d{2}-\d{4}))$")


class PriceError(BatchError, ValueError):
    """A price that cannot be read; the text says which key."""


@value(frozen=True, slots=True)
class Usage:
    """The tokens of one request. `cached` and `cache_write` are part of `input`, `reasoning` is part of `output`."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """Billionths of a dollar a million tokens. What is not said apart (`cached`, `cache_write`) costs as input does."""

    input: Fraction
    output: Fraction
    cached: Fraction
    cache_write: Fraction

    def cost(self, usage: Usage) -> int:
        """Of one request, rounded to the nearest billionth."""
        cached = min(usage.cached, usage.input)
        written = min(usage.cache_write, usage.input - cached)
        plain = usage.input - cached - written
        sum_ = plain * self.input + cached * self.cached + written * self.cache_write + usage.output * self.output
        return round(sum_ / PER)


@dataclass(frozen=True, slots=True)
class _Lane:
    """Rates of one way to ask, and those of prompts that are longer than so many tokens (the whole request's)."""

    base: Rates
    above: tuple[tuple[int, Rates], ...] = ()

    def rates(self, tokens_input: int) -> Rates:
        chosen = self.base
        for start, rates in self.above:
            if tokens_input > start:
                chosen = rates
        return chosen


@dataclass(frozen=True, slots=True)
class _Window:
    """Minutes of the day (UTC) with rates of their own, on some days of the week (0 is Monday)."""

    start: int
    end: int
    days: frozenset[int]
    lane: _Lane

    def holds(self, at: datetime) -> bool:
        minute = at.hour * 60 + at.minute
        if self.start <= self.end:
            return at.weekday() in self.days and self.start <= minute < self.end
        # Over midnight: the early part belongs to the window of the day before.
        if minute >= self.start:
            return at.weekday() in self.days
        return minute < self.end and (at.weekday() - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs at one provider, and where that is known from."""

    model: str
    provider: str
    source: str  # where the figures are from, with their date
    now: _Lane
    batch: _Lane | None = None
    windows: tuple[_Window, ...] = ()
    context: int | None = None

    def rates(self, tokens_input: int, *, batch: bool = False, at: datetime | None = None) -> Rates:
        """The rates of a request with a prompt of that length, sent at that time (any zone; now where none is said).

        `batch` asks for the rates of the provider's batch API; ValueError where none are known: half is a guess.
        """
        if batch:
            if self.batch is None:
                raise PriceError(f"no batch price of {self.model} is known")
            return self.batch.rates(tokens_input)
        moment = (at or datetime.now(UTC)).astimezone(UTC)
        for window in self.windows:
            if window.holds(moment):
                return window.lane.rates(tokens_input)
        return self.now.rates(tokens_input)

    def cost(self, usage: Usage, *, batch: bool = False, at: datetime | None = None) -> int | None:
        """Billionths of a dollar of one request; None where no batch price is known."""
        if batch and self.batch is None:
            return None
        return self.rates(usage.input, batch=batch, at=at).cost(usage)


FREE = Price("", "", "runs on this machine", _Lane(Rates(Fraction(0), Fraction(0), Fraction(0), Fraction(0))))


def price_of(entry: Mapping[str, Any], model: str, source: str, provider: str = "") -> Price:
    """A price from an entry: `{input: 0.5, output: 1.5}` in dollars per million tokens, and what else is known.

    Further keys: `cached`, `cache_write`; `above: [{tokens: 200000, input: …}]`, rates of longer prompts; `batch: {…}`,
    those of the batch API; `windows: [{from: "01:00", to: "04:00", days: mon-fri, input: …}]`, hours (UTC) with other
    rates. Raises PriceError naming the key that is wrong.
    """
    unknown = set(entry) - {*RATES, "above", "batch", "windows", "provider", "model", "context"}
    if unknown:
        raise PriceError(f"price: unknown key {sorted(unknown)[0]!r}; known: {', '.join(RATES)}, above, batch, windows")
    batch = entry.get("batch")
    lane = _lane(entry, "price")
    return Price(
        model,
        provider or str(entry.get("provider", "")),
        source,
        lane,
        None if batch is None else _lane(_mapping(batch, "batch"), "batch"),
        tuple(_window(_mapping(w, "windows"), lane) for w in _list(entry.get("windows", ()), "windows")),
        entry.get("context"),
    )


def _lane(entry: Mapping[str, Any], where: str) -> _Lane:
    base = _rates(entry, where, None)
    above = []
    for tier in _list(entry.get("above", ()), f"{where}: above"):
        tokens = _mapping(tier, f"{where}: above").get("tokens")
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise PriceError(f"{where}: above: tokens is the length of a prompt, a whole number above 0")
        above.append((tokens, _rates(tier, f"{where}: above", base)))
    return _Lane(base, tuple(sorted(above, key=lambda tier: tier[0])))


def _rates(entry: Mapping[str, Any], where: str, default: Rates | None) -> Rates:
    """The four rates of an entry; a tier that leaves one out keeps the one below."""
    said = {name: _rate(entry[name], f"{where}: {name}") for name in RATES if entry.get(name) is not None}
    if default is not None:
        return replace(default, **said)
    if "input" not in said:
        raise PriceError(f"{where}: input is missing (dollars per million tokens)")
    plain = said["input"]
    return Rates(plain, said.get("output", Fraction(0)), said.get("cached", plain), said.get("cache_write", plain))


def _rate(value: Any, where: str) -> Fraction:
    try:
        rate = Fraction(str(value)) * NANOS
    except (ValueError, ZeroDivisionError):
        raise PriceError(f"{where}: {value!r} is not a number of dollars") from None
    if rate < 0:
        raise PriceError(f"{where}: {value!r} is below 0")
    return rate


def _window(entry: Mapping[str, Any], lane: _Lane) -> _Window:
    start, end = _minute(entry.get("from"), "from"), _minute(entry.get("to"), "to")
    tiers = _lane({**entry, "above": entry.get("above", ())}, "windows") if "input" in entry else lane
    return _Window(start, end, _days(entry.get("days")), tiers)


def _minute(value: Any, name: str) -> int:
    match = re.fullmatch(r"([01]?\d|2[0-4]):([0-5]\d)", str(value))
    if match is None or int(match[1]) * 60 + int(match[2]) > 24 * 60:
        raise PriceError(f'windows: {name} is a time of day such as "01:00" (UTC), not {value!r}')
    return int(match[1]) * 60 + int(match[2])


def _days(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset(range(7))
    chosen: set[int] = set()
    for part in str(value).lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last and last not in DAYS):
            raise PriceError(f"windows: days are such as mon-fri or sat,sun, not {value!r}")
        low, high = DAYS.index(first), DAYS.index(last or first)
        chosen |= {day % 7 for day in range(low, high + 1 if high >= low else high + 8)}
    return frozenset(chosen)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PriceError(f"{where}: expected keys with values, not {value!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise PriceError(f"{where}: expected a list")
    return list(value)


@cache
def _table() -> tuple[str, dict[str, list[Price]]]:
    data = orjson.loads(TABLE.read_bytes())
    source = f"{data['source']}, {data['date']}"
    prices: dict[str, list[Price]] = {}
    for entry in data["models"]:
        prices.setdefault(entry["model"].lower(), []).append(price_of(entry, entry["model"], source))
    return source, prices


def source() -> str:
    """Where the shipped table is from, and its date."""
    return _table()[0]


def shipped() -> list[Price]:
    """Every price of the shipped table."""
    return [price for prices in _table()[1].values() for price in prices]


def find(model: str, provider: str | None = None) -> Price | None:
    """The price of a model by its name at a provider: from the shipped table, else from genai-prices if installed.

    A dated or numbered version is taken for the model of that name (`gpt-5.4-2026-03-05` for `gpt-5.4`). Without a
    provider the name alone decides, and only where all providers that have it ask the same.
    """
    name = model.lower().removeprefix("models/")
    prices = _table()[1]
    for candidate in dict.fromkeys((name, _VERSION.sub("", name))):
        found = [price for price in prices.get(candidate, ()) if provider in (None, price.provider)]
        if len({(price.now, price.batch, price.windows) for price in found}) == 1:
            return found[0]
    return _genai_price(model, provider)


def _genai_price(model: str, provider: str | None) -> Price | None:
    if importlib.util.find_spec("genai_prices") is None:
        return None
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    def rate(**tokens: int) -> str:
        return str(calc_price(TheirUsage(**tokens), model_ref=model, provider_id=provider).total_price)

    try:  # the price of a million tokens of each kind is its rate
        entry = {"input": rate(input_tokens=PER), "output": rate(output_tokens=PER)}
        entry["cached"] = rate(input_tokens=PER, cache_read_tokens=PER)
    except (LookupError, ValueError, TypeError):
        return None
    return price_of(entry, model, "genai-prices", provider or "")


def dollars(nanos: int | None) -> str:
    """`$12.40`, `$0.0031`, `unknown`; two digits behind the point from a cent on, else the first two that count."""
    if nanos is None:
        return "unknown"
    if nanos == 0:
        return "$0.00"
    value = nanos / NANOS
    if abs(value) >= 0.01:
        return f"${value:,.2f}"
    return f"${value:.{max(4, 1 - int(f'{abs(value):e}'.split('e')[1]))}f}"
