"""The line of counts and times, where a screen is wide and low."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ai_router.tui.run.progress import ProgressPanel
from batch.running.progress import RunState, Snapshot


@pytest.mark.parametrize("width", [20, 40, 80, 106, 112, 138, 200])
def test_two_lines_say_how_long_it_has_run_where_there_is_room(width: int) -> None:
    panel = ProgressPanel()
    panel.snapshot = Snapshot(
        "1a2b3c4d", "demo", RunState.RUNNING, 20_118, 17_000, 12, concurrency=8, elapsed=754.0, saved_ago=0.2
    )
    lines = panel.lines(width, 2)
    assert all(line.cell_length <= width for line in lines)
    if width >= 106:
        assert len(lines) == 2
        assert "waiting  3,106" in lines[1].plain and "elapsed 12m 34s" in lines[1].plain


@pytest.mark.parametrize("size", [(36, 3), (76, 3), (106, 2), (136, 2)])
def test_how_many_are_answered_at_once_and_how_long_is_left_stand_at_every_width(size: tuple[int, int]) -> None:
    panel = ProgressPanel()
    panel.snapshot = Snapshot(
        "1a2b3c4d", "demo", RunState.RUNNING, 20_118, 17_000, 12, in_flight=6, concurrency=8, limit=8, elapsed=754.0,
        saved_ago=0.2, eta=61.0,
    )  # fmt: skip
    text = "\n".join(line.plain for line in panel.lines(*size))
    assert "6/8" in text and "ETA 1m 1s" in text
    found = replace(panel.snapshot, limit=None, engine_about={"concurrency": 12})  # what a server was found to bear
    panel.snapshot = found
    assert "6/12" in "\n".join(line.plain for line in panel.lines(*size))
