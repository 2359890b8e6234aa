"""A Parquet file through a real cluster on this machine and back to a Parquet file, whole and then in shards that are
merged: memory, rows a second, every row as it was with the answer to its own prompt, and both files the same.

    python -m benchmarks.cluster_table [--rows N] [--shards N]

It is the program itself that runs, one driver after the other. Not in `python -m benchmarks`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster import two_nodes  # first: it says what Ray is to be told before it is imported
from benchmarks.tables import write as write_table

ROOM = 512
LOOK_SECONDS = 0.5


def main() -> int:
    """Run all of it; an AssertionError where a row is lost, doubled or another's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_table", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=2, help="drivers of the second time; 1: there is none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, two_nodes() as (cluster, address):
        cluster.add_node(num_cpus=2)
        home = _workspace(Path(name))
        write_table(home / "big.parquet", args.rows)
        whole = _export(home, _run(home, address, args.rows), args.rows, "whole.parquet")
        if args.shards > 1:
            jobs = [_run(home, address, args.rows, (number, args.shards)) for number in range(1, args.shards + 1)]
            seconds, resident, said = _program(home, "merge", *jobs)
            _say(f"merged {args.shards} shards", seconds, resident, args.rows)
            _same(whole, _export(home, said.strip(), args.rows, "merged.parquet"))
    print(f"{args.rows:,} rows: 0 lost, 0 doubled, each with its own answer, the shards' as the whole's", flush=True)
    return 0


def _run(home: Path, address: str, rows: int, shard: tuple[int, int] = (1, 1)) -> str:
    """Answer the table, or a shard of it; the job's file."""
    before = set((home / "checkpoints").glob("batch_*.db"))
    number, count = shard
    command = ["run", "big.parquet", "--template", "prompt.j2", "--model", "instant", "--cluster", address]
    words = ["--shard", f"{number}/{count}"] if count > 1 else []
    seconds, resident, _ = _program(home, *command, *words, "--display", "none")
    mine = len(range(number - 1, rows, count))
    _say(f"shard {number}/{count}: {mine:,} rows" if words else f"{mine:,} rows answered", seconds, resident, mine)
    (made,) = set((home / "checkpoints").glob("batch_*.db")) - before
    return str(made)


def _export(home: Path, job: str, rows: int, name: str) -> Path:
    """The job as a Parquet file, which is looked through."""
    seconds, resident, _ = _program(home, "export", job, "--merge", name)
    _say("written as Parquet", seconds, resident, rows)
    _check(home / "big.parquet", home / name, rows)
    return home / name


def _workspace(home: Path) -> Path:
    (home / "weights").mkdir()
    (home / "weights" / "config.json").write_text("{}")
    (home / "weights" / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # a header of no tensors
    (home / "prompt.j2").write_text("Where does this belong? {{ title }}")
    instant = {"path": "weights", "engine": "ray_core:open_core", "room": ROOM, "resources": {"cpus": 1, "actors": 2}}
    (home / "models.yaml").write_text(json.dumps({"models": {"instant": instant}}))
    return home


def _program(home: Path, *words: str) -> tuple[float, list[float], str]:
    """Run `ai-router` in the workspace: seconds, resident MB of its processes at each look, its stdout."""
    start = time.monotonic()
    env = {**os.environ, "AI_ROUTER_HOME": str(home), "AI_ROUTER_DISCOVERY": "0"}
    command = [sys.executable, "-m", "ai_router", *words]
    resident: list[float] = []
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=out, stdin=subprocess.DEVNULL)
        while process.poll() is None:
            resident.append(_resident(process.pid))
            time.sleep(LOOK_SECONDS)
        out.seek(0)
        said = out.read()
    assert process.returncode == 0, (words, process.returncode)
    return time.monotonic() - start, resident, said


def _resident(pid: int) -> float:
    """MB of a process and of all that it has started, as Linux says."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = " ".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")).split()
    except OSError:  # it ended a moment ago
        return 0.0
    own = next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)
    return own + sum(_resident(int(child)) for child in children)


def _say(what: str, seconds: float, resident: list[float], count: int) -> None:
    quarters = [resident[len(resident) * part // 4 - 1] for part in (1, 2, 3)] if len(resident) > 3 else []
    went = f"; after each quarter of the time {', '.join(f'{mb:,.0f}' for mb in quarters)}" if quarters else ""
    print(
        f"{what} in {seconds:.0f} s ({count / seconds:,.0f} a second), {max(resident):,.0f} MB at most{went}",
        flush=True,
    )


def _check(before: Path, after: Path, count: int) -> None:
    import pyarrow.parquet as pq

    was, now, row = pq.ParquetFile(before).iter_batches(10_000), pq.ParquetFile(after).iter_batches(10_000), 0
    for old, new in zip(was, now, strict=True):
        assert new.select(old.schema.names).equals(old), f"rows {row:,} and on were changed"
        answers = new.column("answer_llm").to_pylist()
        for number, answer in enumerate(answers, row):
            assert answer == f"WHERE DOES THIS BELONG? TITLE {number}", (number, answer)
        row += len(answers)
    assert row == count, row


def _same(one: Path, other: Path) -> None:
    import pyarrow.parquet as pq

    for mine, its in zip(*(pq.ParquetFile(path).iter_batches(10_000) for path in (one, other)), strict=True):
        assert mine.equals(its), "the shards' file is not the whole's"


if __name__ == "__main__":
    sys.exit(main())
