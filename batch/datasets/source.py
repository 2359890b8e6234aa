"""A file of examples with known answers: JSON lines, JSON, CSV or Parquet; read lazily, and again as often as wanted.

A row that is no example is passed over with its line and its reason, and never ends the reading.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from batch.datasets.example import BadRow, Columns, Example, example_of
from batch.datasets.extract import Template
from batch.errors import SourceError
from batch.sources import Entry, Source, Tally, user_path
from batch.sources.readers import CsvTable, clean
from batch.sources.text import GZIP_ERRORS, damaged_gzip, encoding_of, open_bytes, open_text, read_head

FORMATS = ("jsonl", "json", "csv", "parquet")
_SUFFIXES = {".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_LOOKED_AT = 20  # rows at the beginning that say whether a file is a dataset
KEPT_PROBLEMS = 100


class DatasetSource(Source):
    """The examples of a file as requests. `examples` and `requests` agree in order and number.

    Of the latest pass: `schemas` counts the rows of each kind, `skipped` those that were passed over, and `problems`
    has the first of these with line and reason.
    """

    def __init__(
        self,
        name: str,
        format: str,  # noqa: A002 - the field's usual word
        path: Path,
        *,
        encoding: str = "",
        columns: Columns | None = None,
        template: Template | None = None,
    ) -> None:
        super().__init__(name, format, path=path, encoding=encoding, skip_invalid=True)
        self.file = path
        self.columns = columns or Columns()
        self.template = template
        self.schemas: Counter[str] = Counter()
        self.skipped = 0
        self.problems: list[tuple[int, str]] = []

    @property
    def unit(self) -> str:
        """What a position counts."""
        return "line" if self.format in ("jsonl", "csv") else "row"

    @property
    def openai_batch(self) -> bool:
        """Never: its answers have a form of their own."""
        return False

    def rows(self) -> Iterator[tuple[int, object, str | None]]:
        """Every row with its line, or the reason why it cannot be read. Raises SourceError for the whole file."""
        try:
            if self.format == "parquet":
                yield from _parquet_rows(self.file)
            elif self.format == "jsonl":
                with open_bytes(self.file) as binary:
                    yield from _json_lines(binary, self.tally)
            else:
                with open_text(self.file, newline="") as text:
                    yield from _csv_rows(text) if self.format == "csv" else _json_rows(text)
        except GZIP_ERRORS as error:
            raise SourceError(damaged_gzip(self.name, error)) from None
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.name} is not UTF-8 (byte {error.start + 1} of a part of it)") from None
        except SourceError as error:
            raise SourceError(f"{self.name}: {error}") from None
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def examples(self) -> Iterator[tuple[int, Example | None, str]]:
        """Line, and an example or the reason why the row is none."""
        self.tally = Tally()
        self.schemas, self.skipped, self.problems = Counter(), 0, []
        count = 0
        for line, row, problem in self.rows():
            example = None
            if problem is None:
                try:
                    example = example_of(row, line, count + 1, self.columns, self.template)
                except BadRow as error:
                    problem = str(error)
            if example is None:
                self.skipped += 1
                if len(self.problems) < KEPT_PROBLEMS:
                    self.problems.append((line, problem or ""))
            else:
                count += 1
                self.schemas[example.schema] += 1
            yield line, example, problem or ""

    def entries(self) -> Iterator[Entry]:
        """The examples as requests; what is none, with its reason."""
        for line, example, problem in self.examples():
            request = clean(example.request(), self.tally) if example is not None else None
            yield Entry(line, request, None if request is not None else problem)


def open_dataset(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the field's usual word
    columns: Columns | None = None,
    template: Template | None = None,
) -> DatasetSource:
    """The examples of a file; its suffix says which format it has, and one that is not known is read as JSON lines.

    Raises FileNotFoundError, and SourceError for what makes the whole file unusable.
    """
    given = os.fspath(path)
    file = user_path(given)
    if format is not None and format not in FORMATS:
        raise SourceError(f"Unsupported dataset format: {format}; use one of {', '.join(FORMATS)}")
    try:
        if file.is_dir():
            raise SourceError(f"{given} is a folder; name the file in it, such as {file / 'test.jsonl'}")
        if not file.stat().st_size:
            raise SourceError(f"{given} is empty")
        head = read_head(file)
    except GZIP_ERRORS as error:
        raise SourceError(damaged_gzip(given, error)) from None
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise FileNotFoundError(f"Test file not found: {given}") from error
    except OSError as error:
        raise SourceError(f"{given} cannot be read: {error.strerror or error}") from error
    named = file.with_suffix("") if file.suffix.lower() in (".gz", ".gzip") else file
    kind = format or _SUFFIXES.get(named.suffix.lower(), "jsonl")
    encoding = "" if kind == "parquet" else encoding_of(head)
    if encoding and not encoding.startswith("UTF-8"):
        raise SourceError(f"{given} is {encoding}, not UTF-8; convert it with: iconv -f {encoding} -t UTF-8 IN > OUT")
    return DatasetSource(given, kind, file, encoding=encoding, columns=columns, template=template)


def looks_like_dataset(path: str | os.PathLike[str]) -> bool:
    """Whether the first rows of a file hold known answers: most of those that can be read are examples."""
    try:
        source = open_dataset(path)
        if source.format == "json" and source.bytes > 1 << 24:  # one document, which would be read whole
            return False
        looked = list(islice(source.examples(), _LOOKED_AT))
    except (SourceError, OSError):
        return False
    good = sum(example is not None for _, example, _ in looked)
    return good * 2 > len(looked)


def _json_lines(file: BinaryIO, tally: Tally) -> Iterator[tuple[int, object, str | None]]:
    """Line by line as bytes, so that one that is no UTF-8 costs only itself."""
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            tally.blank += 1
            continue
        try:
            yield number, json.loads(line.decode("utf-8")), None
        except UnicodeDecodeError as error:
            yield number, None, f"byte {error.start + 1} is not UTF-8"
        except json.JSONDecodeError as error:
            yield number, None, f"not JSON: {error.msg} (column {error.colno})"
        except (ValueError, RecursionError) as error:  # digits without end, brackets without end
            yield number, None, "nested too deeply" if isinstance(error, RecursionError) else f"not usable: {error}"


def _json_rows(file: TextIO) -> Iterator[tuple[int, object, str | None]]:
    try:
        data = json.load(file)
    except json.JSONDecodeError as error:
        hint = "; one object a line is the format jsonl" if error.msg == "Extra data" and error.lineno > 1 else ""
        raise SourceError(f"line {error.lineno}, column {error.colno}: {error.msg}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not usable JSON: {error}") from None
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        data = lists[0] if len(lists) == 1 else [data]
    if not isinstance(data, list):
        raise SourceError("the JSON is no list of rows")
    for number, row in enumerate(data, 1):
        yield number, row, None


def _csv_rows(file: TextIO) -> Iterator[tuple[int, object, str | None]]:
    """A table with a header, between commas, semicolons, tabs, or what a first line `sep=` says."""
    table = CsvTable(file)
    for number, row, problem in table:
        if row is None:
            yield number, None, problem
        elif not any(cell.strip() for cell in row):
            continue
        elif len(row) < len(table.names):
            yield number, None, f"{len(row)} fields where the header has {len(table.names)}"
        else:
            yield number, dict(zip(table.names, row, strict=True)), None


def _parquet_rows(path: Path) -> Iterator[tuple[int, object, str | None]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise SourceError('reading Parquet needs pyarrow: pip install "ai-router[tables]"') from None
    try:
        number = 0
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _plain(row), None
    except pa.ArrowException as error:
        raise SourceError(f"not a Parquet file that can be read: {' '.join(str(error).split())[:200]}") from None


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}
