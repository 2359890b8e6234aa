"""A table of embeddings that stays in the model's file: of it only the rows that are asked for are read, as floats.

In memory it would be one of the largest parts of a small model in few bits, and a step looks up a handful of rows. The
numbers are those that reading all of it gives, to the last bit.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import torch
from torch import nn

from batch.engines.gguf.header import GgufHeader
from batch.engines.torch import stored
from batch.engines.torch.stored import Stored

LOOKS = 256  # rows after which what is mapped of the file is let go, as each brings its neighbours
NAME, GGUF_NAME = "model.embed_tokens.weight", "token_embd.weight"


class FileEmbedding(nn.Module):  # type: ignore[misc]
    """What `nn.Embedding` is, over the rows of a mapped file."""

    def __init__(self, rows: Stored) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows.shape
        self._type, self._raw, self._seen = rows.type, rows.raw(), 0
        self._mapped: mmap.mmap = self._raw.base.base  # of the memmap that it is a view of
        stored.gather(self._raw, self._type, self.embedding_dim, rows.places(slice(1)))  # imports before anyone waits

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: [...], on the CPU; returns float32, [..., embedding_dim]."""
        places = ids.reshape(-1).numpy()
        if places.size and not 0 <= int(places.min()) <= int(places.max()) < self.num_embeddings:
            raise IndexError(f"the table of embeddings has {self.num_embeddings:,} rows")
        found = stored.gather(self._raw, self._type, self.embedding_dim, places)
        self._seen += len(places)
        if self._seen > LOOKS and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)  # the file stays where the system has it
            self._seen = 0
        return found.view(*ids.shape, self.embedding_dim)


def of(header: GgufHeader | None, files: list[Path]) -> FileEmbedding:
    """The table of a GGUF file, or else of files of safetensors; raises OSError or LookupError where none has it."""
    found = None
    if header is not None:
        found = next((stored.of_gguf(tensor) for tensor in header.tensors if tensor.name == GGUF_NAME), None)
    found = found or next((own for file in files if (own := stored.of_safetensors(file).get(NAME)) is not None), None)
    if found is None:
        raise LookupError("there is no table of embeddings")
    return FileEmbedding(found)
