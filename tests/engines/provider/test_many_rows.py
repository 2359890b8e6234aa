"""Many rows through one batch: the merge exact, the memory flat. `benchmarks.providers` does it with 50,000."""

from __future__ import annotations

import json
import tracemalloc
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
        if orders.shard is not None and len(orders.shard) == 2_000:
            tracemalloc.start()  # counts what is made from here on: the process may have had a past
        if orders.shard is not None and len(orders.shard) == 11_000:
            held.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        return added

    monkeypatch.setattr(Orders, "add", add)
    assert run(job, engine_for("openai", url)).error is None
    # 9,000 more prompts would be 18 MB; ids and a byte each are not.
    assert len(held) == 1 and held[0] < 9_000_000
    assert len(batches.creates) == 1 and seen == [COUNT] and job.completed == COUNT
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        for number, row in enumerate(store.iter_results()):
            assert row.response_text == f"answer to {number}"
