"""A table of embeddings that stays in the model's file: of it only the rows that are asked for are read, as floats.

In memory it would be one of the largest parts of a small model in few bits, and a step looks up a handful of rows. The
numbers are those that reading all of it gives, to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from batch.engines.gguf.header import GgufHeader, GgufTensor
from batch.engines.gguf.types import TENSOR_TYPES

NAME, GGUF_NAME = "model.embed_tokens.weight", "token_embd.weight"
MOST_HEADER = 100_000_000  # bytes of a safetensors header, as that library has it

Decode = Callable[[Any], Any]  # raw rows, uint8 [rows, bytes]; their numbers, float32 [rows, size]


class FileEmbedding(nn.Module):  # type: ignore[misc]
    """What `nn.Embedding` is, over rows in a mapped file; their bytes come from `offset` on, one after the other."""

    def __init__(self, file: Path, offset: int, shape: tuple[int, int], width: int, decode: Decode) -> None:
        """width: bytes of a row."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = shape
        mapped = numpy.memmap(file, numpy.uint8, "r", offset=offset, shape=(shape[0], width))
        self._raw, self._decode = numpy.asarray(mapped), decode  # of the class itself every look takes longer
        self._decode(self._raw[:1])  # imports what it needs, before anyone waits

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: [...], on the CPU; returns float32, [..., embedding_dim]."""
        found = self._decode(self._raw[ids.reshape(-1).numpy()])
        return torch.from_numpy(found).view(*ids.shape, self.embedding_dim)


def _floats(kind: str) -> Decode:
    return lambda raw: raw.view(kind).astype(numpy.float32, copy=False)


def _bfloat(raw: Any) -> Any:
    """bfloat16 is the upper half of a float32."""
    return (raw.view("<u2").astype(numpy.uint32) << 16).view(numpy.float32)


def _q8_0(raw: Any) -> Any:
    """ggml's: blocks of a float16 and 32 integers of eight bits, which it multiplies."""
    blocks = raw.reshape(len(raw), -1, 34)
    steps = blocks[..., :2].copy().view("<f2").astype(numpy.float32)
    return (blocks[..., 2:].view(numpy.int8) * steps).reshape(len(raw), -1)


FLOATS = {"F64": (8, _floats("<f8")), "F32": (4, _floats("<f4")), "F16": (2, _floats("<f2")), "BF16": (2, _bfloat)}


def of_gguf(tensor: GgufTensor) -> FileEmbedding:
    """A table of a GGUF file."""
    name, size, width = TENSOR_TYPES[tensor.type]
    rows, inputs = tensor.shape
    if name in FLOATS:
        decode = FLOATS[name][1]
    elif name == "Q8_0":
        decode = _q8_0
    else:
        from gguf import GGMLQuantizationType, dequantize

        kind = GGMLQuantizationType(tensor.type)

        def decode(raw: Any) -> Any:
            return dequantize(raw, kind)

    return FileEmbedding(tensor.file, tensor.offset, (rows, inputs), inputs // size * width, decode)


def of_safetensors(file: Path) -> FileEmbedding | None:
    """The table of embeddings of a file of safetensors; None where it is in another one.

    Such a file begins with the length of a header, eight bytes little-endian, then comes that as JSON, with each
    tensor's place behind it. Errors of reading are raised.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(f"{file}: its header is too long")
        said = json.loads(opened.read(length)).get(NAME)
    if said is None:
        return None
    width, decode = FLOATS[said["dtype"]]
    rows, inputs = said["shape"]
    return FileEmbedding(file, 8 + length + said["data_offsets"][0], (rows, inputs), inputs * width, decode)


def of(header: GgufHeader | None, files: list[Path]) -> FileEmbedding:
    """The table of a GGUF file, or else of files of safetensors; raises OSError or LookupError where none has it."""
    found = None
    if header is not None:
        found = next((of_gguf(tensor) for tensor in header.tensors if tensor.name == GGUF_NAME), None)
    found = found or next((one for file in files if (one := of_safetensors(file)) is not None), None)
    if found is None:
        raise LookupError("there is no table of embeddings")
    return found
