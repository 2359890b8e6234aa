"""Prices: exact sums, tiers, hours, versions of names; unknown is never free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import prices
from batch.prices import FREE, PriceError, Usage, dollars, find, price_of

PLAIN = price_of({"input": 0.1, "output": "0.4", "cached": 0.025}, "m", "test")


def test_whole_billionths() -> None:
    assert PLAIN.cost(Usage(1_000_000, 0)) == 100_000_000
    assert PLAIN.cost(Usage(3, 2)) == 3 * 100 + 2 * 400
    assert PLAIN.cost(Usage(1000, 10, cached=900, reasoning=10)) == 100 * 100 + 900 * 25 + 10 * 400
    assert FREE.cost(Usage(10**6, 10**6)) == 0


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_part_of_the_input_is_counted_once(tokens: int, output: int, cached: int, written: int) -> None:
    same = price_of({"input": 3, "output": 15, "cached": 3, "cache_write": 3}, "m", "test")
    assert same.cost(Usage(tokens, output, cached, written)) == tokens * 3000 + output * 15000


def test_a_long_prompt_reprices_the_whole_request() -> None:
    entry = {"input": 2, "output": 12, "above": [{"tokens": 200_000, "input": 4}], "batch": {"input": 1, "output": 6}}
    price = price_of(entry, "m", "test")
    assert price.cost(Usage(200_000, 1)) == 200_000 * 2000 + 12_000
    assert price.cost(Usage(200_001, 1)) == 200_001 * 4000 + 12_000  # what a tier leaves out stays
    assert price.cost(Usage(10, 10), batch=True) == 10 * 1000 + 10 * 6000


def test_no_batch_price_is_unknown() -> None:
    assert PLAIN.cost(Usage(10, 10), batch=True) is None
    with pytest.raises(PriceError, match="no batch price of m"):
        PLAIN.rates(10, batch=True)


def test_hours_with_other_rates() -> None:
    windows = [{"from": "01:00", "to": "04:00", "days": "mon-fri", "input": 0.3}]
    price = price_of({"input": 0.15, "output": 0, "windows": windows}, "m", "test")
    friday = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
    assert price.cost(Usage(1000, 0), at=friday) == 300_000
    assert price.cost(Usage(1000, 0), at=friday - timedelta(minutes=1)) == 150_000
    assert price.cost(Usage(1000, 0), at=friday + timedelta(hours=3)) == 150_000
    assert price.cost(Usage(1000, 0), at=friday + timedelta(days=1)) == 150_000
    shanghai = timezone(timedelta(hours=8))
    assert price.cost(Usage(1000, 0), at=datetime(2026, 11, 27, 9, 30, tzinfo=shanghai)) == 300_000


def test_a_window_over_midnight_belongs_to_the_day_it_begins() -> None:
    windows = [{"from": "22:00", "to": "02:00", "days": "sun", "input": 1}]
    price = price_of({"input": 2, "output": 0, "windows": windows}, "m", "test")
    monday = datetime(2026, 11, 30, 1, 59, tzinfo=UTC)
    assert price.cost(Usage(1, 0), at=monday) == 1000
    assert price.cost(Usage(1, 0), at=monday + timedelta(hours=21)) == 2000


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "input is missing"),
        ({"input": "much"}, "input: 'much' is not a number"),
        ({"input": -1}, "below 0"),
        ({"input": 1, "outputs": 2}, "unknown key 'outputs'"),
        ({"input": 1, "above": [{"input": 2}]}, "tokens is the length"),
        ({"input": 1, "windows": [{"from": "25:00", "to": "01:00"}]}, "from is a time of day"),
        ({"input": 1, "windows": [{"from": "01:00", "to": "02:00", "days": "someday"}]}, "days are such as"),
        ({"input": 1, "batch": 0.5}, "batch: expected keys"),
        ({"input": float("nan")}, "not a number"),
    ],
)
def test_what_cannot_be_read_is_named(entry: dict[str, object], said: str) -> None:
    with pytest.raises(PriceError, match=said):
        price_of(entry, "m", "test")


def test_the_shipped_table() -> None:
    assert len(prices.shipped()) >= 60
    assert "genai-prices" in prices.source() and "2026" in prices.source()
    price = find("gpt-5.4")
    assert price is not None and price.provider == "openai"
    assert price.cost(Usage(1_000_000, 0)) == 5 * prices.NANOS  # above 272,000 tokens
    assert price.cost(Usage(1000, 0), batch=True) == 1_250_000


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ],
)
def test_a_version_costs_as_its_model(name: str, model: str) -> None:
    found = find(name)
    assert found is not None and found.model == model


def test_unknown_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find("nobody-knows-me") is None
    assert find("gpt-5.4", "groq") is None
    assert find("openai/gpt-oss-120b") is None  # two providers, two prices


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(None, "unknown"), (0, "$0.00"), (12_400_000_000, "$12.40"), (3_100_000, "$0.0031"), (12, "$0.000000012")],
)
def test_dollars(nanos: int | None, text: str) -> None:
    assert dollars(nanos) == text
