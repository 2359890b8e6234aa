"""Answers merged into the rows of the table they came from, by the row's number: a new table, the old one untouched.

Files are merged in one pass over both, a batch of rows at a time; Parquet to Parquet keeps types, metadata and codec.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from batch.checkpoint import CheckpointStore
from batch.errors import ExportError
from batch.export.answers import NUMBER, TEXT, TRUTH, WHOLE, AnswerColumns, Column, MergeNames
from batch.export.atomic import atomic_file
from batch.export.formats import guarded
from batch.job import BatchJob, BatchResult
from batch.sources.rows import ROW, TableSource
from batch.sources.tables import (
    ArrowFile,
    CsvFile,
    Frame,
    Row,
    Table,
    cell_text,
    fingerprint,
    open_table,
    plain,
    pyarrow,
)

GROUP = 65_536  # rows of a row group, or
GROUP_BYTES = 64 << 20  # as many as are this large
_PAGE = 512
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def table_format(path: Path | str) -> str:
    """The kind of table that a file's name says. Raises ExportError."""
    form = _SUFFIXES.get(Path(path).suffix.lower())
    if form is None:
        raise ExportError(f"{path} does not say which table to write; use .parquet, .arrow, .csv, .tsv or .jsonl")
    return form


def merge_file(
    job: BatchJob,
    output: Path | str,
    *,
    names: MergeNames | None = None,
    table: Any = None,
    inert_csv: bool = True,
) -> int:
    """Write the job's table with its answers as new columns; the name says the format. Returns the rows with an answer.

    The table is the one that the job was made from, or `table`, a path or a frame; one that has changed since is
    refused. `inert_csv` as in `export`, for the new cells. Raises ExportError, and SourceError for the table.
    """
    path = Path(output)
    form = table_format(path)
    assert job.checkpoint_file is not None
    source = merged_source(job, table)
    columns = _answer_columns(job, names, source)
    kept = [p for p in (job.checkpoint_file, source.table.path) if p is not None]
    with CheckpointStore(job.checkpoint_file, "snapshot") as store, atomic_file(path, forbidden=kept) as file:
        merger = _Merger(store, columns, source if source.table.path is None else None)
        writer = _arrow_writer if form in ("parquet", "arrow") else _text_writer
        with writer(file, form, source.table, columns.columns, inert_csv) as write:
            write(merger)
        return merger.answered


def merge_frame(job: BatchJob, frame: Any, *, names: MergeNames | None = None) -> Any:
    """A new frame of the same library with the answers as new columns: rows, index and types as they were.

    Of a frame that is neither pandas' nor polars' it is an Arrow table. Every row's prompt must be the one that was
    asked. Raises ExportError.
    """
    assert job.checkpoint_file is not None
    source = merged_source(job, frame)
    columns = _answer_columns(job, names, source)
    values: list[list[Any]] = [[] for _ in columns.columns]
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        merger = _Merger(store, columns, source)
        for batch in source.table.batches():
            for row_cells in merger.cells(batch):
                for column, cell in zip(values, row_cells, strict=True):
                    column.append(cell)
        merger.finish()
    return _with_columns(source.table.frame if isinstance(source.table, Frame) else frame, columns.columns, values)


def _answer_columns(job: BatchJob, names: MergeNames | None, source: TableSource) -> AnswerColumns:
    schema = job.config.get("sampling", {}).get("json_schema")
    return AnswerColumns(schema, job.asked_model or job.model_id, names or MergeNames(), source.table.columns)


def merged_source(job: BatchJob, table: Any = None) -> TableSource:
    """The table that a job's rows came from, as they became prompts. Raises ExportError where it is not the same."""
    kept = job.config.get("table")
    if not isinstance(kept, dict):
        raise ExportError(f"Job {job.job_id} was not run over a table's rows, so its answers have no rows to go to")
    given = table if table is not None else kept.get("path")
    if given is None:
        raise ExportError(f"Job {job.job_id} was run over a frame in memory; give it to merge_frame")
    form = kept.get("format") if isinstance(given, str | Path) and table is None else None
    try:
        found = open_table(given, format=form)
    except FileNotFoundError:
        raise ExportError(f"The table of job {job.job_id} is gone: {given}") from None
    if found.path is not None and "blake2b" in kept:
        now = fingerprint(found.path)
        if any(now[key] != kept.get(key) for key in now):
            raise ExportError(f"{found.name} is not as it was when job {job.job_id} was made; its rows may be others")
    elif "columns" in kept and set(kept["columns"]) - set(found.columns):
        missing = ", ".join(sorted(set(kept["columns"]) - set(found.columns)))
        raise ExportError(f"The table lacks columns that job {job.job_id} was made with: {missing}")
    return TableSource(found, template=kept.get("template"), column=kept.get("column"), per_row=kept.get("per_row"))


class _Merger:
    """Walks a table and a job's answers together; both are in the order of the rows.

    With `check` each row's prompt is made again and must be the one that was asked.
    """

    def __init__(self, store: CheckpointStore, columns: AnswerColumns, check: TableSource | None) -> None:
        self.answered = 0
        self._columns = columns
        self._check = check
        self._items = _items(store)
        self._next = next(self._items, None)
        self._row = 0

    def cells(self, batch: Sequence[Row]) -> Iterator[list[Any]]:
        """The new values of the next rows."""
        for row in batch:
            yield self._cells(row)

    def lists(self, batch: Sequence[Row] | int) -> list[list[Any]]:
        """The same by column; of rows that need not be looked at, their number is enough."""
        rows: Sequence[Row] = [{}] * batch if isinstance(batch, int) else batch
        found = [self._cells(row) for row in rows]
        return [[cells[at] for cells in found] for at in range(len(self._columns.columns))]

    def finish(self) -> None:
        """The table is at its end; so must the answers be."""
        if self._next is not None:
            raise ExportError(f"The table ends at row {self._row:,}, and there are answers to later ones")

    def _cells(self, row: Row) -> list[Any]:
        number, self._row = self._row, self._row + 1
        if self._next is None or self._next[0] != number:
            if self._check is not None and self._check.text_of(row) is not None:
                raise ExportError(f"Row {number + 1:,} has a text now and had none when the job was made")
            return self._columns.cells(None)
        _, prompt, result = self._next
        if self._check is not None and self._check.text_of(row) != prompt:
            raise ExportError(f"Row {number + 1:,} is not the one that was asked; the table is another or was changed")
        self._next = next(self._items, None)
        if result is None:
            return self._columns.cells(None, pending=True)
        self.answered += bool(result.success)
        return self._columns.cells(result)


def _items(store: CheckpointStore) -> Iterator[tuple[int, str, BatchResult | None]]:
    """Row, prompt and result of every item, in order."""
    start, before = 0, -1
    while page := store.results(start=start, limit=_PAGE):
        start = page[-1].prompt_index + 1
        asked = dict(store.requests([result.prompt_index for result in page]))
        for result in page:
            request = asked[result.prompt_index]
            row = (request.extra or {}).get(ROW)
            if not isinstance(row, int) or row <= before:
                raise ExportError(f"Prompt {result.prompt_index} of this job does not say which row it came from")
            before = row
            yield row, request.text, result if result.attempts else None


# -- what comes out ---------------------------------------------------------------------------------------------------


@contextmanager
def _text_writer(
    file: BinaryIO, form: str, table: Table, columns: Sequence[Column], inert: bool
) -> Iterator[Callable[[_Merger], None]]:
    names = [column.name for column in columns]
    if form == "jsonl":

        def line(row: Row, new: Sequence[Any]) -> str:
            values = row if table.format == "jsonl" else {name: plain(value) for name, value in row.items()}
            return json.dumps({**values, **dict(zip(names, new, strict=True))}, ensure_ascii=False) + "\n"

        head = ""
    else:
        delimiter = "\t" if form == "tsv" else ","
        if form == table.format and isinstance(table, CsvFile):
            delimiter = table.delimiter
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter=delimiter)

        def record(cells: Sequence[str]) -> str:
            buffer.seek(0)
            buffer.truncate()
            writer.writerow(cells)
            return buffer.getvalue()

        def line(row: Row, new: Sequence[Any]) -> str:
            shown = [guarded(text) if inert else text for text in map(cell_text, new)]
            return record([cell_text(row.get(name)) for name in table.columns] + shown)

        head = record([*table.columns, *names])

    def write(merger: _Merger) -> None:
        file.write(head.encode("utf-8"))
        for batch in table.batches():
            rows = zip(batch, merger.cells(batch), strict=True)
            file.write("".join(line(row, new) for row, new in rows).encode("utf-8", "replace"))
        merger.finish()

    yield write


@contextmanager
def _arrow_writer(
    file: BinaryIO, form: str, table: Table, columns: Sequence[Column], inert: bool
) -> Iterator[Callable[[_Merger], None]]:
    pa = pyarrow("writing Parquet and Arrow")
    types = {TEXT: pa.string(), WHOLE: pa.int64(), NUMBER: pa.float64(), TRUTH: pa.bool_()}
    old = table.schema if isinstance(table, ArrowFile) else _schema_of(pa, table)
    schema = old
    for column in columns:
        schema = schema.append(pa.field(column.name, types[column.kind]))

    def write(merger: _Merger) -> None:
        with closing(_opened(pa, file, form, table, schema)) as sink:
            waiting: list[Any] = []
            count = size = 0
            for batch in _record_batches(pa, table, old):
                # Rows that are read again only where their prompts are to be checked.
                new = merger.lists(batch.to_pylist() if table.path is None else batch.num_rows)
                arrays = [pa.array(v, types[c.kind]) for c, v in zip(columns, new, strict=True)]
                waiting.append(pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=schema))
                count += batch.num_rows
                size += waiting[-1].nbytes
                if count >= GROUP or size >= GROUP_BYTES:
                    sink.write_table(pa.Table.from_batches(waiting, schema))
                    waiting, count, size = [], 0, 0
            merger.finish()
            if waiting:
                sink.write_table(pa.Table.from_batches(waiting, schema))

    try:
        yield write
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ExportError(f"The table cannot be written as {form}: {' '.join(str(error).split())[:200]}") from None


def _opened(pa: Any, file: BinaryIO, form: str, table: Table, schema: Any) -> Any:
    if form == "arrow":
        return pa.ipc.new_file(file, schema)
    import pyarrow.parquet as pq

    codec = "snappy"
    if table.format == "parquet":
        groups = pq.read_metadata(table.path)
        if groups.num_row_groups and groups.num_columns:
            codec = groups.row_group(0).column(0).compression.lower()
    return pq.ParquetWriter(file, schema, compression="none" if codec == "uncompressed" else codec)


def _record_batches(pa: Any, table: Table, schema: Any) -> Iterator[Any]:
    if isinstance(table, ArrowFile):
        yield from table.arrow_batches()
        return
    for rows in table.batches():
        yield pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=schema)


def _schema_of(pa: Any, table: Table) -> Any:
    """The types of a table that has none: CSV is text; JSON and frames are looked at, all of them, once."""
    if isinstance(table, CsvFile):
        return pa.schema([(name, pa.string()) for name in table.columns])
    schema = pa.schema([])
    for rows in table.batches():
        found = pa.RecordBatch.from_pylist([dict(row) for row in rows]).schema
        schema = pa.unify_schemas([schema, found], promote_options="permissive")
    return pa.schema([field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema])


def _with_columns(frame: Any, columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> Any:
    """The frame with columns added, in its own library."""
    library = type(frame).__module__.partition(".")[0]
    if library == "pandas":
        import pandas as pd

        types = {TEXT: "string", WHOLE: "Int64", NUMBER: "Float64", TRUTH: "boolean"}
        new = {c.name: pd.array(list(v), dtype=types[c.kind]) for c, v in zip(columns, values, strict=True)}
        added = pd.DataFrame(new, index=frame.index)
        merged = frame.copy(deep=False)
        for name in added.columns:
            merged[name] = added[name].array
        return merged
    if library == "polars":
        import polars as pl

        kinds = {TEXT: pl.String, WHOLE: pl.Int64, NUMBER: pl.Float64, TRUTH: pl.Boolean}
        return frame.with_columns(
            [pl.Series(c.name, v, dtype=kinds[c.kind]) for c, v in zip(columns, values, strict=True)]
        )
    pa = pyarrow("merging into this frame")
    arrow = {TEXT: pa.string(), WHOLE: pa.int64(), NUMBER: pa.float64(), TRUTH: pa.bool_()}
    for column, cells in zip(columns, values, strict=True):
        frame = frame.append_column(column.name, pa.array(cells, arrow[column.kind]))
    return frame
