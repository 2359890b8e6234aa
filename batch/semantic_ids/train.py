"""Training of an RQ-VAE, small enough for a laptop: in closed form ("staged", one step), or by gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.gradient import GradientTraining
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.model import RQVAE
from batch.semantic_ids.quality import Quality, UnusableModelError, baseline_of, quality_of
from batch.semantic_ids.staged import build
from batch.semantic_ids.training import BEST, CHECKPOINT, Epoch, TrainConfig, held_training, write_training

__all__ = ["BEST", "CHECKPOINT", "Epoch", "TrainConfig", "train"]

BLOCK = 4096


def train(
    features: NDArray[Any],
    config: TrainConfig,
    *,
    progress: Callable[[Epoch], None] | None = None,
    folder: Path | None = None,
    resume: bool = False,
    strict: bool = True,
) -> RQVAE:
    """Train on `features` [rows, input_dim]; the model that loses least (`Quality.score`), in eval mode.

    Only models count that beat predicting the mean by a margin and have not collapsed. UnusableModelError where there
    is none; `strict` False gives the last one then.
    With `folder`, `rqvae_best.pt` is kept there and, trained by gradients, `rqvae_checkpoint.pt` of the last epoch;
    `resume` goes on from there if there is one. An exception out of `progress` stops the training after that epoch is
    saved. SemanticIdError: features with NaN or fewer than two rows, or a model of another training.
    """
    _check(features)
    config = config.fitted(len(features))
    with torch.random.fork_rng(devices=[]):
        if config.method == "staged":
            return _staged(features, config, progress, folder, resume=resume, strict=strict)
        run = GradientTraining(features, config)
        if folder is not None and resume and _there(folder) is not None:
            run.restore(folder)
        for epoch in range(run.epoch + 1, config.epochs + 1):
            report = run.step(epoch)
            if folder is not None:
                run.save(folder, report)
            if progress is not None:
                progress(report)
    return run.result(strict=strict)


def _staged(
    features: NDArray[Any],
    config: TrainConfig,
    progress: Callable[[Epoch], None] | None,
    folder: Path | None,
    *,
    resume: bool,
    strict: bool,
) -> RQVAE:
    """The model in closed form, or the one that is there."""
    baseline = baseline_of(features)
    if folder is not None and resume and (there := _there(folder)) is not None:
        return _kept(there, features, config)
    model = build(features, config)
    quality = quality_of(model, features, baseline)
    fault = quality.fault(reconstructs=config.recon_weight > 0)
    if folder is not None and fault is None:
        found = {"epoch": 1, "loss": quality.error / baseline.error, "collision_rate": quality.collision_rate}
        write_training(folder / BEST, {"model_state_dict": model.state_dict(), **found, "config": config.plain()})
    if progress is not None:
        progress(_report(quality, best=fault is None))
    if strict and fault is not None:
        raise UnusableModelError(
            f"No model was kept: {fault}; more codewords or levels tell more rows apart, and a wider last hidden layer "
            "reconstructs more of them"
        )
    return model


def _there(folder: Path) -> Path | None:
    """What a training left in a folder."""
    return next((path for name in (CHECKPOINT, BEST) if (path := folder / name).exists()), None)


def _kept(path: Path, features: NDArray[Any], config: TrainConfig) -> RQVAE:
    """The model of a staged training that is over."""
    held = held_training(path, config)
    model = RQVAE(config.layout(features.shape[1]), dropout=config.dropout)
    try:
        model.load_state_dict(held["model_state_dict"])
    except RuntimeError:
        raise SemanticIdError(f"{path} was trained on features of another width than {features.shape[1]}") from None
    model.eval()
    return model


def _report(quality: Quality, *, best: bool) -> Epoch:
    lost = quality.error / quality.baseline
    return Epoch(1, 1, lost, quality.error, 0.0, 0.0, quality.baseline, quality, best)


def _check(features: NDArray[Any]) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise SemanticIdError(f"Training needs a table of two rows or more; this has the shape {list(features.shape)}")
    for start in range(0, len(features), BLOCK):
        wrong = np.flatnonzero(~np.isfinite(as_float32(features[start : start + BLOCK])).all(axis=1))
        if len(wrong):
            raise SemanticIdError(f"Row {start + int(wrong[0])} (from 0) holds NaN or infinite features")
