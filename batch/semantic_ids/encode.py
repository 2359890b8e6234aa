"""Features to semantic IDs: fast in float32, and the same IDs whatever the block size, order or number of threads.

What float32 computes of a row depends a little on the rows around it: matrix products add up in an order that depends
on their shape. So every choice of a codeword comes with a bound on how far that can reach, and rows with a lead below
it take the whole way again in float64. The IDs are those of the float64 way; float32 is the short cut to them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.features import FeatureTable
from batch.semantic_ids.layers import Layers, as_float32
from batch.semantic_ids.model import RQVAE
from batch.semantic_ids.quantizer import FrozenCodebooks

Precision: TypeAlias = Literal["fp32", "fp64"]

ROWS = 1024  # a thread's block: its activations stay in a core's cache, and its matrix products are large enough
TABLE_ROWS = 16384  # a block of a table: what is read, encoded and given back at once
PROBES = 8  # rows of a call whose float32 and float64 latents are compared
SAFETY = 16  # times the largest difference seen between the two
SMALL = 64  # a call of no more rows runs in float64 as a whole


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """What a block of rows became.

    `codes` is int32 [rows, levels], −1 where a row could not be encoded; `bad` are those rows' numbers in the block
    (NaN or infinite features). The sums run over the encoded rows: `quantization_error_sum` of the squared distance
    between latent and quantised latent, `reconstruction_error_sum` of the mean squared error over a row's features
    (None unless asked for: it takes the decoder). `exact` rows were decided in float64.
    """

    codes: NDArray[np.int32]
    bad: list[int]
    quantization_error_sum: float
    reconstruction_error_sum: float | None
    exact: int

    @property
    def encoded(self) -> int:
        """Rows that have codes."""
        return len(self.codes) - len(self.bad)


class Encoder:
    """Encodes with a trained model, whose codebook stands still.

    `threads` None uses as many as torch is set to; each works on blocks of its own. `precision="fp64"` computes all
    rows in float64: slower, the same IDs.
    """

    def __init__(self, model: RQVAE, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError("threads is at least 1")
        self.input_dim, self.vector_dim = model.input_dim, model.vector_dim
        self.levels, self.codewords = model.levels, model.codewords
        self.codebooks = FrozenCodebooks(model.codebooks())
        self.threads = threads or min(torch.get_num_threads(), os.cpu_count() or 1)
        self._precision = precision
        self._encoder = Layers(model.encoder, ROWS)
        self._decoder = Layers(model.decoder, ROWS)
        self._pool: ThreadPoolExecutor | None = None

    def encode(self, features: NDArray[Any], *, reconstruction: bool = False) -> Codes:
        """Codes of `features` [rows, input_dim] of any real dtype; SemanticIdError when the width is another."""
        self._check(features)
        rows = len(features)
        codes = np.empty((rows, self.levels), dtype=np.int32)
        close = np.ones(rows, dtype=np.bool_)
        errors = np.empty(rows)
        if self._precision == "fp32" and rows > SMALL:
            noise, typical = self._noise(features)

            def block(start: int, stop: int) -> None:
                latents, norms = self._encoder(features[start:stop])
                found = self.codebooks.search(latents, norms.clamp_min(typical).mul_(noise), errors=True)
                codes[start:stop] = found.codes.numpy()
                close[start:stop] = found.close.numpy()
                errors[start:stop] = found.errors.numpy()

            self._each(rows, block)
        again = np.flatnonzero(close)
        bad = self._encode_exact(features, again, codes, errors)
        errors[bad] = 0
        return Codes(
            codes=codes,
            bad=bad.tolist(),
            quantization_error_sum=float(errors.sum()),
            reconstruction_error_sum=self._reconstruction_error(features, codes) if reconstruction else None,
            exact=len(again),
        )

    def latent(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The encoder's output, float32 [rows, vector_dim]."""
        self._check(features)
        latents = np.empty((len(features), self.vector_dim), dtype=np.float32)

        def block(start: int, stop: int) -> None:
            latents[start:stop] = self._encoder(features[start:stop])[0].numpy()

        self._each(len(features), block)
        return latents

    def quantized(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """The sum of the chosen codewords, float32 [rows, vector_dim]; NaN where a row has no codes."""
        known = codes.min(axis=1, initial=0) >= 0
        sums: NDArray[np.float32] = self.codebooks.sums(torch.from_numpy(np.maximum(codes, 0).astype(np.int64))).numpy()
        sums[~known] = np.nan
        return sums

    def close(self) -> None:
        """End the threads; encoding again starts new ones."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _check(self, features: NDArray[Any]) -> None:
        if features.ndim != 2 or features.shape[1] != self.input_dim:
            width = features.shape[1] if features.ndim == 2 else f"{features.ndim} dimensions instead of 2"
            raise SemanticIdError(f"The model takes {self.input_dim} features an item; the table has {width}")
        if features.dtype.kind not in "fiub":
            raise SemanticIdError(f"Features are numbers; the table holds {features.dtype}")

    def _noise(self, features: NDArray[Any]) -> tuple[float, float]:
        """How far float32 latents may be off, per unit of a row's norm, and the norm to take at least."""
        probes = features[:: max(1, len(features) // PROBES)][:PROBES]
        latents, norms = self._encoder(probes)
        off = torch.linalg.vector_norm(latents.double() - self._encoder.exact(probes), dim=1)
        known = torch.isfinite(off) & torch.isfinite(norms)
        if not bool(known.any()):
            return torch.inf, 1.0  # nothing to go by: all of this block in float64
        typical = max(float(norms[known].median()), torch.finfo(torch.float32).tiny)
        return SAFETY * float((off[known] / norms[known].clamp_min(typical)).max()), typical

    def _encode_exact(
        self, features: NDArray[Any], rows: NDArray[np.intp], codes: NDArray[np.int32], errors: NDArray[Any]
    ) -> NDArray[np.intp]:
        """Decide `rows` in float64, into `codes` and `errors`; returns those that cannot be encoded."""
        bad = [rows[:0]]

        def block(start: int, stop: int) -> None:
            which = rows[start:stop]
            part = as_float32(features[which])
            latents = self._encoder.exact(part)
            found = self.codebooks.search_exact(latents)
            wrong = ~(np.isfinite(part).all(axis=1) & torch.isfinite(latents).all(1).numpy())
            codes[which] = np.where(wrong[:, None], -1, found.codes.numpy())
            errors[which] = found.errors.numpy()
            bad.append(which[wrong])

        self._each(len(rows), block)
        return np.sort(np.concatenate(bad))

    def _reconstruction_error(self, features: NDArray[Any], codes: NDArray[np.int32]) -> float:
        """The rows' mean squared errors after decoding, added up; rows with the same codes are decoded once."""
        sums: list[float] = []

        def block(start: int, stop: int) -> None:
            part = codes[start:stop]
            known = part.min(axis=1, initial=0) >= 0
            if not known.any():
                return
            unique, which = np.unique(part[known], axis=0, return_inverse=True)
            decoded = self._decoder(self.quantized(unique))[0].numpy()
            off = as_float32(features[start:stop][known]) - decoded[which.ravel()]
            sums.append(float(np.einsum("ij,ij->i", off, off, dtype=np.float64).sum()) / self.input_dim)

        self._each(len(features), block)
        return float(np.sum(sums))

    def _each(self, rows: int, block: Callable[[int, int], None]) -> None:
        """Run `block(start, stop)` over all rows, in as many threads as there are; torch uses one in each."""

        def run(start: int) -> None:
            with torch.inference_mode():
                block(start, min(start + ROWS, rows))

        starts = range(0, rows, ROWS)
        if self.threads == 1 or len(starts) <= 1:
            with one_thread():
                for start in starts:
                    run(start)
            return
        if self._pool is None:
            self._pool = _pool(self.threads)
        for _ in self._pool.map(run, starts):
            pass


def encode_table(
    encoder: Encoder, table: FeatureTable, *, start: int = 0, block: int = TABLE_ROWS, reconstruction: bool = False
) -> Iterator[tuple[int, Codes]]:
    """(first row, codes) of each block of a table on disk, from row `start` on; memory is bounded by the block."""
    for first in range(start, len(table), block):
        stop = min(first + block, len(table))
        table.prefetch(stop, min(stop + block, len(table)))
        codes = encoder.encode(table.read(first, stop), reconstruction=reconstruction)
        table.release(first, stop)
        yield first, codes


@contextmanager
def one_thread() -> Iterator[None]:
    """torch works in the calling thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in each of which torch works alone: blocks side by side need no barrier between their steps."""
    before = torch.get_num_threads()
    ready = threading.Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, "semantic-ids", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)  # setting it in a thread also sets what later threads begin with
    return pool
