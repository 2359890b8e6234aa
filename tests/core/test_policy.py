"""Strategies, retries and limits on a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import ErrorClass, Failure, FatalError, MissingExtraError, TransientError, classify
from batch.options import OptionError, RunOptions, SamplingOptions, build_options, options_dict, parse_option
from batch.running.policy import ErrorStrategy, RateLimit, RetryPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_threshold(limit: int, failures: int) -> None:
    assert ErrorStrategy.parse(f" Threshold:{limit} ").stops(failures) == (failures >= limit)
    assert ErrorStrategy.parse("stop").stops(failures) == (failures >= 1)
    assert not ErrorStrategy.parse("continue").stops(failures)


@given(st.text(max_size=15))
def test_any_other_text_is_an_error_that_says_what_to_write(text: str) -> None:
    try:
        strategy = ErrorStrategy.parse(text)
    except OptionError as error:
        assert repr(text) in str(error) and "threshold:N" in str(error)
    else:
        assert text.strip().lower().partition(":")[0] in ("continue", "stop", "threshold")
        assert strategy.limit is None or strategy.limit >= 1


@given(st.integers(0, 200), st.integers(1, 300), st.floats(0, 600) | st.none())
def test_delays_are_within_the_full_jitter(retries: int, attempt: int, retry_after: float | None) -> None:
    policy = RetryPolicy(retries)
    delay = policy.delay(Failure(ErrorClass.TRANSIENT, "busy", retry_after), attempt)
    if attempt > retries:
        assert delay is None
    else:
        least = retry_after or 0.0
        assert delay is not None and least <= delay <= least + min(30.0, 0.5 * 2.0 ** min(attempt - 1, 30))
    for other in (ErrorClass.PERMANENT, ErrorClass.EXHAUSTED, ErrorClass.FATAL):
        assert policy.delay(Failure(other, "no", retry_after), attempt) is None


def most_in_a_minute(taken: list[tuple[float, float]]) -> float:
    """The most of (time, amount) in any 60 seconds."""
    most = total = 0.0
    first = 0
    for moment, amount in taken:
        total += amount
        while taken[first][0] <= moment - 60:
            total -= taken[first][1]
            first += 1
        most = max(most, total)
    return most


PAUSES = st.lists(st.floats(0, 2) | st.floats(20, 90), min_size=1, max_size=30)


@given(st.integers(1, 3000), PAUSES)
def test_requests_a_minute_are_never_exceeded(per_minute: int, pauses: list[float]) -> None:
    """An eager caller, that also idles now and then, over any minute, the first one included."""
    clock = Clock()
    limit = RateLimit(per_minute, None, clock)
    taken: list[tuple[float, float]] = []
    for pause in pauses:
        clock.now += pause
        for _ in range(200):
            wait = limit.take(100)
            if wait > 0:
                assert wait <= 60 / per_minute + 1.01  # the even flow, and what a minute took at once
                clock.now += wait + 1e-9
                assert limit.take(100) == 0.0  # the time it named was enough
            taken.append((clock.now, 1))
    assert most_in_a_minute(taken) <= per_minute
    # Nor does it hold back more than it must: but for the pauses, the allowance is used up.
    assert clock.now - 1000 <= sum(pauses) + len(taken) * 60 / per_minute + 2


@given(st.integers(100, 10_000), st.lists(st.integers(1, 400), min_size=1, max_size=300), PAUSES)
def test_tokens_a_minute_are_never_exceeded_where_costs_are_as_reserved(
    per_minute: int, lengths: list[int], pauses: list[float]
) -> None:
    clock = Clock()
    limit = RateLimit(None, per_minute, clock)
    taken: list[tuple[float, float]] = []
    for number, length in enumerate(lengths):
        if number % 10 == 9:
            clock.now += pauses[number % len(pauses)]
        while (wait := limit.take(length)) > 0:
            clock.now += wait + 1e-9
        assert limit.reserved is not None
        taken.append((clock.now, limit.reserved.amount))
    assert most_in_a_minute(taken) <= max(per_minute, 101) * (1 + 1e-9)


def test_what_was_reserved_and_not_used_is_given_back() -> None:
    clock = Clock()
    limit = RateLimit(None, 600, clock)
    for _ in range(100):  # each reserves a sixth of the minute and uses nothing of it
        assert limit.take(390) < 12
        clock.now += 12
        assert limit.take(390) == 0.0
        limit.settle(limit.reserved, 0)
        assert limit.take(36) == 0.0
        limit.settle(limit.reserved, 0)


@given(st.integers(10, 10_000), st.lists(st.integers(1, 20_000), min_size=1, max_size=40))
def test_tokens_a_minute_hold_over_time_though_costs_are_known_late(per_minute: int, costs: list[int]) -> None:
    clock = Clock()
    limit = RateLimit(None, per_minute, clock)
    start, spent = clock.now, 0
    for cost in costs:
        while (wait := limit.take(40)) > 0:
            clock.now += wait + 1e-9
        limit.settle(limit.reserved, cost)
        spent += cost
    while (wait := limit.take(0)) > 0:  # until the debt of the last ones is paid
        clock.now += wait + 1e-9
    burst = max(1.0, per_minute / 10)
    assert spent <= burst + (clock.now - start) * per_minute / 60 + burst + 1e-3


def test_no_limit() -> None:
    limit = RateLimit()
    assert not limit.active and limit.take(10**9) == 0.0
    limit.settle(limit.reserved, 5)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    limit = RateLimit(60, None, clock)
    while limit.take(1) == 0.0:
        pass
    clock.now -= 500
    assert 0 < limit.take(1) <= 1.0
    clock.now += 1.1
    assert limit.take(1) == 0.0


def test_classify() -> None:
    assert classify(TransientError("x", retry_after=3)) == Failure(ErrorClass.TRANSIENT, "x", 3)
    assert classify(FatalError("x")).error_class is ErrorClass.FATAL
    assert classify(KeyError("x")) == Failure(ErrorClass.PERMANENT, "KeyError: 'x'")
    assert classify(BrokenPipeError()).error_class is ErrorClass.TRANSIENT
    assert 'pip install "ai-router[local]"' in str(MissingExtraError("local", "torch"))


def test_options_from_texts_and_numbers() -> None:
    options = build_options(RunOptions, {"workers": "4", "timeout": "", "requests_per_minute": None, "retries": 3.0})
    assert options == RunOptions(workers=4, retries=3)
    assert options_dict(options) == {"workers": 4, "retries": 3}
    sampling = build_options(SamplingOptions, {"temperature": "0.7", "stop": ["a", "b"], "system": "x", "seed": 0})
    assert options_dict(sampling) == {"temperature": 0.7, "stop": ["a", "b"], "system": "x", "seed": 0}
    assert SamplingOptions().stop is not SamplingOptions().stop


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "1.5"),
        ("workers", 1.5),
        ("workers", True),
        ("workers", float("inf")),
        ("workers", float("nan")),
        ("workers", []),
        ("workers", 100_001),
        ("timeout", "-1"),
        ("timeout", "nan"),
        ("retries", "9" * 5000),
        ("nonsense", 1),
    ],
)
def test_bad_values_name_the_option(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        parse_option(RunOptions, name, value)


@given(
    st.sampled_from(["workers", "retries", "timeout", "on_error", "tokens_per_minute"]),
    st.none() | st.text(max_size=8) | st.floats() | st.integers() | st.booleans() | st.lists(st.integers()),
)
def test_any_value_is_taken_or_refused_with_a_sentence(name: str, value: object) -> None:
    try:
        parse_option(RunOptions, name, value)
    except OptionError as error:
        assert str(error).startswith(name.replace("_", "-"))
