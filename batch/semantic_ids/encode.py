"""Features to semantic IDs: fast in float32, and the same IDs whatever the block size, order or number of threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from batch.semantic_ids.model import RQVAE

Precision: TypeAlias = Literal["fp32", "fp64"]


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
    """Encodes with a trained model, whose codebook stands still. `threads` None leaves torch's setting alone."""

    def __init__(self, model: RQVAE, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        raise NotImplementedError

    def encode(self, features: NDArray[Any], *, reconstruction: bool = False) -> Codes:
        """Codes of `features` [rows, input_dim] of any real dtype; SemanticIdError when the width is another."""
        raise NotImplementedError

    def latent(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The encoder's output, float32 [rows, vector_dim]."""
        raise NotImplementedError

    def quantized(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """The sum of the chosen codewords, float32 [rows, vector_dim]; NaN where a code is −1."""
        raise NotImplementedError
