"""A worker lets other processes go first where it is told to, and only then."""

from __future__ import annotations

import sys

import pytest

from batch.engines.local import worker


@pytest.mark.skipif(sys.platform == "win32", reason="no priorities of that kind")
@pytest.mark.parametrize(
    ("told", "before", "added"),
    [("10", 0, [10]), ("10", 4, [6]), ("10", 12, []), ("", 0, []), ("0", 0, []), ("-5", 0, []), ("99", 0, [])],
)
def test_it_gives_way_as_far_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, told: str, before: int, added: list[int]
) -> None:
    steps: list[int] = []

    def nice(step: int) -> int:
        steps.extend([step] if step else [])
        return before

    monkeypatch.setattr("os.nice", nice)
    monkeypatch.setenv(worker.NICE, told)
    worker.give_way()
    assert steps == added
