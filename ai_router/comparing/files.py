"""A comparison as files: JSON with every row, and Markdown. Of many rows one at a time is held."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from ai_router.comparing.answers import Compared, Row, compared
from ai_router.comparing.forms import figures_document, markdown, row_document
from ai_router.longjson import beginning, ending, entry
from batch.export.atomic import atomic_file, explained


def write_comparison(
    folder: Path,
    rows: Iterable[Row],
    models: Sequence[str],
    jobs: Sequence[str] = (),
    *,
    title: str = "",
    keep: int = 10,
    same_too: bool = False,
) -> list[Path]:
    """Both files, named after this moment; returns where they are. The figures are those of the rows written.

    The Markdown has the first `keep` rows whose answers differ; with `same_too`, those that say the same as well.
    """
    stem = f"comparison-{datetime.now():%Y%m%d-%H%M%S}"
    table, page = folder / f"{stem}.json", folder / f"{stem}.md"
    with explained(table):
        folder.mkdir(parents=True, exist_ok=True)
        # The figures stand first, and are known last. Not in the system's folder, which may be memory.
        spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - only this may be the folder's fault
    with spool:
        made = compared(_kept_in(spool, rows), models, jobs, keep=keep, same_too=same_too)
        _write_table(table, made, spool)
    with atomic_file(page) as file:
        file.write(_bytes(markdown(made, made.rows, title)))
    return [table, page]


def _kept_in(spool: BinaryIO, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, each written as an entry of the list on its way."""
    for number, row in enumerate(rows):
        spool.write(_bytes(entry(row_document(row), first=not number)))
        yield row


def _write_table(path: Path, made: Compared, spool: BinaryIO) -> None:
    spool.seek(0)
    with atomic_file(path) as file:
        file.write(_bytes(beginning(figures_document(made), "rows")))
        shutil.copyfileobj(spool, file)
        file.write(_bytes(ending(empty=not made.items) + "\n"))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
