"""Many rows through one batch: the merge exact, the memory flat. `benchmarks.providers` does it with 50,000."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from engines.provider.making import engine_for, run
from servers.batches import Batches

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore
from batch.engines.provider.orders import Orders

COUNT = 12_000
TEXT = "row {} " + "x" * 2000  # 24 MB of prompts


def resident() -> int:
    """Bytes of memory in use; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_many_rows_through_one_batch(
    tmp_path: Path, batches: Batches, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = BatchProcessor(tmp_path).create_job("m", (TEXT.format(i) for i in range(COUNT)))
    batches.reply = lambda text: "answer to " + text.split()[1]
    seen: list[int] = []

    def content(lines: list[dict[str, Any]]) -> list[Any]:
        seen.append(len(lines))
        return [json.dumps(line).encode() + b"\n" for line in reversed(lines)]

    batches.lines = content
    held: list[int] = []
    real_add = Orders.add

    def add(orders: Orders, item: Any) -> bool:
        added = real_add(orders, item)
        if orders.shard is not None and len(orders.shard) in (2_000, 11_000):
            held.append(resident())
        return added

    monkeypatch.setattr(Orders, "add", add)
    assert run(job, engine_for("openai", url)).error is None
    # 9,000 more prompts would be 18 MB; ids and a byte each are not.
    assert len(held) == 2 and held[1] - held[0] < 9_000_000
    assert len(batches.creates) == 1 and seen == [COUNT] and job.completed == COUNT
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        for number, row in enumerate(store.iter_results()):
            assert row.response_text == f"answer to {number}"
