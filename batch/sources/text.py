"""Bytes to text: which encodings are taken, and where a file breaks them."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

REPLACEMENT = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")
_SNIFFED = 4096
_GZIP = b"\x1f\x8b"
GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
_MARKS = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Office document; save the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first: zstd -d",
    b"BZh": "compressed with bzip2; unpack it first: bunzip2",
    b"\xfd7zXZ": "compressed with xz; unpack it first: unxz",
    b"%PDF-": "a PDF document, not a file of prompts",
    b"SQLite format 3\0": "a database; of a job, see: ai-router show",
    b"GGUF": "a model, not a file of prompts",
}

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_FOREIGN_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def replace_surrogates(text: str) -> tuple[str, int]:
    """The text with every lone surrogate as U+FFFD, and how many there were: UTF-8 has no bytes for them."""
    if text.isascii() or not _SURROGATE.search(text):
        return text, 0
    return _SURROGATE.subn(REPLACEMENT, text)


def replace_surrogates_in(value: Any) -> tuple[Any, int]:
    """The same for every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        items = [replace_surrogates_in(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, Mapping):
        total = 0
        cleaned = {}
        for key, item in value.items():
            new_key, in_key = replace_surrogates_in(key)
            cleaned[new_key], in_item = replace_surrogates_in(item)
            total += in_key + in_item
        return cleaned, total
    return value, 0


def encoding_of(head: bytes) -> str:
    """ "UTF-8", "UTF-8 with BOM", or the name of an encoding that is not taken, from a file's first bytes."""
    if head.startswith(codecs.BOM_UTF8):
        return "UTF-8 with BOM"
    for mark, name in _FOREIGN_MARKS:
        if head.startswith(mark):
            return name
    # Latin text in UTF-16 without a mark is valid UTF-8 with a NUL in every second place.
    if len(head) >= 4 and max(head[0::2].count(0), head[1::2].count(0)) > 0.8 * (len(head) // 2):
        return "UTF-16"
    return "UTF-8"


def is_packed(path: Path) -> bool:
    """Whether a file is compressed with gzip, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def open_bytes(path: Path) -> BinaryIO:
    """A file's bytes; of one that gzip compressed, what is in it."""
    if is_packed(path):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def open_text(path: Path, newline: str | None) -> TextIO:
    """A file's text, UTF-8 with or without its mark; `newline` is what open() takes."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline=newline)


def damaged_gzip(name: str, error: BaseException) -> str:
    """What is wrong with compressed bytes, as a sentence."""
    return f"{name} is a damaged gzip file: {' '.join(str(error).split())}"


def read_head(path: Path) -> bytes:
    """The first bytes of a file's text, enough to tell its encoding."""
    with open_bytes(path) as file:
        return file.read(_SNIFFED)


def binary_form(head: bytes) -> str | None:
    """What bytes that are no text are, from how they begin: "parquet", "arrow", or a sentence's end; None for text."""
    return next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), None)


def describe_bad_bytes(path: Path) -> str:
    """Where a file stops being UTF-8: line, byte within the line and within the file, all as editors count them."""
    start = 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"line {number}, byte {error.start + 1} (offset {start + error.start}) "
                    f"is 0x{line[error.start]:02x}, which is not UTF-8"
                )
            start += len(line)
    return "the text is not UTF-8"
