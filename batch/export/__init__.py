"""A job and its results -> a file: JSON, CSV, JSONL, OpenAI batch output, a page of HTML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from batch.errors import ExportError
from batch.export.atomic import atomic_file, explained, is_checkpoint
from batch.export.formats import CSV_COLUMNS, FORMATS, ExportOptions, Format, find_format
from batch.export.lines import JsonlWriter
from batch.job import BatchJob, BatchResult

__all__ = [
    "CSV_COLUMNS",
    "FORMATS",
    "ExportOptions",
    "Format",
    "JsonlWriter",
    "atomic_file",
    "default_output",
    "export",
    "export_beside",
    "find_format",
    "is_checkpoint",
]

STDOUT = "-"
_CHUNK = 1 << 16  # characters put together before a write


def export(
    job: BatchJob,
    results: Iterable[BatchResult],
    output: Path | str,
    format: str = "json",  # noqa: A002 - the reference's name
    *,
    clip: int | None = None,
    inert_csv: bool = True,
    forbidden: Iterable[Path] = (),
    new: bool = False,
) -> int:
    """Write results, in the order they come, to a file or to standard output ("-"); returns how many there were.

    The file appears whole or not at all. `clip` shortens the texts of a CSV to so many characters; `inert_csv` puts
    an apostrophe before cells that a spreadsheet would take for a formula. On a terminal what it would obey is shown
    instead. `forbidden` are files never to replace, beside any checkpoint; `new`: no file is, and FileExistsError says
    that there is one. Raises ValueError for an unknown format, ExportError for what cannot be written.
    """
    chosen = find_format(format)
    if chosen.kind and (job.kind != chosen.kind or job.checkpoint_file is None):
        raise ExportError(f"Job {job.job_id} {chosen.lacks}; choose jsonl")
    if clip is not None and clip < 1:
        raise ValueError(f"clip: {clip} is below the least allowed, 1")
    kept = [path for path in (*forbidden, job.checkpoint_file) if path is not None]
    to_stdout = str(output) == STDOUT
    rows = -2  # the first and the last piece are no rows
    with (
        explained("standard output" if to_stdout else output),
        nullcontext(sys.stdout.buffer) if to_stdout else atomic_file(Path(output), forbidden=kept, new=new) as file,
    ):
        shown = chosen.inert if file.isatty() else None  # "-", /dev/stdout or /dev/tty: a terminal obeys what it gets
        pending: list[str] = []
        size = 0
        for piece in chosen.pieces(job, results, ExportOptions(clip, inert_csv)):
            rows += 1
            pending.append(shown(piece) if shown else piece)
            size += len(piece)
            if size >= _CHUNK:
                file.write("".join(pending).encode("utf-8"))
                pending.clear()
                size = 0
        file.write("".join(pending).encode("utf-8"))
        file.flush()
    return rows


def export_beside(
    job: BatchJob,
    results: Callable[[], Iterable[BatchResult]],
    format: str,  # noqa: A002
    outputs_dir: Path,
    *,
    clip: int | None = None,
    inert_csv: bool = True,
) -> tuple[Path, int]:
    """`export` under the default name; the file and how many results it holds.

    Where another process took the name in the meantime, `results` are read again for the next one.
    """
    while True:
        path = default_output(job, format, outputs_dir)
        try:
            return path, export(job, results(), path, format, clip=clip, inert_csv=inert_csv, new=True)
        except FileExistsError:
            continue


def default_output(job: BatchJob, format: str, outputs_dir: Path) -> Path:  # noqa: A002
    """outputs/batch_ID.json, or batch_ID-2.json, -3, … where there is such a file: an export never hides another."""
    suffix = find_format(format).suffix
    number = 1
    while True:
        name = f"batch_{job.job_id}" + (f"-{number}" if number > 1 else "")
        path = outputs_dir / f"{name}{suffix}"
        if not path.exists() and not path.is_symlink() and path != job.checkpoint_file:
            return path
        number += 1
