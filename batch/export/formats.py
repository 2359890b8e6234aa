"""The export formats: each turns a job and its results into pieces of a file, one result at a time."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from batch.errors import UnknownFormatError
from batch.export.carried import carried_columns
from batch.export.openai import openai_record
from batch.export.records import (
    created_at,
    job_record,
    kept_beside,
    line_record,
    plain,
    quoted,
    summary_record,
)
from batch.export.terminal import inert_json, inert_text
from batch.job import BatchJob, BatchResult
from batch.sources.text import replace_surrogates_in

CSV_COLUMNS = ("index", "prompt", "response", "success", "tokens_in", "tokens_out", "duration", "error")
# What a spreadsheet takes for a formula; it looks past tabs, line ends and NULs at the beginning of a cell.
_FORMULA = re.compile(r"[\t\r\n\0]*[=+\-@]")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a table is written. `clip` cuts texts to so many characters."""

    clip: int | None = None
    inert_csv: bool = True


class Format(NamedTuple):
    """How to write a format: a function that gives the file's pieces, and the end of the file's name.

    The first piece and the last belong to the file, each one between to one result.
    """

    pieces: Callable[[BatchJob, Iterable[BatchResult], ExportOptions], Iterator[str]]
    suffix: str
    about: str
    inert: Callable[[str], str] = inert_json  # a piece as a terminal may have it
    kind: str = ""  # of jobs that it is for; all where it names none
    lacks: str = ""  # what other jobs do not have for it, as a clause


def json_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """One document with job, results and summary: the bytes of json.dumps(indent=2, ensure_ascii=False).

    Put together by hand, for the encoder would need all results at once, and is written in Python when it indents.
    """
    yield '{\n  "job": ' + _indented(job_record(job)) + ',\n  "results": ['
    lead = "\n"
    for result in results:
        yield (
            f'{lead}    {{\n      "prompt_index": {result.prompt_index},\n'
            f'      "prompt": {quoted(result.prompt)},\n'
            f'      "response_text": {quoted(result.response_text)},\n'
            f'      "tokens_input": {result.tokens_input},\n'
            f'      "tokens_output": {result.tokens_output},\n'
            f'      "duration": {json.dumps(result.duration)},\n'
            f'      "success": {"true" if result.success else "false"},\n'
            f'      "error_message": {quoted(result.error_message)}{_beside(job, result)}\n    }}'
        )
        lead = ",\n"
    end = "]" if lead == "\n" else "\n  ]"
    yield f'{end},\n  "summary": ' + _indented(summary_record(job)) + "\n}"


def _beside(job: BatchJob, result: BatchResult) -> str:
    """Further fields of a row of the JSON document, with a comma before each: its model where it is not the job's."""
    fields = {} if result.model in (None, job.model_id) else {"model": plain(result.model)}
    beside = fields | kept_beside(result)
    return "".join(f',\n      "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in beside.items())


def csv_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """A table with a header; lines end in CR LF, as RFC 4180 and the csv module have it.

    Behind the columns of every table: `model` where it was not always the job's, `why` where items were routed, `cost`
    (dollars) where there was any, and the columns carried through from the input.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)

    def row(cells: Iterable[Any]) -> str:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow(cells)
        return buffer.getvalue()

    carried = carried_columns(job, CSV_COLUMNS)
    yield row((*CSV_COLUMNS, *(_cell(name, options, clip=False) for name in (*carried.extra, *carried.names.values()))))
    for result in results:
        yield row(
            (
                result.prompt_index,
                _cell(result.prompt, options),
                _cell(result.response_text, options),
                bool(result.success),
                result.tokens_input,
                result.tokens_output,
                f"{result.duration:.2f}",
                _cell(result.error_message, options, clip=False),
                *(_cell(text, options, clip=False) for text in carried.of(result)),
            )
        )
    yield ""


def jsonl_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """One object a line."""
    yield ""
    for result in results:
        yield json_line(result)
    yield ""


def openai_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """The lines that OpenAI's batch API gives back."""
    created = created_at(job)
    yield ""
    for result in results:
        yield json.dumps(openai_record(job, result, created), ensure_ascii=False) + "\n"
    yield ""


def html_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """A page to be read; its texts are inert already."""
    from batch.export.page import page_pieces

    yield from page_pieces(job, results, options)


def json_line(result: BatchResult) -> str:
    """A result as one line of JSONL, its end included."""
    return json.dumps(line_record(result), ensure_ascii=False) + "\n"


FORMATS: dict[str, Format] = {
    "json": Format(json_pieces, ".json", "job, results and summary in one document"),
    "csv": Format(csv_pieces, ".csv", "a table, for spreadsheets", inert_text),
    "jsonl": Format(jsonl_pieces, ".jsonl", "one result a line"),
    "openai": Format(openai_pieces, ".openai.jsonl", "the output lines of an OpenAI batch"),
    "html": Format(html_pieces, ".html", "a page with figures, plots, failures, prompts and answers", inert_text),
}


def dataset_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """The rows of a dataset job's results file: input, expected, predicted."""
    from batch.checkpoint import CheckpointStore
    from batch.datasets.results import line_of, row_of, with_requests

    assert job.checkpoint_file is not None
    yield ""
    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        for request, result in with_requests(store, results):
            yield line_of(row_of(request, result)).decode("utf-8")
    yield ""


# Formats of one kind of job alone.
KIND_FORMATS: dict[str, Format] = {
    "dataset": Format(
        dataset_pieces,
        ".dataset.jsonl",
        "input, expected and predicted of a dataset job",
        kind="dataset",
        lacks="has no known answers to put beside its own",
    ),
}


def find_format(name: str) -> Format:
    """The format of that name. Raises UnknownFormatError, a ValueError, that names the ones there are."""
    if name in FORMATS:
        return FORMATS[name]
    if name in KIND_FORMATS:
        return KIND_FORMATS[name]
    import difflib

    near = difflib.get_close_matches(name, FORMATS, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UnknownFormatError(f"Unsupported format: {name}; use one of {', '.join(FORMATS)}{hint}")


def _cell(text: str | None, options: ExportOptions, *, clip: bool = True) -> str:
    cell = plain(text)
    if clip and options.clip is not None and len(cell) > options.clip:
        cell = cell[: options.clip] + "..."
    return guarded(cell) if options.inert_csv else cell


def guarded(cell: str) -> str:
    """A cell with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _indented(record: dict[str, Any]) -> str:
    text = json.dumps(replace_surrogates_in(record)[0], indent=2, ensure_ascii=False)
    return text.replace("\n", "\n  ")  # only between fields: inside a text it is written \n
