"""Bars and estimates that do not lie, on a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.checkpoint import ResultRow
from batch.running.progress import ActiveClock, EtaEstimator, Meter, RunState, Snapshot, format_duration, progress_line


@pytest.mark.parametrize(
    ("processed", "total", "eta", "line"),
    [
        (4, 6, 135, "Progress: [====================----------] 66.7% (4/6) | ETA: 2m 15s"),
        (0, 6, None, "Progress: [------------------------------] 0.0% (0/6) | ETA: —"),
        (6, 6, 0.0, "Progress: [==============================] 100.0% (6/6) | ETA: 0m 0s"),
        (9_999, 10_000, 1.4, "Progress: [=============================-] 99.9% (9999/10000) | ETA: 0m 1s"),
        (1, 3, 59.6, "Progress: [==========--------------------] 33.3% (1/3) | ETA: 1m 0s"),
        (1, 2, 3600, "Progress: [===============---------------] 50.0% (1/2) | ETA: 1h 00m"),
        (1, 2, 3 * 3600 + 5 * 60, "Progress: [===============---------------] 50.0% (1/2) | ETA: 3h 05m"),
        (0, 0, None, "Progress: [==============================] 100.0% (0/0) | ETA: —"),
    ],
)
def test_the_plain_line(processed: int, total: int, eta: float | None, line: str) -> None:
    assert progress_line(processed, total, eta) == line


@given(st.integers(0, 10**7), st.integers(1, 10**7))
def test_the_bar_is_full_at_the_end_and_only_there(processed: int, total: int) -> None:
    processed = min(processed, total)
    line = progress_line(processed, total, None)
    bar = line[line.index("[") + 1 : line.index("]")]
    assert len(bar) == 30 and set(bar) <= {"=", "-"}
    assert (bar == "=" * 30) == ("100.0%" in line) == (processed == total)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "—"), (float("inf"), "—"), (float("nan"), "—"), (-3, "0m 0s"), (3599.4, "59m 59s"), (3599.6, "1h 00m"),
     (86_400, "1d 00h"), (2 * 86_400 + 4 * 3600, "2d 04h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0.15, 100), st.integers(2, 400), st.integers(0, 5000))
def test_exact_at_a_constant_rate_from_the_second_completion_on(gap: float, done: int, left: int) -> None:
    eta = EtaEstimator()
    eta.start(0.0)
    for number in range(1, done + 1):
        assert number > 2 or eta.eta((number - 1) * gap, left) is (0.0 if left == 0 else None) or left == 0
        eta.record(number * gap, 1)
    assert eta.eta(done * gap, left) == pytest.approx(left * gap)
    assert eta.rate(done * gap) == pytest.approx(1 / gap)
    half = eta.eta(done * gap + gap / 2, left)
    assert half == pytest.approx(max(0.0, left * gap - gap / 2))  # and falls between two completions


def test_right_after_a_resume() -> None:
    """900 of 1,000 were done before; one a second now. A bar that counts them says 3 s where 98 are left."""
    eta = EtaEstimator()
    eta.start(0.0)
    shown = []
    for second in range(1, 31):
        eta.record(float(second), 1)
        shown.append(eta.eta(float(second), 100 - second))
    assert shown[0] is None
    assert shown[1:] == [pytest.approx(100 - second) for second in range(2, 31)]


@pytest.mark.parametrize("chunk", [16, 64])
def test_chunks(chunk: int) -> None:
    """Sixteen every 90 s: known from the second chunk on, falling steadily in between, never zero too soon."""
    eta = EtaEstimator()
    eta.start(0.0)
    total = chunk * 20
    for number in range(1, 21):
        now = number * 90.0
        eta.record(now, chunk)
        left = total - number * chunk
        if number == 1:
            assert eta.eta(now, left) is None
            continue
        truth = (20 - number) * 90.0
        shown = [eta.eta(now + wait, left) for wait in range(0, 90, 5)]
        for wait, value in zip(range(0, 90, 5), shown, strict=True):
            assert value == pytest.approx(max(0.0, truth - wait))


def test_a_chunk_scattered_over_a_moment_is_one_chunk() -> None:
    eta = EtaEstimator()
    eta.start(0.0)
    for number in range(1, 6):
        for item in range(16):
            eta.record(number * 90.0 + item * 0.01, 1)
    assert eta.eta(450.2, 160) == pytest.approx(900, rel=0.15)


def test_an_overdue_chunk_makes_it_longer_not_zero() -> None:
    eta = EtaEstimator()
    eta.start(0.0)
    for number in range(1, 5):
        eta.record(number * 10.0, 1)
    values = [eta.eta(40.0 + silence, 5) for silence in (0, 10, 100, 1000)]
    assert values[0] == pytest.approx(50) and values[1] == pytest.approx(40)
    assert values[2] is not None and values[3] is not None and values[3] > values[2] > 100


def test_a_change_of_speed_is_forgotten_after_the_window() -> None:
    eta = EtaEstimator()
    eta.start(0.0)
    now = 0.0
    for _ in range(100):
        now += 10.0
        eta.record(now, 1)
    for _ in range(200):
        now += 1.0
        eta.record(now, 1)
    assert eta.eta(now, 60) == pytest.approx(60, rel=0.05)


@given(
    st.lists(st.tuples(st.floats(0, 200), st.integers(1, 50)), max_size=200), st.integers(0, 10**6), st.floats(0, 500)
)
def test_never_negative_never_nan(steps: list[tuple[float, int]], left: int, silence: float) -> None:
    eta = EtaEstimator()
    now = 0.0
    for gap, count in steps:
        now += gap
        eta.record(now, count)
    value = eta.eta(now + silence, left)
    assert value is None or (0 <= value < float("inf"))
    assert eta.rate(now + silence) >= 0
    assert value == 0.0 if left == 0 else (value is None or len(steps) >= 2)


def test_the_clock_stands_still_on_pause() -> None:
    now = 100.0
    clock = ActiveClock(lambda: now)
    assert clock.now() == 0.0
    clock.start()
    now += 5
    clock.start()
    assert clock.now() == 5
    clock.stop()
    now += 1000
    clock.stop()
    assert clock.now() == 5
    clock.start()
    now += 2
    assert clock.now() == 7
    now -= 50  # a clock that goes back
    assert clock.now() == 5


def row(index: int, tokens: tuple[int, int] = (0, 0), error: str | None = None) -> ResultRow:
    return ResultRow(index, "p", "a", error is None, *tokens, 0.5, 1, None, error, None, 0)


def test_the_meter_on_pause_keeps_its_figures() -> None:
    now = 0.0
    clock = ActiveClock(lambda: now)
    meter = Meter(clock)
    clock.start()
    meter.eta.start(clock.now())
    for _ in range(20):
        now += 1.0
        meter.record([row(0, tokens=(5, 10))])
    figures = (meter.eta.eta(clock.now(), 30), meter.tokens_per_second(), meter.rates(), meter.latency())
    assert figures[0] == pytest.approx(30) and figures[1] == pytest.approx(10, rel=0.11) and figures[3] == (0.5, 0.5)
    clock.stop()
    now += 3600
    assert (meter.eta.eta(clock.now(), 30), meter.tokens_per_second(), meter.rates(), meter.latency()) == figures
    clock.start()
    for _ in range(20):
        now += 1.0
        meter.record([row(0, tokens=(5, 10))])
    assert meter.eta.eta(clock.now(), 10) == pytest.approx(10)
    assert all(rate == 10 for rate in meter.rates()[1:])


def test_errors_are_counted_by_class_and_first_line() -> None:
    clock = ActiveClock()
    meter = Meter(clock)
    meter.record([row(i, error=f"boom\nrow {i}") for i in range(3)])
    meter.record([row(4, error="\n"), row(5, error="")])
    assert dict(meter.errors.most_common()) == {"permanent: boom": 3, "permanent: ": 1, "permanent: failed": 1}


def test_fraction() -> None:
    snapshot = Snapshot("a", "m", RunState.RUNNING, 8, 3, 1)
    assert (snapshot.processed, snapshot.fraction) == (4, 0.5)
    assert Snapshot("a", "m", RunState.RUNNING, 0, 0, 0).fraction == 0.0
