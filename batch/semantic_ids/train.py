"""Training of an RQ-VAE, small enough for a laptop: it can be stopped after any epoch and goes on as if it had not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from batch.export.atomic import atomic_file
from batch.semantic_ids.checkpoint import read_pt
from batch.semantic_ids.collisions import collision_report
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.kmeans import kmeans
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.losses import losses
from batch.semantic_ids.model import HIDDEN, LEVELS, RQVAE, VECTOR_DIM, Layout
from batch.semantic_ids.quantizer import squared_distances

Tensor: TypeAlias = Any  # torch is not followed by the type checker

BEST = "rqvae_best.pt"
CHECKPOINT = "rqvae_checkpoint.pt"
KMEANS_ROWS = 4096  # rows that the codebooks start from


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyperparameters, under the names and with the defaults of the published models.

    `diversity_start` is the first epoch (from 0) with the diversity and kl terms; `check_every` is how many epochs lie
    between two looks at the collision rate.
    """

    epochs: int = 50
    batch_size: int = 128
    lr: float = 5e-5
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    hidden: tuple[int, ...] = HIDDEN
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
    check_every: int = 1
    seed: int = 2024

    def layout(self, input_dim: int) -> Layout:
        """The shape of the model for so many features."""
        return Layout(
            input_dim=input_dim,
            hidden=tuple(self.hidden),
            vector_dim=self.vector_dim,
            levels=self.levels,
            codewords=self.codewords,
            batch_norm=self.batch_norm,
            dropout=self.dropout > 0,
            ema=self.ema,
        )


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What an epoch (from 1) came to: losses are means over its batches, `collision_rate` is of the whole table.

    `collision_rate` is None where it was not looked at; `best` says that this epoch's model is the one to keep so far.
    """

    epoch: int
    epochs: int
    loss: float
    reconstruction: float
    quantization: float
    diversity: float
    collision_rate: float | None
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

    With `folder`, `rqvae_best.pt` and `rqvae_checkpoint.pt` are kept there; `resume` goes on from the latter if there
    is one. An exception out of `progress` stops the training after that epoch is saved. SemanticIdError: features with
    NaN or fewer than two rows, or a checkpoint of another training.
    """
    _check(features)
    with torch.random.fork_rng(devices=[]):
        run = _Training(features, config)
        if folder is not None and resume and (folder / CHECKPOINT).exists():
            run.restore(folder)
        else:
            run.start()
        for epoch in range(run.epoch + 1, config.epochs + 1):
            report = run.step(epoch)
            if folder is not None:
                run.save(folder, report)
            if progress is not None:
                progress(report)
    return run.result()


class _Training:
    """A training between two epochs."""

    def __init__(self, features: NDArray[Any], config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.features, self.config = features, config
        self.model = RQVAE(config.layout(features.shape[1]), dropout=config.dropout)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.optimizer = kind(self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.epoch = 0
        self.best = (math.inf, math.inf)  # collision rate, then loss
        self.best_state: dict[str, Any] | None = None

    def start(self) -> None:
        """Codebooks from k-means on the latents of a sample, level by level on what is left."""
        if not self.config.kmeans_init:
            return
        generator = torch.Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(self.features), generator=generator)[:KMEANS_ROWS]
        with torch.no_grad():
            self.model.train()  # with the batch's own statistics: the running ones know nothing yet
            residual = self.model.encoder(self._rows(rows))
            for level in self.model.quantizer.quantizers:
                table = kmeans(residual, self.config.codewords, starts=self.config.kmeans_n_init, generator=generator)
                level.vectors.weight.copy_(table)
                code = squared_distances(residual, table).argmin(1)
                if self.config.ema:
                    share = torch.bincount(code, minlength=len(table)) / len(code)
                    level.ema_cluster_size.copy_(share * self.config.batch_size)
                    level.ema_w.copy_(table * level.ema_cluster_size[:, None])
                residual = residual - table[code]

    def step(self, epoch: int) -> EpochReport:
        """One pass over all rows, in an order that depends on the seed and the epoch alone."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.features))
        sums = np.zeros(4)
        batches = [part for part in order.split(config.batch_size) if len(part) > 1]  # BatchNorm needs two rows
        self.model.train()
        for rows in batches:
            sums += self._batch(self._rows(rows), spread=epoch > config.diversity_start)
        loss, reconstruction, quantization, diversity = (sums / len(batches)).tolist()
        if not math.isfinite(loss):
            raise SemanticIdError(f"The loss is no number any more in epoch {epoch}: train with a lower learning rate")
        self.epoch = epoch
        rate = None
        best = False
        if epoch % config.check_every == 0 or epoch == config.epochs:
            rate = self._collision_rate()
            if best := (rate, loss) < self.best:
                self.best = (rate, loss)
                self.best_state = copy.deepcopy(self.model.state_dict())
        return EpochReport(epoch, config.epochs, loss, reconstruction, quantization, diversity, rate, best)

    def save(self, folder: Path, report: EpochReport) -> None:
        """Both files, each whole."""
        state = {"model_state_dict": self.model.state_dict(), "epoch": report.epoch, "loss": report.loss}
        if report.best:
            _write(folder / BEST, {**state, "collision_rate": report.collision_rate})
        more = {
            "optimizer_state_dict": self.optimizer.state_dict(),
            "best": list(self.best),
            "best_loss": self.best[1],
            "config": _plain(self.config),
        }
        _write(folder / CHECKPOINT, {**state, **more})

    def restore(self, folder: Path) -> None:
        """What `save` wrote."""
        path = folder / CHECKPOINT
        held = read_pt(path)
        config = held.get("config") if isinstance(held, dict) else None
        if not isinstance(config, dict):
            raise SemanticIdError(f"{path} is not a checkpoint of a training that can go on")
        for name, value in _plain(self.config).items():
            if name != "epochs" and config.get(name) != value:
                raise SemanticIdError(f"{path} was trained with {name} {config.get(name)}, not {value}")
        try:
            self.model.load_state_dict(held["model_state_dict"])
        except RuntimeError:
            width = self.features.shape[1]
            raise SemanticIdError(f"{path} was trained on features of another width than {width}") from None
        self.optimizer.load_state_dict(held["optimizer_state_dict"])
        self.epoch = int(held["epoch"])
        rate, loss = held["best"]
        self.best = (float(rate), float(loss))
        if (folder / BEST).exists():
            self.best_state = read_pt(folder / BEST)["model_state_dict"]

    def result(self) -> RQVAE:
        """The best model so far."""
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)
        self.model.eval()
        return self.model

    def _rows(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(as_float32(self.features[rows.numpy()]))

    def _batch(self, x: Tensor, *, spread: bool) -> NDArray[np.float64]:
        """One step of the optimiser; loss, reconstruction, quantization and diversity."""
        config = self.config
        passed = self.model(x)
        spread = spread and (config.div_weight > 0 or config.kl_weight > 0)
        terms = losses(self.model, x, passed, commitment=config.commitment_weight, spread=spread)
        loss = (
            config.recon_weight * terms.reconstruction
            + config.quant_weight * terms.quantization
            + config.div_weight * terms.diversity
            + config.kl_weight * terms.kl
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self.optimizer.step()
        if config.ema:
            self.model.quantizer.update_ema(passed.quantized, config.ema_decay)
        shown = (loss, terms.reconstruction, terms.quantization, terms.diversity)
        return np.array([float(value.detach()) for value in shown])

    def _collision_rate(self) -> float:
        self.model.eval()
        encoder = Encoder(self.model)
        try:
            return collision_report(encoder.encode(self.features).codes, self.config.codewords).rate
        finally:
            encoder.close()


def _check(features: NDArray[Any]) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise SemanticIdError(f"Training needs a table of two rows or more; this has the shape {list(features.shape)}")
    for start in range(0, len(features), KMEANS_ROWS):
        wrong = np.flatnonzero(~np.isfinite(as_float32(features[start : start + KMEANS_ROWS])).all(axis=1))
        if len(wrong):
            raise SemanticIdError(f"Row {start + int(wrong[0])} (from 0) holds NaN or infinite features")


def _plain(config: TrainConfig) -> dict[str, Any]:
    """The config as what a weights-only file may hold."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def _write(path: Path, held: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        torch.save(held, file)
