"""A file, a pipe or a list as a source of requests that can be read again and again."""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from batch.errors import SourceError
from batch.items import Request
from batch.sources.entries import is_empty
from batch.sources.paths import user_path
from batch.sources.readers import READERS, Entry, Tally, read_list
from batch.sources.text import (
    GZIP_ERRORS,
    binary_form,
    damaged_gzip,
    describe_bad_bytes,
    encoding_of,
    open_bytes,
    open_text,
    read_head,
)

STDIN = "-"
TABLES = ("parquet", "arrow")  # read with pyarrow
FORMATS = (*READERS, *TABLES)
_SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


# Ends of names that say a file may hold prompts, for whoever lists files; what a file is, its content says.
FILE_ENDINGS = tuple(end + packed for end in (".txt", *_SUFFIXES) for packed in ("", ".gz"))


class Source:
    """Prompts from somewhere. Every pass reads the file again, so a million prompts never sit in memory."""

    def __init__(
        self,
        name: str,
        format: str,  # noqa: A002 - the field's usual word
        *,
        path: Path | None = None,
        prompts: Sequence[str] = (),
        encoding: str = "",
        column: str | None = None,
        skip_invalid: bool = False,
    ) -> None:
        self.name = name  # as the user gave it
        self.format = format  # one of FORMATS, or "list"
        self.path = path  # None for a list and for a pipe
        self.encoding = encoding
        self.column = column
        self.skip_invalid = skip_invalid
        self.tally = Tally()  # of the latest pass
        self._file = path
        self._prompts = prompts

    @property
    def unit(self) -> str:
        """What a position counts: "line", "item" (JSON), "row" (a table without lines) or "prompt" (a list)."""
        if self.format in TABLES:
            return "row"
        return READERS[self.format].unit if self._file else "prompt"

    @property
    def bytes(self) -> int:
        """The size of the input."""
        if self._file is None:
            return sum(len(prompt.encode("utf-8", "replace")) for prompt in self._prompts)
        return self._file.stat().st_size

    @property
    def openai_batch(self) -> bool:
        """Whether the first entry is a line of an OpenAI batch file, whose answers have a form of their own."""
        if self.format not in ("jsonl", "json"):
            return False
        for entry in self.entries():
            return bool(entry.request and entry.request.extra and entry.request.extra.get("openai_batch"))
        return False

    def entries(self) -> Iterator[Entry]:
        """Everything in the source in order, malformed and empty entries too. Raises SourceError for the whole file."""
        self.tally = tally = Tally()
        if self._file is None:
            yield from read_list(self._prompts, tally)
            return
        try:
            if self.format in TABLES:
                from batch.sources.tables import column_entries

                yield from column_entries(self.name, self._file, self.format, tally, self.column)
                return
            reader = READERS[self.format]
            with open_text(self._file, reader.newline) as file:
                yield from reader.read(file, tally, self.column)
        except GZIP_ERRORS as error:
            raise SourceError(damaged_gzip(self.name, error)) from None
        except UnicodeDecodeError:
            raise SourceError(f"{self.name} is not UTF-8: {describe_bad_bytes(self._file)}") from None
        except SourceError as error:
            text = str(error)
            raise SourceError(text if text.startswith(self.name) else f"{self.name}: {text}") from None
        except OSError as error:
            raise _cannot_read(self.name, error) from error

    def requests(self) -> Iterator[Request]:
        """The requests in order.

        A malformed entry raises SourceError and an empty prompt is given as it is, unless `skip_invalid`: then both
        are left out and counted in `tally`. A source without any request raises SourceError.
        """
        given = 0
        for entry in self.entries():
            if entry.request is None:
                if not self.skip_invalid:
                    raise SourceError(f"{self.name}, {self.unit} {entry.position}: {entry.error}")
                self.tally.skipped_malformed += 1
            elif self.skip_invalid and is_empty(entry.request):
                self.tally.skipped_empty += 1
            else:
                given += 1
                yield entry.request
        if not given:
            raise SourceError(f"There are no prompts in {self.name}")

    def __iter__(self) -> Iterator[Request]:
        return self.requests()

    def keep(self, spool: Path) -> None:
        """Take over a temporary copy of the input; it goes when the source does."""
        self._file = spool
        self._remove = weakref.finalize(self, _remove, spool)

    def close(self) -> None:
        """Remove the temporary copy of a pipe, if there is one."""
        if remove := getattr(self, "_remove", None):
            remove()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def from_prompts(prompts: Iterable[str], *, name: str = "typed prompts", skip_invalid: bool = False) -> Source:
    """A source of prompts that are at hand."""
    return Source(name, "list", prompts=tuple(prompts), skip_invalid=skip_invalid)


def open_source(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the field's usual word
    column: str | None = None,
    skip_invalid: bool = False,
    stdin: BinaryIO | None = None,
) -> Source:
    """The prompts in a file, or in standard input for "-".

    `format` is one of FORMATS; without it the suffix decides, and whatever is not known is read as text. `column`
    names the column of a table, or the key of JSON objects, that holds the prompt. A pipe is copied to a temporary
    file first, so that it can be read twice. `skip_invalid` leaves out empty and malformed entries and counts them.

    Raises FileNotFoundError, and SourceError for everything else that makes the whole file unusable.
    """
    if format is not None and format not in FORMATS:
        raise SourceError(f"Unsupported input format: {format}; use one of {', '.join(FORMATS)}")
    given = os.fspath(path)
    if given == STDIN:
        return _spooled("standard input", stdin or sys.stdin.buffer, format, column, skip_invalid)
    if not given.strip():
        raise SourceError("No prompts file was named")
    file = user_path(given)
    try:
        info = file.stat()
        if stat.S_ISDIR(info.st_mode):
            raise SourceError(f"{given} is a folder, not a file of prompts")
        if not stat.S_ISREG(info.st_mode):  # a named pipe or a shell's <(…) can be read only once
            with file.open("rb") as stream:
                return _spooled(given, stream, format, column, skip_invalid)
        if not info.st_size:
            raise SourceError(f"{given} is empty")
        head = read_head(file)
    except GZIP_ERRORS as error:
        raise SourceError(damaged_gzip(given, error)) from None
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileNotFoundError(f"Prompts file not found: {given}") from error
    except OSError as error:
        raise _cannot_read(given, error) from error
    format, encoding = _format_of(given, format, head, _by_name(file))  # noqa: A001
    return Source(given, format, path=file, encoding=encoding, column=column, skip_invalid=skip_invalid)


def load_prompts(path: str | os.PathLike[str]) -> list[str]:
    """All prompts of a file as texts. Unlike a source to run, a file without prompts is an empty list."""
    source = open_source(path)
    prompts = []
    for entry in source.entries():
        if entry.request is None:
            raise SourceError(f"{source.name}, {source.unit} {entry.position}: {entry.error}")
        prompts.append(entry.request.text)
    return prompts


def _spooled(
    name: str,
    stream: BinaryIO,
    format: str | None,  # noqa: A002
    column: str | None,
    skip_invalid: bool,
) -> Source:
    import shutil
    import tempfile

    handle, path = tempfile.mkstemp(prefix="ai-router-", suffix=".input")
    spool = Path(path)
    try:
        with os.fdopen(handle, "wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
        if not spool.stat().st_size:
            raise SourceError(f"{name} is empty")
        format, encoding = _format_of(name, format, read_head(spool), lambda: _sniff(spool))  # noqa: A001
        source = Source(name, format, encoding=encoding, column=column, skip_invalid=skip_invalid)
    except GZIP_ERRORS as error:
        _remove(spool)
        raise SourceError(damaged_gzip(name, error)) from None
    except OSError as error:
        _remove(spool)
        raise _cannot_read(name, error) from error
    except BaseException:
        _remove(spool)
        raise
    source.keep(spool)
    return source


def _sniff(path: Path) -> str:
    """JSONL when the first line that is not blank is a JSON object, else text."""
    with open_bytes(path) as file:
        first = next((line for line in file if not line.isspace()), b"")
    try:
        return "jsonl" if isinstance(json.loads(first.removeprefix(codecs.BOM_UTF8)), dict) else "txt"
    except (ValueError, RecursionError):
        return "txt"


def _by_name(file: Path) -> Callable[[], str]:
    """The format that a file's name says; of a compressed file, what stands before .gz."""
    name = file.with_suffix("") if file.suffix.lower() in (".gz", ".gzip") else file
    return lambda: _SUFFIXES.get(name.suffix.lower(), "txt")


def _format_of(name: str, given: str | None, head: bytes, guess: Callable[[], str]) -> tuple[str, str]:
    """Format and encoding: the format given, else what the first bytes say, else a guess. SourceError for the rest."""
    kind = None if given else binary_form(head)
    if kind is not None and kind not in TABLES:
        raise SourceError(f"{name} is {kind}")
    found = given or kind or guess()
    return found, "" if found in TABLES else _checked_encoding(name, head)


def _checked_encoding(name: str, head: bytes) -> str:
    encoding = encoding_of(head)
    if not encoding.startswith("UTF-8"):
        raise SourceError(f"{name} is {encoding}, not UTF-8; convert it with: iconv -f {encoding} -t UTF-8 IN > OUT")
    return encoding


def _cannot_read(name: str, error: OSError) -> SourceError:
    if isinstance(error, PermissionError):
        return SourceError(f"No permission to read {name}")
    if error.errno == errno.ENOSPC:
        return SourceError(f"The disk is full: {name} could not be copied to a temporary file")
    return SourceError(f"{name} cannot be read: {error.strerror or error}")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
