"""Pairs of an expected and a predicted text, and the results file they are read from."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from batch.errors import SourceError

KEPT_PROBLEMS = 20
_EVERY = 500  # lines between two calls that say how far it is
_SHOWN = 80  # characters of what a problem quotes


@dataclass(frozen=True, slots=True)
class Pair:
    """What was given, what should have come and what came. With an `error` there is no prediction to judge."""

    input: str
    expected: str
    predicted: str
    example_id: str
    error: str | None = None
    error_type: str | None = None  # the kind of mistake in the input, where the data names one


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that could not be used, and why."""

    line: int
    message: str


class ResultsReader(Iterator[Pair]):
    """The rows of a results file, one by one and once.

    Lines that cannot be used are left out, counted in `skipped`, and the first of them kept in `problems`. Where an id
    occurs more than once the last row holds, as in a run that tried again; the others are counted in `superseded`.
    """

    def __init__(self, path: str | os.PathLike[str], progress: Callable[[int], None] | None = None) -> None:
        self.path = Path(path)
        self._progress = progress
        self.skipped = 0
        self.superseded = 0
        self.offset = 0  # in bytes: where the line of the pair given last begins
        self.problems: list[Problem] = []
        self._pairs = self._read()

    def __iter__(self) -> ResultsReader:
        return self

    def __next__(self) -> Pair:
        return next(self._pairs)

    def _read(self) -> Iterator[Pair]:
        with _opened(self.path) as file:
            later = _repeated(file)
            file.seek(0)
            end = 0
            for number, line in enumerate(file, 1):
                begin, end = end, end + len(line)
                if not (line := line.removeprefix(b"\xef\xbb\xbf").strip()):
                    continue
                try:
                    pair = pair_of(orjson.loads(line))
                except ValueError as error:
                    self._skip(number, line, error)
                    continue
                if later:
                    key = hash(pair.example_id)
                    if left := later.get(key):
                        later[key] = left - 1
                        self.superseded += 1
                        continue
                self.offset = begin
                yield pair
                if self._progress is not None and number % _EVERY == 0:
                    self._progress(number)

    def _skip(self, number: int, line: bytes, error: ValueError) -> None:
        self.skipped += 1
        if len(self.problems) < KEPT_PROBLEMS:
            message = str(error)
            if isinstance(error, orjson.JSONDecodeError):
                begin = line[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN]
                message = f"not JSON ({error.msg}): {begin}"
            self.problems.append(Problem(number, message))


def read_results(path: str | os.PathLike[str], progress: Callable[[int], None] | None = None) -> ResultsReader:
    """The pairs of a results file (JSONL; `input`, `expected`, `predicted`, `example_id`, `error`, `error_type`).

    `progress` is told the number of the line now and then. Raises SourceError where the file cannot be read.
    """
    return ResultsReader(path, progress)


def pair_of(row: Any) -> Pair:
    """A pair from a row of a results file. Raises ValueError with a sentence where it is none."""
    if not isinstance(row, dict):
        raise ValueError(f"a row must be an object, not {_type_name(row)}")
    for name in ("expected", "predicted", "example_id"):
        if name not in row:
            raise ValueError(f'the row has no "{name}"')
    texts = {name: row.get(name) for name in ("input", "expected", "predicted")}
    error = _error(row.get("error"))
    for name, text in texts.items():
        if text is None and (name != "predicted" or error):
            texts[name] = ""
        elif not isinstance(text, str):
            raise ValueError(f'"{name}" must be a text, not {_type_name(text)}')
    name = row["example_id"]
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f'"example_id" must be a number or a text, not {_type_name(name)}')
    kind = row.get("error_type")
    return Pair(
        texts["input"] or "",
        texts["expected"] or "",
        texts["predicted"] or "",
        str(name),
        error,
        str(kind) if kind not in (None, "") else None,
    )


def _repeated(file: BinaryIO) -> dict[int, int]:
    """How many rows of an id are followed by another one, by the hash of the id; only those there are."""
    hashes = array("q")
    for line in file:
        try:
            hashes.append(hash(pair_of(orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))).example_id))
        except ValueError:
            continue
    if len(set(hashes)) == len(hashes):
        return {}
    return {key: count - 1 for key, count in Counter(hashes).items() if count > 1}


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        raise SourceError(f"{path} is a folder; name a results file in it")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise SourceError(f"There is no file {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def _error(value: Any) -> str | None:
    if value in (None, "", False):
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
