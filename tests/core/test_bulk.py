"""Rows by the thousand in one statement: the same table as one row after the other gives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.checkpoint import bulk
from batch.checkpoint.written import LARGEST_COST, LARGEST_COUNT, ResultRow, unfit
from batch.items import Answer, BatchResponse
from batch.jsontext import dump_json

CONFLICT = "ON CONFLICT (id) DO UPDATE SET text = excluded.text, times = times + excluded.times"
values = st.text(st.characters(exclude_categories=("Cs",)), max_size=5) | st.none()


def filled(groups: list[list[tuple[int, str | None, int]]], limit: int | None, characters: int = 0) -> list[Any]:
    """The table after the groups, each in one `bulk.insert`; with a limit of None one row at a time."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, times INTEGER)")
        for rows in groups:
            if limit is None:
                connection.executemany(f"INSERT INTO t (id, text, times) VALUES (?, ?, ?) {CONFLICT}", rows)
            else:
                connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)
                bulk.insert(connection, "INSERT INTO t (id, text, times)", rows, CONFLICT, characters=characters)
        return connection.execute("SELECT * FROM t ORDER BY id").fetchall()


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), values, st.integers(0, 9)), max_size=70), max_size=4),
    st.sampled_from([3, 8, 50, 999, 250_000]),
)
@settings(max_examples=60, deadline=None)
def test_as_one_row_after_the_other(groups: list[list[tuple[int, str | None, int]]], limit: int) -> None:
    """Whatever is replaced, within a group too, and however few values a statement may have."""
    assert filled(groups, limit) == filled(groups, None)


@given(
    st.lists(st.tuples(st.integers(0, 400), values), max_size=70), st.integers(0, 9), st.sampled_from([3, 8, 50, 999])
)
@settings(max_examples=40, deadline=None)
def test_what_is_the_same_in_all_rows_is_handed_over_once(
    rows: list[tuple[int, str | None]], times: int, limit: int
) -> None:
    """The table is the one that rows with all their values give."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT, times INTEGER)")
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, limit)
        bulk.insert(connection, "INSERT INTO t (id, text, times)", rows, CONFLICT, shared=(times,))
        found = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    assert found == filled([[(*row, times) for row in rows]], None)


def test_more_rows_than_one_statement_holds() -> None:
    rows = [(i, str(i), 1) for i in range(2 * bulk.LARGEST + 5)]
    for characters in (0, 10 * bulk.MOST_TEXT, 10**12):
        assert filled([rows], 250_000, characters) == rows


odd = st.sampled_from([None, 1.0, True, False, "1", [], -1, -(2**70), 2**70, LARGEST_COUNT + 1, float("nan")])
count = st.integers(0, LARGEST_COUNT) | odd


@pytest.mark.parametrize("name", ["tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning", "units"])
@given(count, st.integers(0, LARGEST_COUNT))
@settings(max_examples=40, deadline=None)
def test_counts_are_looked_at_one_by_one_and_all_at_once(name: str, found: Any, other: int) -> None:
    """What is no count is found whatever the others are."""
    others = dict.fromkeys(("tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning", "units"), other)
    problem = unfit(BatchResponse(0, Answer("x"), **{**others, name: found}))
    fits = isinstance(found, int) and 0 <= found <= LARGEST_COUNT
    assert (problem is None) == fits
    assert fits or (problem is not None and f"said {name} =" in problem.message)


@given(
    st.sampled_from([None, 0, 7, -1, True, 1.5, LARGEST_COST, LARGEST_COST + 1]),
    st.sampled_from([None, "m", 3]),
    st.none() | st.dictionaries(st.text(max_size=3), st.sampled_from(["stop", "\ud800", 3, None]), max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_what_stands_beside_a_text_is_looked_at_as_a_whole(cost: Any, model: Any, extra: Any) -> None:
    """The quick look and the one field by field say the same; what fits is a row with the same extra."""
    response = BatchResponse(0, Answer("x", extra), cost=cost, model=model)
    fits = (cost is None or (isinstance(cost, int) and 0 <= cost <= LARGEST_COST)) and model != 3
    assert (unfit(response) is None) == fits
    if fits:
        row = ResultRow.of(response, "p", None, 1, replaces=False)
        assert (row.extra, row.cost, row.model) == (dump_json(extra), cost, model)
