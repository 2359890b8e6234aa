"""A trained stack of layers as plain matrix products, with BatchNorm folded in and no product with one-hot rows."""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from batch.semantic_ids.model import Stack

Tensor: TypeAlias = Any  # torch is not followed by the type checker

SPARSE = 0.06  # of a block's numbers are not zero: up to here adding up weight rows beats the matrix product
SAMPLED = 8  # rows that a block's share of non-zeros is estimated from


class Layers:
    """A `Stack` in inference, float32, for blocks of up to `block` rows. May be called from several threads at once."""

    def __init__(self, stack: Stack, block: int) -> None:
        folded = stack.folded()
        self.width = folded[0][0].shape[1]
        self._block = block
        self._steps = [(weight.float().t(), bias.float()) for weight, bias in folded]  # [in, out], as mm takes it
        self._rows = folded[0][0].float().t().contiguous()  # one row a feature
        self._steps64 = [(weight.t(), bias) for weight, bias in folded]
        self._local = threading.local()

    def __call__(self, features: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Output [rows, out] and the norm of each row of `features` [rows, width]; rows ≤ block.

        The output lies in a buffer that this thread's next call overwrites. Norms of rows with NaN are NaN.
        """
        rows = len(features)
        buffers = self._buffers()
        out = buffers[0][:rows]
        if self._is_sparse(features):
            norms = self._first_sparse(features, out)
        else:
            x = self._tensor(features)
            norms = torch.linalg.vector_norm(x, dim=1)
            torch.addmm(self._steps[0][1], x, self._steps[0][0], out=out)
        for (weight, bias), buffer in zip(self._steps[1:], buffers[1:], strict=True):
            hidden, out = out.relu_(), buffer[:rows]
            torch.addmm(bias, hidden, weight, out=out)
        return out, norms

    def exact(self, features: NDArray[Any]) -> Tensor:
        """The same in float64, of the features as float32 holds them."""
        out = torch.from_numpy(as_float32(features).astype(np.float64))
        for index, (weight, bias) in enumerate(self._steps64):
            out = torch.addmm(bias, out.relu_() if index else out, weight)
        return out

    def _first_sparse(self, features: NDArray[Any], out: Tensor) -> Tensor:
        """The first linear step as a sum of the weight rows of the features that are set; returns the norms."""
        rows, width = features.shape
        flat = np.flatnonzero(np.not_equal(features, 0))
        row, column = np.divmod(flat, width)
        values = features[row, column].astype(np.float32, copy=False)
        offsets = np.zeros(rows, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=rows)[:-1], out=offsets[1:])
        sums = F.embedding_bag(
            torch.from_numpy(column),
            self._rows,
            torch.from_numpy(offsets),
            mode="sum",
            per_sample_weights=torch.from_numpy(values),
        )
        torch.add(sums, self._steps[0][1], out=out)
        squares = np.bincount(row, weights=np.square(values, dtype=np.float64), minlength=rows)
        return torch.from_numpy(np.sqrt(squares).astype(np.float32))

    def _is_sparse(self, features: NDArray[Any]) -> bool:
        sample = features[:: max(1, len(features) // SAMPLED)]
        return bool(np.count_nonzero(sample) <= SPARSE * sample.size)

    def _buffers(self) -> list[Tensor]:
        """This thread's room for each step's output."""
        if not hasattr(self._local, "buffers"):
            self._local.buffers = [torch.empty((self._block, len(bias))) for _, bias in self._steps]
        buffers: list[Tensor] = self._local.buffers
        return buffers

    def _tensor(self, features: NDArray[Any]) -> Tensor:
        """The features as they lie there, or a float32 copy in this thread's buffer."""
        if features.dtype == np.float32 and features.flags.writeable:  # torch warns of what it may not write to
            return torch.from_numpy(features)
        if not hasattr(self._local, "converted"):
            self._local.converted = np.empty((self._block, self.width), dtype=np.float32)
        room = self._local.converted[: len(features)]
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and reported as such
            np.copyto(room, features, casting="same_kind" if features.dtype.kind == "f" else "unsafe")
        return torch.from_numpy(room)


def as_float32(features: NDArray[Any]) -> NDArray[np.float32]:
    """The features as a contiguous float32 array; no copy when they are one."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(features, dtype=np.float32)
