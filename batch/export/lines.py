"""Results written line by line while a job runs, and gone on with after a stop."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from batch.errors import ExportError
from batch.export.atomic import check_target, explained
from batch.export.formats import json_line
from batch.export.terminal import inert_json
from batch.job import BatchResult

_START = b'{"prompt_index": '
_CHUNK = 1 << 20
_INDEX = re.compile(rb'\{"prompt_index": (\d+), ')


class IndexSet:
    """A set of small whole numbers, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def add(self, number: int) -> None:
        """Put a number in."""
        byte, bit = number >> 3, 1 << (number & 7)
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), len(self._bits), 64)))
        if not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self._count += 1

    def __contains__(self, number: int) -> bool:
        byte = number >> 3
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << (number & 7))

    def __len__(self) -> int:
        return self._count


class JsonlWriter:
    """A JSONL file (or "-", standard output) that grows with a job; every line in it is whole.

    Opened on a file that an earlier run of the job wrote, it drops a line torn by a crash and knows which results are
    there: `write` passes over them, so a resumed job first writes everything its store has. A success after a failure
    (`retry_failed`) is appended, so the last line of an index holds. `new` insists on a file without results: those
    of another job would be taken for this one's. Not synced to disk before `close`: the store is the truth.

    Raises ExportError; after one, the file ends with its last whole line.
    """

    def __init__(self, path: Path | str, *, new: bool = False, forbidden: Iterable[Path] = ()) -> None:
        self.path = Path(path)
        self._written = IndexSet()
        self._succeeded = IndexSet()
        self._size = 0
        self._handle = -1
        self._stdout = str(path) == "-"
        self._regular = False
        self._terminal = self._stdout and sys.stdout.buffer.isatty()
        if self._stdout:
            return
        with explained(self.path):
            check_target(self.path, forbidden)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_APPEND | os.O_RDWR | getattr(os, "O_BINARY", 0)
            if self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
                flags = os.O_WRONLY  # a pipe: nothing to read back, and reading would keep it open
            self._handle = os.open(self.path, flags, 0o666)
            try:
                self._regular = stat.S_ISREG(os.fstat(self._handle).st_mode)
                self._terminal = os.isatty(self._handle)
                if self._regular:
                    self._go_on(new)
            except BaseException:
                self.close()
                raise

    @property
    def count(self) -> int:
        """How many prompts have a line."""
        return len(self._written)

    def write(self, results: Iterable[BatchResult]) -> int:
        """Append the results that are not there yet, in one write (one a megabyte); returns how many."""
        count = size = 0
        lines: dict[tuple[int, bool], bytes] = {}
        for result in results:
            index, success = result.prompt_index, bool(result.success)
            if index in self._succeeded or (index in self._written and not success):
                continue
            if (index, success) in lines or (index, True) in lines:
                continue
            text = json_line(result)
            line = (inert_json(text) if self._terminal else text).encode("utf-8")
            lines[index, success] = line
            count += 1
            size += len(line)
            if size >= _CHUNK:
                self._append(lines)
                lines, size = {}, 0
        if lines:
            self._append(lines)
        return count

    def close(self) -> None:
        """Sync and close; may be called again."""
        handle, self._handle = self._handle, -1
        if handle < 0:
            return
        try:
            if self._regular:
                with explained(self.path):
                    os.fsync(handle)
        finally:
            os.close(handle)

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _append(self, lines: dict[tuple[int, bool], bytes]) -> None:
        data = b"".join(lines.values())
        if self._stdout:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            with explained(self.path):
                self._write_whole(data)
        for index, success in lines:  # only now: a result whose write failed may be given again
            self._note(index, success)

    def _write_whole(self, data: bytes) -> None:
        try:
            written = 0
            while written < len(data):  # the system may take less than it is given
                written += os.write(self._handle, data[written:] if written else data)
        except OSError:
            if self._regular:
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(data)

    def _note(self, index: int, success: bool) -> None:
        self._written.add(index)
        if success:
            self._succeeded.add(index)

    def _go_on(self, new: bool) -> None:
        size = os.fstat(self._handle).st_size
        if not size:
            return
        if new:
            raise ExportError(f"{self.path} exists and is not empty; name another file, or resume the job it is of")
        with os.fdopen(os.dup(self._handle), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._take(line, number)
                    self._size += len(line)
                elif not (line.startswith(_START) or _START.startswith(line)):
                    raise self._foreign(number)
        if self._size < size:
            os.ftruncate(self._handle, self._size)

    def _take(self, line: bytes, number: int) -> None:
        found = _INDEX.match(line)
        try:
            success = json.loads(line)["success"] if found else None
        except (ValueError, KeyError, RecursionError):
            success = None
        if found is None or not isinstance(success, bool):
            raise self._foreign(number)
        self._note(int(found[1]), success)

    def _foreign(self, number: int) -> ExportError:
        return ExportError(f"{self.path} was not written by a job: line {number} is no result; name another file")
