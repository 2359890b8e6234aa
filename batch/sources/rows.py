"""Rows of a table as requests: the prompt from a template or a column, options, model and system prompt from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from itertools import islice
from typing import Any

from batch.errors import SourceError
from batch.items import Request
from batch.options import OptionError, SamplingOptions, parse_option
from batch.sources.readers import Entry, Tally, clean
from batch.sources.source import Source
from batch.sources.tables import Row, Table, cell_text, find_column, open_table, the_columns
from batch.sources.templates import PromptTemplate, TemplateError

ROW = "row"  # in a request's `extra`: which row of the table it is, from 0 on
_BESIDE = ("model", "id")  # what a row may say beside sampling options


class TableSource(Source):
    """The rows of a table as requests, lazily. A row without text gives none, and is counted in the tally.

    `template` is the text of a Jinja template over the columns; without one the prompt is in `column`, or in the column
    `prompt`. `per_row` says which column sets what for each row: a sampling option (`max_tokens`, `system`, …), the
    `model`, or the item's `id`; a blank cell leaves it as it is. Raises SourceError for what the table lacks.
    """

    def __init__(
        self,
        table: Any,
        *,
        template: str | None = None,
        column: str | None = None,
        per_row: Mapping[str, str] | None = None,
        skip_invalid: bool = False,
        format: str | None = None,  # noqa: A002 - the field's usual word
    ) -> None:
        self.table: Table = open_table(table, format=format)
        super().__init__(self.table.name, self.table.format, path=self.table.path, skip_invalid=skip_invalid)
        columns = self.table.columns
        if template is not None and column is not None:
            raise SourceError("a template and a column: the prompt comes from one of them")
        self.template = None if template is None else PromptTemplate(template, columns)
        self.column = find_column(columns, column or "prompt") if template is None else None
        self.per_row = {name: _column(columns, name, place) for name, place in (per_row or {}).items()}

    @property
    def unit(self) -> str:
        """Positions are rows, from 1 on."""
        return "row"

    @property
    def bytes(self) -> int:
        """The size of the file; 0 of a frame."""
        return self.path.stat().st_size if self.path is not None else 0

    @property
    def openai_batch(self) -> bool:
        """Never: rows have no lines of a batch."""
        return False

    def entries(self) -> Iterator[Entry]:
        """The rows that have a text, in order."""
        self.tally = tally = Tally()
        for number, row in enumerate(self.table.rows()):
            try:
                text = self._text(row)
                if text is None:
                    tally.without_text += 1
                    continue
                yield Entry(number + 1, clean(self._request(number, row, text), tally))
            except (TemplateError, OptionError, SourceError) as error:
                yield Entry(number + 1, None, str(error))

    def kept(self) -> dict[str, Any]:
        """What a job keeps, so that a later process finds the table and the rows of its answers; JSON."""
        return {
            **self.table.kept(),
            "template": None if self.template is None else self.template.text,
            "column": self.column,
            "per_row": self.per_row,
        }

    def text_of(self, row: Row) -> str | None:
        """The prompt of a row as the job has it; None where the row is not sent."""
        text = self._text(row)
        return None if text is None else clean(Request(text), Tally()).text

    def preview(self, count: int = 3) -> list[list[tuple[str, bool]]]:
        """The prompts of the first rows that are sent, each in pieces with whether a piece is a value of the row.

        Rows that the template fails on are passed over; `entries` says what is wrong with them.
        """
        return list(islice(self._previews(), count))

    def _previews(self) -> Iterator[list[tuple[str, bool]]]:
        for row in self.table.rows():
            with suppress(TemplateError):
                text = self._text(row)
                if text is not None:
                    yield [(text, True)] if self.template is None else self.template.preview(row)

    def _text(self, row: Row) -> str | None:
        if self.template is not None:
            text = "" if self.template.says_nothing(row) else self.template.render(row)
        else:
            assert self.column is not None
            text = cell_text(row.get(self.column))
        return text if text.strip() else None

    def _request(self, number: int, row: Row, text: str) -> Request:
        extra: dict[str, Any] = {ROW: number}
        params: dict[str, Any] = {}
        model = None
        for name, column in self.per_row.items():
            value = row.get(column)
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            if name == "model":
                model = cell_text(value).strip()
            elif name == "id":
                extra["custom_id"] = cell_text(value)
            else:
                params[name] = parse_option(SamplingOptions, name, value)
        if params:
            extra["params"] = params
        return Request(text, extra, model)


def parse_per_row(pairs: list[str]) -> dict[str, str]:
    """`NAME=COLUMN` as they are typed. Raises OptionError."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column.strip():
            raise OptionError(f"per_row: {pair!r} is not NAME=COLUMN, as in max_tokens=limit")
        found[name.strip().replace("-", "_")] = column.strip()
    return found


def _column(columns: tuple[str, ...], name: str, column: str) -> str:
    known = [*_BESIDE, *(spec.name for spec in fields(SamplingOptions))]
    if name not in known:
        raise SourceError(f"no column can set {name}; use one of {', '.join(known)}")
    if column not in columns:
        raise SourceError(f'{name}={column}: there is no column "{column}"; {the_columns(columns, column)}')
    return column
