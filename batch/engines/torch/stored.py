"""Weights as their files have them, and as floats: read by stored.c, or by the gguf library where there is none.

Their numbers are the same to the last bit either way. Nothing of a file stays mapped longer than it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from batch.engines.gguf.header import GgufTensor
from batch.engines.gguf.types import TENSOR_TYPES
from batch.engines.torch import structs
from batch.engines.torch.native import Kernels, kernels

MOST_HEADER = 100_000_000  # bytes of a safetensors header, as that library has it
TOGETHER = 2**18  # numbers that are dequantised together by the library, which holds everything twice
SAFETENSORS = {"F32": 0, "F16": 1, "F64": 28, "BF16": 30}  # types by their numbers in ggml
Decode = Callable[[Any], Any]  # raw rows, uint8 [rows, bytes]; their numbers, float32 [rows, inputs]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a file, [rows, inputs]; one of a single dimension has rows of one input."""

    file: Path
    offset: int  # bytes
    type: int  # its number in ggml
    shape: tuple[int, ...]
    order: Any = None  # numpy, int64: the file's row of each of its own; None where they are the same

    @property
    def rows(self) -> int:
        """All but the last dimension."""
        return int(numpy.prod(self.shape[:-1])) if len(self.shape) > 1 else self.shape[0]

    @property
    def inputs(self) -> int:
        """Numbers of a row."""
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def width(self) -> int:
        """Bytes of a row."""
        _, size, width = TENSOR_TYPES[self.type]
        return self.inputs // size * width

    def raw(self) -> Any:
        """Its bytes, mapped: uint8, [rows, bytes]."""
        mapped = numpy.memmap(self.file, numpy.uint8, "r", offset=self.offset, shape=(self.rows, self.width))
        return numpy.asarray(mapped)  # of the class itself every look takes longer

    def places(self, rows: slice = slice(None)) -> Any:
        """Where some of its rows are in the file, int64."""
        return numpy.arange(self.rows)[rows] if self.order is None else self.order[rows]

    def floats(self, rows: slice = slice(None)) -> torch.Tensor:
        """Some of its rows; float32, in the shape that it has where that is all of them."""
        found = gather(self.raw(), self.type, self.inputs, self.places(rows))
        return found.view(self.shape) if len(found) == self.rows else found


def gather(raw: Any, kind: int, inputs: int, places: Any) -> torch.Tensor:
    """Rows of a tensor of such a type: float32, [places, inputs]. raw: uint8, [rows, bytes]; places: int64."""
    quick = kernels()
    if quick is not None and quick.stored_block(kind):
        out = torch.empty(len(places), inputs)
        _read(quick, [(kind, raw)], places, inputs, 1, out)
        return out
    decode, found = decoder(kind), torch.empty(len(places), inputs)
    few = max(TOGETHER // max(inputs, 1), 1)
    for first in range(0, len(places), few):
        found[first : first + few] = torch.from_numpy(decode(raw[places[first : first + few]]))
    return found


def panels(quick: Kernels, parts: Sequence[Stored], places: Any, out: torch.Tensor) -> None:
    """Outputs of several tensors in panels, as a product of floats has them.

    places: int64, for each output its row through all parts as these have them, or -1 for zeros. out: float32, [panels,
    inputs, panel], or bfloat16, [panels, inputs / 2, panel, 2].
    """
    inputs = parts[0].inputs
    lengths = numpy.cumsum([0, *(part.rows for part in parts)])
    order = numpy.concatenate([part.places() + first for part, first in zip(parts, lengths, strict=False)])
    known = all(quick.stored_block(part.type) for part in parts)
    tensors = [(part.type, part.raw()) if known else (0, part.floats().numpy().view(numpy.uint8)) for part in parts]
    where = numpy.where(places < 0, -1, order[places] if known else places)
    _read(quick, tensors, where, inputs, out.shape[2], out)


def _read(
    quick: Kernels, tensors: Sequence[tuple[int, Any]], places: Any, inputs: int, panel: int, out: torch.Tensor
) -> None:
    told = [structs.Stored(kind, len(raw), raw.size, raw.ctypes.data) for kind, raw in tensors]
    where = torch.from_numpy(numpy.ascontiguousarray(places, numpy.int64))
    quick.read_stored((structs.Stored * len(told))(*told), where, inputs, panel, out)


def decoder(kind: int) -> Decode:
    """What makes floats of raw rows of a type, without the kernels."""
    name = TENSOR_TYPES[kind][0]
    if name in FLOATS:
        return FLOATS[name]
    from gguf import GGMLQuantizationType, dequantize

    return lambda raw: dequantize(raw, GGMLQuantizationType(kind))


def _bfloat(raw: Any) -> Any:
    """bfloat16 is the upper half of a float32."""
    return (raw.view("<u2").astype(numpy.uint32) << 16).view(numpy.float32)


def _as(kind: str) -> Decode:
    return lambda raw: raw.view(kind).astype(numpy.float32, copy=False)


FLOATS: Mapping[str, Decode] = {"F64": _as("<f8"), "F32": _as("<f4"), "F16": _as("<f2"), "BF16": _bfloat}


def of_gguf(tensor: GgufTensor) -> Stored:
    """A tensor of a GGUF file."""
    return Stored(tensor.file, tensor.offset, tensor.type, tuple(tensor.shape))


def of_safetensors(file: Path) -> dict[str, Stored]:
    """The tensors of floats in a file of safetensors, by name. Raises OSError, or ValueError where it is none.

    Such a file begins with the length of a header, eight bytes little-endian, then comes that as JSON, with each
    tensor's place behind it.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(f"{file}: its header is too long")
        said = json.loads(opened.read(length))
    return {
        name: Stored(file, 8 + length + own["data_offsets"][0], SAFETENSORS[own["dtype"]], tuple(own["shape"]))
        for name, own in said.items()
        if name != "__metadata__" and own["dtype"] in SAFETENSORS and own["shape"]
    }
