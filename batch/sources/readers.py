"""One function a format: an open file -> entries, lazily, with a tally of what was passed over."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple, TextIO

from batch.errors import SourceError
from batch.items import Request
from batch.sources.entries import request_of
from batch.sources.openai import MalformedEntry
from batch.sources.text import replace_surrogates, replace_surrogates_in

_SHOWN_COLUMNS = 20
_DELIMITERS = (",", ";", "\t")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}
_SEPARATOR = re.compile(r'"?sep=(\\t|[^"])"?', re.IGNORECASE)  # what Excel writes and reads before the header


class Entry(NamedTuple):
    """One entry of a source. `position` counts lines (items, in JSON) from 1; `error` says why there is no request."""

    position: int
    request: Request | None
    error: str | None = None


@dataclass(slots=True)
class Tally:
    """What one pass over a source passed over or changed."""

    blank: int = 0
    comments: int = 0
    replaced_characters: int = 0
    without_text: int = 0  # rows of a table that give no prompt, which are not sent
    skipped_empty: int = 0
    skipped_malformed: int = 0
    taken_whole: bool = False  # a JSON document that is no list of prompts became one prompt


class Reader(NamedTuple):
    """How to read a format. `newline` is what open() takes; the function gets the file, the tally and a column."""

    read: Callable[[TextIO, Tally, str | None], Iterator[Entry]]
    newline: str | None
    unit: str  # what a position counts


def read_txt(file: TextIO, tally: Tally, column: str | None = None) -> Iterator[Entry]:
    """One prompt a line, stripped; blank lines and lines that begin with # are passed over."""
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text:
            tally.blank += 1
        elif text[0] == "#":
            tally.comments += 1
        else:
            yield Entry(number, Request(text))


def read_jsonl(file: TextIO, tally: Tally, column: str | None = None) -> Iterator[Entry]:
    """One JSON value a line; blank lines are passed over."""
    for number, line in enumerate(file, 1):
        if line.isspace():
            tally.blank += 1
            continue
        try:
            request = request_of(json.loads(line), column)
        except json.JSONDecodeError as error:
            yield Entry(number, None, f"{error.msg} (column {error.colno})")
        except MalformedEntry as error:
            yield Entry(number, None, str(error))
        except (ValueError, RecursionError) as error:  # digits without end, brackets without end
            yield Entry(number, None, _too_much(error))
        else:
            yield Entry(number, clean(request, tally) if "\\u" in line else request)


def read_json(file: TextIO, tally: Tally, column: str | None = None) -> Iterator[Entry]:
    """A list, or an object whose `prompts` is one; any other document is one prompt, as Python writes it."""
    text = file.read()
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        hint = ""
        if error.msg == "Extra data" and error.lineno > 1:
            hint = " (one JSON value a line is the format jsonl)"
        raise SourceError(f"line {error.lineno}, column {error.colno}: {error.msg}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(_too_much(error)) from None
    may_hold_surrogates = "\\u" in text
    del text
    if isinstance(data, dict) and "prompts" in data:
        data = data["prompts"]
        if not isinstance(data, list):
            raise SourceError(f'"prompts" is {type(data).__name__}, not a list')
    if not isinstance(data, list):
        tally.taken_whole = not isinstance(data, str)
        data = [str(data)]
    for number, value in enumerate(data, 1):
        try:
            request = request_of(value, column)
        except MalformedEntry as error:
            yield Entry(number, None, str(error))
        else:
            yield Entry(number, clean(request, tally) if may_hold_surrogates else request)


def read_csv(file: TextIO, tally: Tally, column: str | None = None, delimiter: str | None = None) -> Iterator[Entry]:
    """A table with a header; the prompt is in the column `prompt` or in `column`, the others are kept beside it.

    Commas, or semicolons or tabs where the header has the column only with those, or what Excel's first line `sep=;`
    says.
    """
    wanted = column or "prompt"
    sheet = CsvTable(file, delimiter, wanted)
    place = _place(sheet.names, wanted)
    for number, row, error in sheet:
        if row is None:
            yield Entry(number, None, error)
        elif not row:
            tally.blank += 1
        elif len(row) <= place:
            yield Entry(number, None, f"{len(row)} fields where the header has {len(sheet.names)}")
        else:
            columns = {name: cell for i, (name, cell) in enumerate(zip(sheet.names, row, strict=False)) if i != place}
            yield Entry(number, Request(row[place], columns=columns or None))


def read_tsv(file: TextIO, tally: Tally, column: str | None = None) -> Iterator[Entry]:
    """The same between tabs."""
    return read_csv(file, tally, column, "\t")


class CsvTable:
    """A CSV file's header and, when iterated, its rows with their lines; a row is [] where the line is blank.

    `delimiter` None: what the line `sep=` says, else the first that finds the column `wanted` in the header; a comma,
    or what the header has most of, where none does. A row that cannot be read, or is longer than the header, is None
    and an error. Raises SourceError for the header.
    """

    def __init__(self, file: TextIO, delimiter: str | None = None, wanted: str | None = None) -> None:
        _allow_long_cells()
        first = file.readline()
        self._before = 0  # lines that csv does not count
        if said := _SEPARATOR.fullmatch(first.strip("\r\n")):
            self._before, delimiter = 1, said[1].replace("\\t", "\t")
            first = file.readline()
        delimiter = delimiter or (_delimiter(first, wanted) if wanted else max(_DELIMITERS, key=first.count))
        self._rows = csv.reader(chain([first], file), delimiter=delimiter, strict=True)
        self.delimiter = delimiter
        try:
            self.names = _unique([name.strip() for name in next(self._rows, [])])
        except csv.Error as error:
            raise SourceError(f"line {self._before + 1}: {_csv_problem(str(error))}") from None

    def __iter__(self) -> Iterator[tuple[int, list[str] | None, str | None]]:
        width = len(self.names)
        while True:
            number = self._before + self._rows.line_num + 1
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, None, _csv_problem(str(error))
                continue
            if len(row) > width:
                hint = f"a text with a {_NAMES[self.delimiter]} needs quotes" if self.delimiter in _NAMES else "quotes?"
                yield number, None, f"{len(row)} fields where the header has {width} ({hint})"
            else:
                yield number, [] if row == [""] else row, None


def read_list(prompts: Sequence[str], tally: Tally) -> Iterator[Entry]:
    """Prompts that are in memory already."""
    for number, text in enumerate(prompts, 1):
        yield Entry(number, clean(Request(text), tally))


READERS = {
    "txt": Reader(read_txt, None, "line"),
    "json": Reader(read_json, None, "item"),
    "jsonl": Reader(read_jsonl, "\n", "line"),
    "csv": Reader(read_csv, "", "line"),
    "tsv": Reader(read_tsv, "", "line"),
}


def clean(request: Request, tally: Tally) -> Request:
    """The request with lone surrogates as U+FFFD, counted: neither a file nor a database could hold them."""
    text, replaced = replace_surrogates(request.text)
    extra, more = replace_surrogates_in(request.extra) if request.extra else (request.extra, 0)
    columns, beside = replace_surrogates_in(request.columns) if request.columns else (request.columns, 0)
    model = replace_surrogates(request.model)[0] if request.model else request.model
    if not replaced + more + beside:
        return request
    # A chat's text is also in its messages; what was replaced is counted once.
    tally.replaced_characters += beside + (more if extra and "messages" in extra else replaced + more)
    return replace(request, text=text, extra=extra, columns=columns, model=model)


def _too_much(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else f"not usable JSON: {error}"


def _allow_long_cells() -> None:
    # The module's limit of 131,072 characters is one setting for the whole process, so it is only ever raised;
    # a C long is 32 bits on Windows.
    wanted = min(sys.maxsize, 2**31 - 1)
    if csv.field_size_limit() < wanted:
        csv.field_size_limit(wanted)


def _csv_problem(text: str) -> str:
    if text == "unexpected end of data":
        return "a quote is opened here and never closed"
    return text


def _delimiter(first: str, wanted: str) -> str:
    """The first delimiter that finds the column in the header's first line; a comma where none does."""
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"').strip() for name in first.split(delimiter)]
        if wanted in names or wanted.casefold() in (name.casefold() for name in names):
            return delimiter
    return _DELIMITERS[0]


def _place(names: list[str], wanted: str) -> int:
    if wanted in names:
        return names.index(wanted)
    folded = [name.casefold() for name in names]
    if wanted.casefold() in folded:
        return folded.index(wanted.casefold())
    shown = ", ".join(names[:_SHOWN_COLUMNS]) + (", …" if len(names) > _SHOWN_COLUMNS else "")
    raise SourceError(f'there is no column "{wanted}"; the columns are: {shown}{_hint(wanted, names)}')


def _hint(wanted: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, names, 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _unique(names: list[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        new, count = name, 2
        while new in unique:
            new, count = f"{name}_{count}", count + 1
        unique.append(new)
    return unique
