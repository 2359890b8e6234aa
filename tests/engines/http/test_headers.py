"""Headers and texts about limits, in every documented form; negative and absent are unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.http.headers import LONGEST, duration, limits, moment, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("7.66s", 7.66), ("1h2m3s", 3723), ("20ms", 0.02), ("59", 59), ("0", 0), ("1.5", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "soon", "5 apples", "nan", "inf", "-3s", "1s later"])
def test_what_is_no_duration(text: str) -> None:
    assert duration(text) is None


def test_moments() -> None:
    assert moment("2026-11-28T12:00:30Z", now=1795867200) == pytest.approx(30)
    assert moment("Sat, 28 Nov 2026 12:00:30 GMT", now=1795867200) == pytest.approx(30)
    assert moment("Sat, 28 Nov 2026 11:00:00 GMT", now=1795867200) == 0
    assert moment("tomorrow") is None


def test_retry_after() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after({}, "Please try again in 5.289s. Visit the console") == pytest.approx(5.289)
    assert retry_after({}, "Please try again in 1m30.5s.") == pytest.approx(90.5)
    assert retry_after({}, "try again in 20 seconds") == 20
    assert retry_after({}, '{"details":[{"retryDelay":"34s"}]}') == 34
    assert retry_after({}, "rate limit") is None
    assert retry_after({"retry-after": "-1"}) is None
    assert retry_after({"retry-after": "99999999"}) == LONGEST


def test_limits_of_each_maker() -> None:
    openai = limits(
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
        }
    )
    assert (openai.requests.limit, openai.requests.remaining, openai.requests.reset) == (60, 0, 360)
    azure = limits(
        {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}
    )
    assert (azure.tokens.limit, azure.tokens.remaining) == (None, None)
    anthropic = limits(
        {
            "anthropic-ratelimit-tokens-limit": "80000",
            "anthropic-ratelimit-tokens-remaining": "79000",
            "anthropic-ratelimit-tokens-reset": "2020-01-01T00:00:00Z",
        }
    )
    assert (anthropic.tokens.limit, anthropic.tokens.remaining, anthropic.tokens.reset) == (80000, 79000, 0)


@given(
    st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        ),
        st.text(max_size=40),
    ),
    st.text(max_size=200),
)
def test_nothing_that_comes_is_an_error(headers: dict[str, str], body: str) -> None:
    found = limits(headers, body)
    assert found.retry_after is None or 0 <= found.retry_after <= LONGEST
