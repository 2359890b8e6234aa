"""Training of an RQ-VAE, small enough for a laptop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from batch.semantic_ids.model import HIDDEN, RQVAE


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyperparameters, under the names and with the defaults of the published models."""

    epochs: int = 50
    batch_size: int = 128
    lr: float = 5e-5
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    hidden: tuple[int, ...] = HIDDEN
    vector_dim: int = 64
    levels: int = 3
    codewords: int = 32
    dropout: float = 0.0
    batch_norm: bool = True
    ema: bool = True
    commitment_weight: float = 0.5
    div_weight: float = 0.25
    quant_weight: float = 1.0
    recon_weight: float = 1.0
    kl_weight: float = 0.0
    diversity_start: int = 0
    kmeans_init: bool = True
    kmeans_n_init: int = 10
    grad_clip: float = 1.0
    check_every: int = 1
    seed: int = 2024


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What an epoch came to; losses are means over its batches, `collision_rate` is of the whole table."""

    epoch: int
    epochs: int
    loss: float
    reconstruction: float
    quantization: float
    diversity: float
    collision_rate: float
    best: bool


def train(
    features: NDArray[Any],
    config: TrainConfig,
    *,
    progress: Callable[[EpochReport], None] | None = None,
    folder: Path | None = None,
    resume: bool = False,
) -> RQVAE:
    """Train on `features` [rows, input_dim]; the model of the epoch with the lowest collision rate, in eval mode.

    With `folder`, `rqvae_best.pt` and `rqvae_checkpoint.pt` are kept there; `resume` goes on from the latter.
    An exception out of `progress` stops the training after that epoch is saved.
    """
    raise NotImplementedError
