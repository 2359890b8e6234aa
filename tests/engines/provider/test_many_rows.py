"""Very many rows through one batch: the merge exact, the memory flat."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engines.provider.making import engine_for, run
from servers.batches import Batches

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore

COUNT = 50_000
TEXT = "row {} " + "x" * 1000  # 50 MB of prompts


def resident() -> int:
    """Bytes of memory in use; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_fifty_thousand_rows_through_one_batch(tmp_path: Path, batches: Batches, url: str) -> None:
    job = BatchProcessor(tmp_path).create_job("m", (TEXT.format(i) for i in range(COUNT)))
    batches.reply = lambda text: "answer to " + text.split()[1]
    seen: list[int] = []

    def content(lines: list[dict[str, object]]) -> list[bytes]:
        # What is under way through the engine, without the double's own store.
        seen.append(len(lines))
        return [json.dumps(line).encode() + b"\n" for line in reversed(lines)]

    batches.lines = content
    engine = engine_for("openai", url)
    held: list[int] = []
    shard_add = engine._add

    def add(item: object) -> bool:
        added: bool = shard_add(item)  # type: ignore[arg-type]
        if engine._shard is not None and len(engine._shard) in (5_000, 45_000):
            held.append(resident())
        return added

    engine._add = add  # type: ignore[method-assign]
    assert run(job, engine).error is None
    # 40,000 more prompts would be 40 MB; ids and a byte each are not.
    assert len(held) == 2 and held[1] - held[0] < 20_000_000
    assert len(batches.creates) == 1 and seen == [COUNT] and job.completed == COUNT
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        for number, row in enumerate(store.iter_results()):
            assert row.response_text == f"answer to {number}"
