"""Pages of bare texts: the same texts as row by row, and row by row wherever they are not just that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.checkpoint import pages, schema
from batch.checkpoint.pages import TextPages
from batch.errors import CheckpointError

texts = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from('\0\x01\x1f\x7f"\\/\u2028\ufffe\U0001f600'))


def opened(rows: list[tuple[Any, ...]]) -> sqlite3.Connection:
    """A table of items: id, text, and what is beside it."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, text TEXT NOT NULL, extra TEXT, model INTEGER, reason TEXT,"
        " columns TEXT)"
    )
    connection.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", [(*row, *[None] * (6 - len(row))) for row in rows]
    )
    return connection


def reader(connection: sqlite3.Connection) -> TextPages:
    def rows(sql: str, parameters: Any) -> list[Any]:
        try:
            return connection.execute(sql, parameters).fetchall()
        except schema.FAULTS as error:  # as a store does
            raise CheckpointError(str(error)) from error

    return TextPages(rows)


@given(st.lists(texts, min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_text_comes_as_it_is(wanted: list[str]) -> None:
    with closing(opened(list(enumerate(wanted)))) as connection:
        found = reader(connection)
        assert found.read(0, len(wanted) - 1) == wanted
        assert found.read(len(wanted) // 2, len(wanted) - 1) == wanted[len(wanted) // 2 :]


@pytest.mark.parametrize(
    "odd",
    [
        (1, b"\xff\xfe"),
        (1, "x", "{}"),
        (1, "x", None, 3),
        (1, "x", None, None, "why"),
        (1, "x", None, None, None, "{}"),
        (7, "x"),
    ],
)
def test_what_is_not_just_texts_comes_row_by_row_from_then_on(odd: tuple[Any, ...]) -> None:
    """A blob, something beside the text, an item that is missing."""
    with closing(opened([(0, "a"), odd, (2, "c"), (3, "d")])) as connection:
        found = reader(connection)
        assert found.read(0, 2) is None and found.read(2, 3) is None


def test_text_that_is_no_utf8_is_left_to_the_rows() -> None:
    with closing(opened([(0, "a"), (1, "b")])) as connection:
        connection.execute("UPDATE items SET text = CAST(x'61ff62' AS TEXT) WHERE id = 1")
        assert reader(connection).read(0, 1) is None


def test_a_fault_is_left_to_the_rows() -> None:
    def rows(*_: object) -> list[Any]:
        raise CheckpointError("no such function: json_group_array")

    assert TextPages(rows).read(0, 1) is None


def test_long_texts_are_held_twice_for_one_page_only() -> None:
    with closing(opened([(0, "a" * pages.LARGEST), (1, "b"), (2, "c"), (3, "d")])) as connection:
        found = reader(connection)
        assert found.read(0, 1) == ["a" * pages.LARGEST, "b"] and found.read(2, 3) is None


@given(st.lists(texts, min_size=1, max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_some_texts_whatever_is_beside_them(held: list[str], data: st.DataObject) -> None:
    """Of any items, in their order; None where one is missing."""
    chosen = sorted(data.draw(st.sets(st.integers(0, len(held)), min_size=1)))
    with closing(opened([(n, text, "{}") for n, text in enumerate(held)])) as connection:
        found = reader(connection).read_some(chosen)
    assert found == (None if len(held) in chosen else [held[n] for n in chosen])
