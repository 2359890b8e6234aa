"""Adaptive concurrency against a model of a server that bears so many requests at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batch.engines.adaptive import AdaptiveLimit


def rounds(limit: AdaptiveLimit, capacity: int, count: int) -> list[int]:
    """Fill the limit, answer what the server bears, refuse the rest; the limits after each round."""
    seen = []
    for _ in range(count):
        tickets = []
        while limit.room:
            tickets.append(limit.sent())
        for n, ticket in enumerate(tickets):
            if n < capacity:
                limit.answered(ticket)
            else:
                limit.limited(ticket)
        assert limit.in_flight == 0
        seen.append(limit.limit)
    return seen


def test_slow_start_reaches_the_most_in_a_few_rounds() -> None:
    limit = AdaptiveLimit(8, 512)
    seen = rounds(limit, 10**6, 12)
    assert seen[-1] == 512 and seen[0] > 8


@settings(max_examples=20)
@given(st.integers(2, 400))
def test_it_stays_near_what_the_server_bears(capacity: int) -> None:
    limit = AdaptiveLimit(8, 512)
    seen = rounds(limit, capacity, 200)[60:]
    assert max(seen) <= capacity * 1.1 + 2
    assert min(seen) >= min(capacity, 8) * 0.4 - 1


def test_one_episode_shrinks_once() -> None:
    limit = AdaptiveLimit(100, 100)
    tickets = [limit.sent() for _ in range(100)]
    assert [limit.limited(ticket) for ticket in tickets].count(True) == 1
    assert limit.limit == 70


def test_trouble_pauses_growth_and_shrinks_nothing() -> None:
    now = 0.0
    limit = AdaptiveLimit(8, 64, clock=lambda: now)
    limit.troubled(limit.sent())
    assert rounds(limit, 10**6, 3) == [8, 8, 8]
    now = 6.0
    assert rounds(limit, 10**6, 1)[0] > 8


def test_it_does_not_grow_where_it_is_not_the_limit() -> None:
    limit = AdaptiveLimit(8, 64)
    limit.sent()
    for _ in range(100):
        limit.answered(limit.sent())
    assert limit.limit == 8


@given(st.lists(st.sampled_from("sadtl"), max_size=300))
def test_never_below_the_least_nor_above_the_most(moves: list[str]) -> None:
    limit = AdaptiveLimit(4, 16, 2)
    flying: list[int] = []
    for move in moves:
        if move == "s" and limit.room:
            flying.append(limit.sent())
        elif flying and move != "s":
            {"a": limit.answered, "d": limit.dropped, "t": limit.troubled, "l": limit.limited}[move](flying.pop(0))
        assert 2 <= limit.limit <= 16
        assert limit.in_flight == len(flying)


def test_what_is_rare_says_nothing_about_how_many_are_too_many() -> None:
    """One refusal in 150 and one error in 75, however many are in flight: it reaches the most, and stays there."""
    now, count = 0.0, 0
    limit = AdaptiveLimit(16, 512, clock=lambda: now)
    for _ in range(40):
        now += 0.2
        for ticket in [limit.sent() for _ in range(limit.limit)]:
            count += 1
            if count % 50:
                limit.answered(ticket)
            elif count % 150:
                limit.troubled(ticket)
            else:
                assert limit.limited(ticket) is None
    assert limit.limit == 512


def test_growth_quickens_while_no_limit_is_met() -> None:
    limit = AdaptiveLimit(16, 512)
    rounds(limit, 20, 5)
    assert limit.limit <= 22
    assert rounds(limit, 10**6, 80)[-1] == 512
