"""Items worked on side by side: as many as there is room for, whatever the room becomes, and none forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.base import closing_answers
from batch.engines.pull import side_by_side
from batch.items import BatchItem


async def numbers(count: int, fails: bool = False) -> AsyncIterator[BatchItem[int]]:
    for number in range(count):
        yield BatchItem(number, number)
    if fails:
        raise KeyError("no more")


@given(st.integers(0, 60), st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_every_item_once_and_never_more_than_there_was_room_for(count: int, rooms: list[int]) -> None:
    running = most = 0
    turn = 0

    def room() -> int:
        nonlocal turn
        turn += 1
        return rooms[turn // 7 % len(rooms)]

    async def work(item: BatchItem[int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(item.data % 3):  # many end in the same turn of the loop
            await asyncio.sleep(0)
        running -= 1
        return item.data

    async def main() -> list[int]:
        return [done async for done in side_by_side(numbers(count), work, room)]

    assert sorted(asyncio.run(main())) == list(range(count))
    assert most <= max(rooms) and running == 0


@pytest.mark.parametrize("room", [None, 1, 3])
async def test_an_error_ends_it(room: int | None) -> None:
    async def work(item: BatchItem[int]) -> int:
        if item.data == 5:
            raise ValueError("five")
        return item.data

    with pytest.raises(ValueError, match="five"):
        _ = [done async for done in side_by_side(numbers(9), work, room)]
    with pytest.raises(KeyError):
        _ = [done async for done in side_by_side(numbers(3, fails=True), work, room)]


async def test_what_is_left_early_is_in_nobodys_hands() -> None:
    items = numbers(100)

    async def work(item: BatchItem[int]) -> int:
        await asyncio.sleep(0 if item.data == 0 else 3600)
        return item.data

    async with closing_answers(side_by_side(items, work, 8)) as answers:
        assert await anext(answers) == 0
    await items.aclose()  # type: ignore[attr-defined]  # raises where somebody still waits for it
