"""The header of a GGUF file (llama.cpp's format, versions 2 and 3, little-endian), read without a library.

    magic "GGUF" · version u32 · tensors u64 · values u64 · values (name, type, value) · tensors (name, shape, type, at)

Every length is checked against the file's own size before anything is read by it. Arrays are walked over, not built: a
vocabulary of 262,144 tokens and 514,906 merges takes 0.06 s. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from batch.engines.gguf.types import ARRAY, FILE_TYPES, SCALARS, TENSOR_TYPES, TEXT
from batch.engines.gguf.walk import pass_texts

VERSIONS = (2, 3)
MOST_VALUES = 65_536
MOST_TENSORS = 1_000_000
MOST_ELEMENTS = 2**48
LONGEST_NAME = 65_535
LONGEST_HEADER = 2**28  # bytes; the longest seen has 30 million
MOST_PARTS = 1024
_STEP = 2**20
_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


class GgufError(ValueError):
    """No GGUF file that can be read; the text says why and names no file."""


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array in the header, not read: `count` elements of a type, beginning at `start`."""

    type: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: `shape` in torch's order, `type` a key of TENSOR_TYPES, `offset` in bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    size: int
    file: Path

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file, all its parts together, says of itself."""

    path: Path
    version: int
    values: Mapping[str, Any]  # numbers, truths and texts; arrays as GgufArray
    tensors: tuple[GgufTensor, ...]
    files: tuple[Path, ...]
    size_bytes: int

    @property
    def architecture(self) -> str:
        """Such as `llama`; "" where it does not say."""
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        """A value that is a text, on one line; "" where there is none."""
        value = self.values.get(key)
        return " ".join(value.split())[:500] if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """A value of the architecture that is a whole number, such as `context_length`."""
        value = self.values.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40 else None

    @property
    def context(self) -> int | None:
        """Tokens of prompt and answer together that it was made for."""
        return self.number("context_length")

    @property
    def parameters(self) -> int | None:
        """Elements of all its tensors."""
        return sum(tensor.elements for tensor in self.tensors) or None

    @property
    def quantisation(self) -> str:
        """As llama.cpp names it (`Q4_K_M`), else the type most of its bytes are of."""
        named = self.values.get("general.file_type")
        if isinstance(named, int) and named in FILE_TYPES:
            return FILE_TYPES[named]
        sizes: dict[int, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.size
        return TENSOR_TYPES[max(sizes, key=sizes.__getitem__)][0] if sizes else ""

    @property
    def license(self) -> str:
        """As it names it (`apache-2.0`), or ""."""
        return self.text("general.license")

    @property
    def chat_template(self) -> str:
        """Its Jinja template, as written; "" for a base model."""
        value = self.values.get("tokenizer.chat_template")
        return value if isinstance(value, str) else ""

    def why_not(self) -> str:
        """Why it is no chat or text model, as the end of a sentence; "" where it is one."""
        kind = self.text("general.type")
        if kind == "mmproj" or self.architecture == "clip":
            return "a projector (mmproj), which turns pictures into tokens for a model; name the model's own file"
        if kind == "adapter":
            return "a LoRA adapter, and no model: name its base model, and this as its `adapter`"
        if not self.architecture:
            return "a GGUF file that names no architecture"
        if kind == "imatrix" or not self.tensors:
            return "a GGUF file without weights"
        if f"{self.architecture}.pooling_type" in self.values or self.architecture in EMBEDDERS:
            return f"an embedding model ({self.architecture}), which writes no answers"
        if "tokenizer.ggml.tokens" not in self.values:
            return (
                "a GGUF file without a tokenizer, so it reads no text: write it again from the model's own folder, "
                "tokenizer files and all, or fetch one that is whole"
            )
        return ""


EMBEDDERS = frozenset(
    {
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "jina-bert-v2",
        "jina-bert-v3",
        "t5encoder",
        "modern-bert",
        "gemma-embedding",
    }
)


def read_header(path: Path) -> GgufHeader:
    """The header of a file and of the parts beside it. Raises GgufError and OSError.

    Of a split model the first part is named, or any other: all are read. A file that has not changed is read once.
    """
    facts = path.stat()
    return _whole(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _whole(path: Path, size_now: int, changed: int) -> GgufHeader:
    first, others = _parts(path)
    values, version, tensors, size = _read(first)
    counted = values.get("split.count")
    wanted = counted if isinstance(counted, int) and counted > 1 else 1
    if wanted > MOST_PARTS or wanted != 1 + len(others):
        raise GgufError(f"it is split into {wanted} parts, and its name says {1 + len(others)}")
    found = list(tensors)
    for part in others:
        if not part.is_file():
            raise GgufError(f"it is split into {wanted} parts, and {part.name} is not beside it")
        _, _, more, more_size = _read(part)
        found += more
        size += more_size
    return GgufHeader(path, version, values, tuple(found), (first, *others), size)


def part_number(path: Path) -> int:
    """Which part of a split model a file is by its name; 1 where it is whole."""
    named = _SPLIT.match(path.name)
    return int(named["number"]) if named else 1


def read_array(path: Path, array: GgufArray) -> list[Any]:
    """The elements of an array of a file's header."""
    with path.open("rb") as stream:
        stream.seek(array.start)
        data = stream.read(array.end - array.start)
    if len(data) < array.end - array.start:
        raise GgufError("it has been cut short since")
    if array.type != TEXT:
        return list(struct.unpack(f"<{array.count}{SCALARS[array.type]}", data))
    at, found = 0, []
    for _ in range(array.count):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 8 : at + 8 + length].decode("utf-8", "replace"))
        at += 8 + length
    return found


def _parts(path: Path) -> tuple[Path, list[Path]]:
    named = _SPLIT.match(path.name)
    if not named:
        return path, []
    count = int(named["count"])
    if not 1 <= int(named["number"]) <= count <= MOST_PARTS:
        raise GgufError(f"its name says part {int(named['number'])} of {count}")
    parts = [path.with_name(f"{named['stem']}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]
    if not parts[0].is_file():
        raise GgufError(f"it is a part of a split model, and the first, {parts[0].name}, is not beside it")
    return parts[0], parts[1:]


def _read(path: Path) -> tuple[dict[str, Any], int, list[GgufTensor], int]:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        reader = _Reader(stream, size)
        version = _version(reader)
        tensor_count, value_count = reader.whole("QQ")
        if value_count > MOST_VALUES or tensor_count > MOST_TENSORS:
            raise GgufError(f"it claims {tensor_count:,} tensors and {value_count:,} values")
        values: dict[str, Any] = {}
        for _ in range(value_count):
            key = reader.text(LONGEST_NAME)
            (kind,) = reader.whole("I")
            values[key] = reader.value(kind)
        tensors = [_tensor(reader, path) for _ in range(tensor_count)]
        aligned = values.get("general.alignment", 32)
        if not isinstance(aligned, int) or not 0 < aligned <= 2**20 or aligned % 8:
            raise GgufError(f"it claims an alignment of {aligned!r}")
        start = -(-reader.at // aligned) * aligned
    placed = [GgufTensor(t.name, t.shape, t.type, start + t.offset, t.size, t.file) for t in tensors]
    for tensor in placed:
        if tensor.offset + tensor.size > size:
            missing = max(t.offset + t.size for t in placed) - size
            raise GgufError(f"it is cut short: {missing:,} bytes of its weights are missing ({tensor.name}, …)")
    return values, version, placed, size


def _version(reader: _Reader) -> int:
    if reader.bytes(4) != b"GGUF":
        raise GgufError("it does not begin as a GGUF file does")
    (version,) = reader.whole("I")
    assert isinstance(version, int)
    if version not in VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *VERSIONS):
            raise GgufError("it is big-endian, made for another kind of machine, and is not read here")
        raise GgufError(f"it is of GGUF version {version}, and {' and '.join(map(str, VERSIONS))} are known")
    return version


def _tensor(reader: _Reader, path: Path) -> GgufTensor:
    name = reader.text(LONGEST_NAME)
    (dimensions,) = reader.whole("I")
    if dimensions > 8:
        raise GgufError(f"its tensor {name[:80]!r} claims {dimensions} dimensions")
    shape = tuple(reversed(reader.whole("Q" * dimensions)))
    kind, offset = reader.whole("IQ")
    if kind not in TENSOR_TYPES:
        raise GgufError(f"its tensor {name[:80]!r} is of type {kind}, which is not known here")
    elements = math.prod(shape)
    called, block, width = TENSOR_TYPES[kind]
    if elements > MOST_ELEMENTS or any(n > MOST_ELEMENTS for n in shape) or offset > 2**62:
        raise GgufError(f"its tensor {name[:80]!r} claims {elements:,} elements")
    if shape and shape[-1] % block:
        raise GgufError(f"its tensor {name[:80]!r} has rows of {shape[-1]}, no multiple of {called}'s {block}")
    return GgufTensor(name, shape, kind, offset, elements // block * width, path)


class _Reader:
    """Bytes of a file in order, in memory as far as they were asked for."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self._held = b""
        self._from = 0  # where what is held begins
        self.at = 0

    def _need(self, count: int) -> int:
        """Have that many bytes from `at` on; where they begin in what is held."""
        if self.at + count > self._size:
            raise GgufError("it is cut short, or a length in its header is wrong")
        if self.at + count > LONGEST_HEADER:
            raise GgufError(f"its header is longer than {LONGEST_HEADER:,} bytes")
        if self.at + count > self._from + len(self._held):
            self._held = self._held[self.at - self._from :] + self._stream.read(max(count, _STEP))
            self._from = self.at
            if len(self._held) < count:
                raise GgufError("it is cut short")
        return self.at - self._from

    def bytes(self, count: int) -> bytes:
        at = self._need(count)
        self.at += count
        return self._held[at : at + count]

    def whole(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        at = self._need(size)
        self.at += size
        return struct.unpack_from("<" + form, self._held, at)

    def text(self, longest: int) -> str:
        (length,) = self.whole("Q")
        if length > longest:
            raise GgufError(f"a text in its header claims {length:,} bytes")
        return self.bytes(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            (value,) = self.whole(SCALARS[kind])
            return value
        if kind == TEXT:
            return self.text(LONGEST_HEADER)
        if kind == ARRAY:
            return self._array()
        raise GgufError(f"its header has a value of type {kind}, which is not known here")

    def _array(self) -> GgufArray:
        kind, count = self.whole("IQ")
        start = self.at
        if kind in SCALARS:
            self.bytes(self._checked(count, struct.calcsize("<" + SCALARS[kind])))
        elif kind == TEXT:
            self._checked(count, 8)
            self._pass_texts(count)
        else:
            raise GgufError(f"its header has an array of type {kind}, which is not known here")
        return GgufArray(kind, count, start, self.at)

    def _checked(self, count: int, width: int) -> int:
        if count * width > self._size - self.at:
            raise GgufError(f"an array in its header claims {count:,} elements, more than the file has bytes")
        return count * width

    def _pass_texts(self, count: int) -> None:
        while count:
            at = self._need(8)
            passed, at = pass_texts(self._held, at, count)
            self.at, count = self._from + at, count - passed
            if not passed:  # it ends beyond what is held
                (length,) = self.whole("Q")
                if length > self._size:
                    raise GgufError(f"a text in its header claims {length:,} bytes")
                self._need(length)
                self.at += length
                count -= 1
