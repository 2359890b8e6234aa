"""Tables: files of rows and data frames, read in batches from the beginning as often as wanted, never all at once.

CSV cells are texts as they stand there. Parquet, Arrow and frames keep their types; pyarrow is imported where used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from batch.errors import SourceError
from batch.items import Request
from batch.sources.readers import CsvTable, Entry, Tally, clean
from batch.sources.source import TABLES, open_source
from batch.sources.text import GZIP_ERRORS, damaged_gzip, is_packed, open_text

ROWS = 1024  # read at once
_LOOKED_AT = 1000  # rows of JSON lines whose keys are taken for the table's columns
_SHOWN = 20
_CHUNK = 1 << 20

Row = Mapping[str, Any]


class Table:
    """Rows with named columns. `path` is the file, None for what is in memory."""

    name: str
    format: str
    columns: tuple[str, ...]
    path: Path | None = None

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows in order, some at a time. Raises SourceError where the table is damaged."""
        raise NotImplementedError

    def rows(self) -> Iterator[Row]:
        """All rows in order."""
        for batch in self.batches():
            yield from batch

    def kept(self) -> dict[str, Any]:
        """What a job keeps of its table, JSON: a later process finds it by that and sees whether it is the same."""
        if self.path is None:
            return {"columns": list(self.columns)}
        return {"path": str(self.path.absolute()), "format": self.format, **fingerprint(self.path)}


class CsvFile(Table):
    """CSV or TSV, compressed or not."""

    def __init__(self, name: str, path: Path, format: str) -> None:  # noqa: A002 - the field's usual word
        self.name, self.path, self.format = name, path, format
        with self._sheet() as sheet:
            self.columns = tuple(sheet.names)
            self.delimiter = sheet.delimiter

    @contextmanager
    def _sheet(self) -> Iterator[CsvTable]:
        assert self.path is not None
        with _explained(self.name), open_text(self.path, "") as file:
            yield CsvTable(file, "\t" if self.format == "tsv" else None)

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows in order; a row that is too short ends in empty cells."""
        with self._sheet() as sheet:
            lines = self._cells(sheet)
            while found := list(islice(lines, ROWS)):
                yield found

    def _cells(self, sheet: CsvTable) -> Iterator[Row]:
        missing = [""] * len(sheet.names)
        for number, row, error in sheet:
            if row is None:
                raise SourceError(f"line {number}: {error}")
            if row:
                yield dict(zip(sheet.names, row + missing[len(row) :], strict=True))


class JsonLines(Table):
    """One JSON object a line; the columns are the keys of the first rows, in the order they come up in."""

    format = "jsonl"

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.columns = tuple(dict.fromkeys(key for row in islice(self.rows(), _LOOKED_AT) for key in row))

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows in order."""
        assert self.path is not None
        with _explained(self.name), open_text(self.path, "\n") as file:
            lines = (_object(number, line) for number, line in enumerate(file, 1) if not line.isspace())
            while found := list(islice(lines, ROWS)):
                yield found


class ArrowFile(Table):
    """Parquet or Arrow IPC, by row groups or record batches."""

    def __init__(self, name: str, path: Path, format: str) -> None:  # noqa: A002 - the field's usual word
        self.name, self.path, self.format = name, path, format
        if is_packed(path):
            raise SourceError(f"{name} is {format} inside gzip; unpack it first: gunzip")
        with _explained(name), self._open() as (schema, _):
            self.schema = schema
        self.columns = _named(name, schema.names)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        pa = pyarrow(self.format)
        if self.format == "parquet":
            import pyarrow.parquet as pq

            # Not buffered ahead: a row group may be as large as the file.
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                yield file.schema_arrow, file.iter_batches(batch_size=ROWS)
            return
        with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source) as file:
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
            yield file.schema, (b.slice(at, ROWS) for b in batches for at in range(0, b.num_rows, ROWS))

    def arrow_batches(self) -> Iterator[Any]:
        """All rows in order as record batches."""
        with _explained(self.name), self._open() as (_, batches):
            yield from batches

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows in order."""
        with _explained(self.name):
            for batch in self.arrow_batches():
                yield batch.to_pylist()


class Frame(Table):
    """A frame of pandas, polars or pyarrow, or anything that gives Arrow or the dataframe protocol. Never changed."""

    format = "frame"

    def __init__(self, frame: Any, name: str = "table") -> None:
        self.name = name
        self.frame, self._read, names = _reader(frame)
        self.columns = _named(name, names)

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows in order."""
        return self._read()


def open_table(table: Any, *, format: str | None = None) -> Table:  # noqa: A002 - the field's usual word
    """A file by its path, or a frame. Raises FileNotFoundError, and SourceError for what is no table."""
    if isinstance(table, Table):
        return table
    if not isinstance(table, str | os.PathLike):
        return Frame(table)
    source = open_source(table, format=format)  # what it says of missing and foreign files holds here too
    if source.path is None:
        raise SourceError(f"{source.name} can be read only once; save it as a file, so that answers find their rows")
    if source.format in TABLES:
        return ArrowFile(source.name, source.path, source.format)
    if source.format in ("csv", "tsv"):
        return CsvFile(source.name, source.path, source.format)
    if source.format == "jsonl":
        return JsonLines(source.name, source.path)
    raise SourceError(f"{source.name} is no table; use CSV, TSV, JSON lines, Parquet or Arrow")


def column_entries(
    name: str,
    path: Path,
    format: str,  # noqa: A002
    tally: Tally,
    column: str | None,
) -> Iterator[Entry]:
    """A table's rows as entries: the prompt is in the column `prompt` or in `column`, the others are kept beside it."""
    table = ArrowFile(name, path, format)
    wanted = find_column(table.columns, column or "prompt")
    for number, row in enumerate(table.rows(), 1):
        columns = {name: plain(value) for name, value in row.items() if name != wanted}
        yield Entry(number, clean(Request(cell_text(row[wanted]), columns=columns or None), tally))


def find_column(columns: Sequence[str], wanted: str) -> str:
    """A column by its name, upper or lower case. Raises SourceError that names the nearest."""
    if wanted in columns:
        return wanted
    if folded := [name for name in columns if name.casefold() == wanted.casefold()]:
        return folded[0]
    raise SourceError(f'there is no column "{wanted}"; {the_columns(columns, wanted)}')


def the_columns(columns: Sequence[str], wanted: str) -> str:
    """Half a sentence that says which columns there are, and which one may be meant."""
    import difflib

    near = difflib.get_close_matches(wanted, columns, 1) or [c for c in columns if c.casefold() == wanted.casefold()]
    shown = ", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")
    return f"the columns are: {shown}" + (f' (did you mean "{near[0]}"?)' if near else "")


def plain(value: Any) -> Any:
    """A cell as JSON has it: times in ISO 8601, decimals and bytes as text; a number that is none is null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def cell_text(value: Any) -> str:
    """A cell as the text of a prompt; nothing for a missing one."""
    if value is None:
        return ""
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fingerprint(path: Path) -> dict[str, Any]:
    """The file's size and a hash of all its bytes."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    with _explained(str(path)), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "blake2b": digest.hexdigest()}


def pyarrow(what: str) -> Any:
    """pyarrow, where it is installed. Raises SourceError."""
    try:
        import pyarrow as pa
    except ImportError:
        raise SourceError(f'{what} needs pyarrow: pip install "ai-router[tables]"') from None
    return pa


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"line {number}: not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"line {number}: not an object, as the rows of a table are")
    return value


def _named(name: str, names: Sequence[str]) -> tuple[str, ...]:
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise SourceError(f"{name} has two columns called {twice[0]}")
    if not names:
        raise SourceError(f"{name} has no columns")
    return tuple(names)


_Read = Callable[[], Iterator[Sequence[Row]]]


def _reader(frame: Any) -> tuple[Any, _Read, list[str]]:
    """The frame, how its rows are read, and its columns; without pyarrow where the library has a way of its own."""
    library = type(frame).__module__.partition(".")[0]
    if library == "pandas" and hasattr(frame, "iloc"):
        return frame, lambda: _pandas_rows(frame), [str(name) for name in frame.columns]
    if hasattr(frame, "collect") and not hasattr(frame, "iter_rows"):
        raise SourceError("a lazy frame has no rows yet; give frame.collect()")
    if library == "polars" and hasattr(frame, "iter_slices"):
        return frame, lambda: (part.to_dicts() for part in frame.iter_slices(ROWS)), list(frame.columns)
    pa = pyarrow("a frame that is neither pandas' nor polars'")
    if hasattr(frame, "read_all"):  # a stream, which can be read only once
        frame = frame.read_all()
    if not isinstance(frame, pa.Table):
        frame = _as_arrow(pa, frame)
    return frame, lambda: (batch.to_pylist() for batch in frame.to_batches(max_chunksize=ROWS)), frame.column_names


def _as_arrow(pa: Any, frame: Any) -> Any:
    if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
        return pa.table(frame)
    if hasattr(frame, "__dataframe__"):
        from pyarrow.interchange import from_dataframe

        return from_dataframe(frame)
    raise SourceError(f"{type(frame).__name__} is no table: neither a path nor a data frame")


def _pandas_rows(frame: Any) -> Iterator[Sequence[Row]]:
    names = [str(name) for name in frame.columns]
    for start in range(0, len(frame), ROWS):
        part = frame.iloc[start : start + ROWS]
        # Objects, so that a whole number beside a missing one stays one, and a missing one is None.
        cells = [part.iloc[:, at].astype(object) for at in range(len(names))]
        lists = [cell.where(cell.notna(), None).tolist() for cell in cells]
        yield [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What is wrong with a table's file as one sentence that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 (byte {error.start + 1} of a part of it)") from None
    except SourceError as error:
        if str(error).startswith(name):
            raise
        raise SourceError(f"{name}: {error}") from None
    except GZIP_ERRORS as error:
        raise SourceError(damaged_gzip(name, error)) from None
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {_first(error.strerror or error)}") from None
    except Exception as error:
        if not type(error).__module__.startswith("pyarrow"):
            raise
        raise SourceError(f"{name} is damaged or of another format: {_first(error)}") from None


def _first(error: object) -> str:
    return " ".join(str(error).split())[:200]
