"""A table through a template to a job and, with the answers, back to a table: resident memory and rows a second."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path

from batch import Run
from batch.options import RunOptions
from benchmarks.common import InstantEngine, Row, Skipped, in_process, workspace

TARGET = 500
TEMPLATE = "Which department is this about?\n\n{{ title }}\n{{ body }}"
PART = 50_000  # rows of a row group


def round_trip(count: int) -> list[float]:
    """Most resident memory in MB, and seconds for checking, making the job, answering and merging."""
    import resource

    from batch.export.tables import merge_file
    from batch.sources import validate
    from batch.sources.rows import TableSource

    with workspace() as processor:
        folder = Path(processor.checkpoint_dir)
        write(folder / "table.parquet", count)
        source = TableSource(folder / "table.parquet", template=TEMPLATE)
        times = [time.monotonic()]
        assert validate(source).total == count
        times.append(time.monotonic())
        job = processor.create_job("m", source, config={"table": source.kept()})
        times.append(time.monotonic())
        Run(job, InstantEngine(), RunOptions(workers=64)).execute()
        times.append(time.monotonic())
        assert merge_file(job, folder / "merged.parquet") == count
        times.append(time.monotonic())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return [peak, *(after - before for before, after in pairwise(times))]


def write(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), ("title", pa.string()), ("body", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, PART):
            rows = range(start, min(count, start + PART))
            columns = {
                "id": list(rows),
                "title": [f"Title {n}" for n in rows],
                "body": [f"Body {n}. " * 5 for n in rows],
            }
            writer.write_table(pa.table(columns, schema))


def measure(quick: bool) -> list[Row]:
    """A small table and a large one."""
    if sys.platform == "win32":
        raise Skipped("no getrusage")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Skipped("no pyarrow") from None
    small, large = (2_000, 4_000) if quick else (100_000, 10_000_000)
    little, (much, *seconds) = in_process(round_trip, small)[0], in_process(round_trip, large)
    rates = ", ".join(f"{large / max(s, 1e-9):,.0f}" for s in seconds)
    return [
        Row(f"resident memory at {large:,} rows", f"< {TARGET} MB", f"{much:.0f} MB", much < TARGET),
        Row(f"  of which more than at {small:,}", "", f"{much - little:+.0f} MB", None),
        Row("  rows/s: check, make, answer, merge", "", rates, None),
    ]
