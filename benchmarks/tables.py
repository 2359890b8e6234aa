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


def round_trip(count: int, own_ids: bool) -> list[list[float]]:
    """Of checking, making the job, answering and merging: most resident memory so far in MB, and seconds."""
    from batch.export.tables import merge_file
    from batch.sources import validate
    from batch.sources.rows import TableSource

    with workspace() as processor:
        folder = Path(processor.checkpoint_dir)
        write(folder / "table.parquet", count)
        per_row = {"id": "id"} if own_ids else {}
        source = TableSource(folder / "table.parquet", template=TEMPLATE, per_row=per_row)
        stages = [_now()]
        report = validate(source)
        assert (report.total, report.duplicates, report.duplicate_ids, report.not_compared) == (count, 0, 0, None)
        stages.append(_now())
        job = processor.create_job("m", source, config={"table": source.kept()})
        stages.append(_now())
        Run(job, InstantEngine(), RunOptions(workers=64)).execute()
        stages.append(_now())
        assert merge_file(job, folder / "merged.parquet") == count
        stages.append(_now())
    return [[peak, now - before] for (_, before), (peak, now) in pairwise(stages)]


def _now() -> tuple[float, float]:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return peak, time.monotonic()


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
    """A small table and a large one, whose rows have ids of their own: more is to be looked at and kept."""
    if sys.platform == "win32":
        raise Skipped("no getrusage")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Skipped("no pyarrow") from None
    small, large = (2_000, 4_000) if quick else (100_000, 10_000_000)
    little, much = in_process(round_trip, small, True)[-1][0], in_process(round_trip, large, True)
    most = much[-1][0]
    peaks = ", ".join(f"{peak:.0f}" for peak, _ in much)
    rates = ", ".join(f"{large / max(seconds, 1e-9):,.0f}" for _, seconds in much)
    return [
        Row(f"resident memory at {large:,} rows", f"< {TARGET} MB", f"{most:.0f} MB", most < TARGET),
        Row(f"  of which more than at {small:,}", "", f"{most - little:+.0f} MB", None),
        Row("  MB after check, make, answer, merge", "", peaks, None),
        Row("  rows/s: check, make, answer, merge", "", rates, None),
    ]
