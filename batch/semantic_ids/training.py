"""How an RQ-VAE is trained, and what is told of it on the way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from batch.export.atomic import atomic_file
from batch.semantic_ids.checkpoint import read_pt
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.model import HIDDEN, LEVELS, VECTOR_DIM, Layout
from batch.semantic_ids.quality import Quality

BEST = "rqvae_best.pt"
CHECKPOINT = "rqvae_checkpoint.pt"
WIDE = 1024  # what the width that tells rows apart is a multiple of
WIDEST = 8192  # the square matrix that is solved for has this side, in float64: half a gigabyte


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyperparameters, under the names and with the defaults of the published models.

    `method` "staged" builds the model in closed form (`batch.semantic_ids.staged`): only `hidden`, `decoder_hidden`,
    `vector_dim`, `levels`, `codewords`, `batch_norm`, `dropout`, `ema`, `kmeans_n_init`, `ridge` and `seed` count, and
    `epochs` is one. "gradient" is the straight-through training of the literature, to which all but `ridge` belongs.
    `ridge`, in units of the mean square of a hidden unit, is how far "staged" keeps the weights small: the smaller,
    the more it knows the table by heart.

    `diversity_start` is the first epoch (from 0) with the diversity and kl terms; `check_every` is how many epochs lie
    between two looks at the whole table. `reconstruction` counts in units of the error of predicting the mean,
    whatever the features' width. Against collapse: `assignment` "balanced" uses the codewords of a batch evenly
    (Sinkhorn), "nearest" takes the nearest; a codeword used less than `revive_below` of an even use in an epoch starts
    anew at some row (0: never); `warmup` and `settle` are the shares of the epochs without a quantiser at the beginning
    and with codes that stand still at the end; `solve` solves for the decoder's last layer after the last epoch.
    `hidden` None: as the method has them, (1024, 512, 128) or a narrow and a wide one; `decoder_hidden` None mirrors
    `hidden` or, staged, is the wide one; its last width is how many rows the decoder can tell apart.
    """

    method: Literal["staged", "gradient"] = "staged"
    epochs: int = 50
    batch_size: int = 128
    lr: float = 5e-5
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    hidden: tuple[int, ...] | None = None
    decoder_hidden: tuple[int, ...] | None = None
    vector_dim: int = VECTOR_DIM
    levels: int = LEVELS
    codewords: int = 32
    dropout: float = 0.0
    batch_norm: bool = True
    ema: bool = True
    ema_decay: float = 0.99
    commitment_weight: float = 0.5
    div_weight: float = 0.25
    quant_weight: float = 1.0
    recon_weight: float = 1.0
    kl_weight: float = 0.0
    diversity_start: int = 0
    kmeans_init: bool = True
    kmeans_n_init: int = 10
    grad_clip: float = 1.0
    assignment: Literal["nearest", "balanced"] = "balanced"
    revive_below: float = 0.1
    warmup: float = 0.2
    settle: float = 0.6
    solve: bool = True
    ridge: float = 1e-6
    check_every: int = 1
    seed: int = 2024

    def fitted(self, rows: int) -> TrainConfig:
        """The same with the widths that its method takes for so many rows, where none are given."""
        if self.method != "staged":
            return replace(self, hidden=HIDDEN if self.hidden is None else self.hidden)
        wide = min(WIDEST, -(-rows * 6 // 5 // WIDE) * WIDE)  # a fifth more units than rows: all can be met exactly
        hidden = (2 * self.vector_dim, wide) if self.hidden is None else self.hidden
        return replace(self, hidden=hidden, decoder_hidden=self.decoder_hidden or hidden[-1:])

    def plain(self) -> dict[str, Any]:
        """As what a weights-only file may hold."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def layout(self, input_dim: int) -> Layout:
        """The shape of the model for so many features."""
        return Layout(
            input_dim=input_dim,
            hidden=HIDDEN if self.hidden is None else tuple(self.hidden),
            vector_dim=self.vector_dim,
            levels=self.levels,
            codewords=self.codewords,
            batch_norm=self.batch_norm,
            dropout=self.dropout > 0,
            ema=self.ema,
            decoder_hidden=None if self.decoder_hidden is None else tuple(self.decoder_hidden),
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch (from 1) came to: losses are means over its batches, `quality` is of the whole table.

    `baseline` is the error of predicting the mean; `quality` is None where it was not looked at, and before there are
    codebooks; `best` says that this epoch's model is the one to keep so far.
    """

    epoch: int
    epochs: int
    loss: float
    reconstruction: float
    quantization: float
    diversity: float
    baseline: float
    quality: Quality | None
    best: bool

    @property
    def collision_rate(self) -> float | None:
        """Of the whole table."""
        return None if self.quality is None else self.quality.collision_rate


def held_training(path: Path, config: TrainConfig) -> dict[str, Any]:
    """What a training left in `path`; SemanticIdError where it went by another config, but for the number of epochs."""
    held: dict[str, Any] = read_pt(path)
    there = held.get("config") if isinstance(held, dict) else None
    if not isinstance(there, dict):
        raise SemanticIdError(f"{path} is not a checkpoint of a training that can go on")
    there = {"method": "gradient", "ridge": config.ridge} | there  # what was saved before there was a choice
    for name, value in config.plain().items():
        if name != "epochs" and there.get(name) != value:
            raise SemanticIdError(f"{path} was trained with {name} {there.get(name)}, not {value}")
    return held


def write_training(path: Path, held: dict[str, Any]) -> None:
    """Write what `held_training` reads; the file appears whole."""
    with atomic_file(path) as file:
        torch.save(held, file)
