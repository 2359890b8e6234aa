"""Straight-through training of an RQ-VAE: it can be stopped after any epoch and goes on as if it had not.

Three stages. *warm-up*: encoder and decoder without a quantiser, so that codebooks start from latents that mean
something. *joint*: all three together. *settled*: every row has its codes for good, told apart as far as there are
codes; the encoder learns to be nearest to them and the decoder what they stand for, while the learning rate falls to 0.
After the last epoch the decoder's last layer is solved for in closed form (ridge regression).
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from batch.semantic_ids.assign import balanced, settled
from batch.semantic_ids.checkpoint import read_pt
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.kmeans import kmeans
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.losses import chosen_loss, losses
from batch.semantic_ids.model import RQVAE
from batch.semantic_ids.quality import Quality, UnusableModelError, baseline_of, quality_of
from batch.semantic_ids.quantizer import squared_distances
from batch.semantic_ids.solve import solve_decoder
from batch.semantic_ids.training import BEST, CHECKPOINT, Epoch, TrainConfig, held_training, write_training

Tensor: TypeAlias = Any  # torch is not followed by the type checker

KMEANS_ROWS = 4096  # rows that the codebooks start from


class GradientTraining:
    """A training between two epochs."""

    def __init__(self, features: NDArray[Any], config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.features, self.config = features, config
        self.baseline = baseline_of(features)
        self.model = RQVAE(config.layout(features.shape[1]), dropout=config.dropout)
        with torch.no_grad():  # begin at the mean, which takes many steps to find with features that are mostly 0
            self.model.decoder.proj.weight.mul_(0.1)
            self.model.decoder.proj.bias.copy_(torch.from_numpy(self.baseline.mean))
        parts = [self.model.encoder, self.model.decoder]
        if not config.ema:  # codebooks that follow averages are moved by nothing else
            parts.append(self.model.quantizer)
        self.learnt = [list(part.parameters()) for part in parts]
        learnt = [parameter for part in self.learnt for parameter in part]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.optimizer = kind(learnt, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        self.epoch = 0
        self.started = False  # are there codebooks?
        self.settled_at = 0  # the epoch after which codes stand still
        self.codes: Tensor | None = None  # [rows, levels], as soon as they do
        self.best = math.inf  # score
        self.best_state: dict[str, Any] | None = None
        self.fault = "no epoch was looked at"

    def start(self) -> None:
        """Codebooks from k-means on the latents of a sample, level by level on what is left."""
        self.started = True
        if not self.config.kmeans_init:
            return
        generator = torch.Generator().manual_seed(self.config.seed)
        rows = torch.randperm(len(self.features), generator=generator)[:KMEANS_ROWS]
        with torch.no_grad():
            self.model.train()  # with the batch's own statistics: the running ones may know nothing yet
            residual = self.model.encoder(self._rows(rows))
            for level in self.model.quantizer.quantizers:
                table = kmeans(residual, self.config.codewords, starts=self.config.kmeans_n_init, generator=generator)
                level.vectors.weight.copy_(table)
                code = squared_distances(residual, table).argmin(1)
                share = torch.bincount(code, minlength=len(table)) / len(code)
                level.keep(torch.arange(len(table)), share * self.config.batch_size)
                residual = residual - table[code]

    def settle(self, epoch: int) -> None:
        """Give every row its codes for good, and the codebooks what they stand for."""
        self.model.eval()
        quantizers = self.model.quantizer.quantizers
        with torch.no_grad():
            rows = torch.arange(len(self.features))
            latents = torch.cat([self.model.encoder(self._rows(part)) for part in rows.split(KMEANS_ROWS)])
            self.codes, tables = settled(latents, [level.vectors.weight for level in quantizers])
            for level, table in zip(quantizers, tables, strict=True):
                level.vectors.weight.copy_(table)
                level.keep(torch.arange(len(table)), self.config.batch_size / len(table))
        self.settled_at = epoch - 1

    def step(self, epoch: int) -> Epoch:
        """One pass over all rows, in an order that depends on the seed and the epoch alone."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.features))
        warm = int(config.epochs * config.warmup)
        if not self.started and epoch > warm:
            self.start()
        if self.codes is None and self.started and epoch > max(warm + 1, round(config.epochs * (1 - config.settle))):
            self.settle(epoch)
        sums = np.zeros(4)
        batches = [part for part in order.split(config.batch_size) if len(part) > 1]  # BatchNorm needs two rows
        self.model.train()
        uses = [torch.zeros(config.codewords) for _ in range(config.levels)]
        for number, rows in enumerate(batches):
            if self.codes is not None:
                self._slow_down(epoch - 1 + number / len(batches))
            sums += self._batch(rows, uses, last=number + 1 == len(batches), spread=epoch > config.diversity_start)
        loss, reconstruction, quantization, diversity = (sums / len(batches)).tolist()
        if not math.isfinite(loss):
            raise SemanticIdError(f"The loss is no number any more in epoch {epoch}: train with a lower learning rate")
        self.epoch = epoch
        if config.solve and self.started and epoch == config.epochs and config.recon_weight > 0:
            solve_decoder(self.model, self.features)
        quality, best = None, False
        if self.started and (epoch % config.check_every == 0 or epoch == config.epochs):
            self.model.eval()
            quality = quality_of(self.model, self.features, self.baseline)
            best = self._judge(quality)
        return Epoch(
            epoch, config.epochs, loss, reconstruction, quantization, diversity, self.baseline.error, quality, best
        )

    def _judge(self, quality: Quality) -> bool:
        """Whether this is the best model so far; it is kept then."""
        fault = quality.fault(reconstructs=self.config.recon_weight > 0)
        if fault is not None:
            self.fault = fault
            return False
        if best := quality.score < self.best:
            self.best = quality.score
            self.best_state = copy.deepcopy(self.model.state_dict())
        return best

    def _slow_down(self, done: float) -> None:
        """The learning rate after so many epochs: half a cosine from when codes stand still to the end."""
        share = (done - self.settled_at) / max(1, self.config.epochs - self.settled_at)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * (1 + math.cos(math.pi * min(1.0, share))) / 2

    def save(self, folder: Path, report: Epoch) -> None:
        """Both files, each whole."""
        state = {"model_state_dict": self.model.state_dict(), "epoch": report.epoch, "loss": report.loss}
        if report.best:
            write_training(folder / BEST, {**state, "collision_rate": report.collision_rate})
        more = {
            "optimizer_state_dict": self.optimizer.state_dict(),
            "best_score": self.best,
            "started": self.started,
            "settled_at": self.settled_at,
            "codes": None if self.codes is None else self.codes.to(torch.int32),
            "fault": self.fault,
            "config": self.config.plain(),
        }
        write_training(folder / CHECKPOINT, {**state, **more})

    def restore(self, folder: Path) -> None:
        """What `save` wrote."""
        path = next(path for name in (CHECKPOINT, BEST) if (path := folder / name).exists())
        held = held_training(path, self.config)
        try:
            self.model.load_state_dict(held["model_state_dict"])
        except RuntimeError:
            width = self.features.shape[1]
            raise SemanticIdError(f"{path} was trained on features of another width than {width}") from None
        self.optimizer.load_state_dict(held["optimizer_state_dict"])
        self.epoch = int(held["epoch"])
        self.best, self.fault = float(held["best_score"]), str(held["fault"])
        self.started, self.settled_at = bool(held["started"]), int(held["settled_at"])
        self.codes = None if held["codes"] is None else held["codes"].long()
        if self.codes is not None and len(self.codes) != len(self.features):
            raise SemanticIdError(f"{path} was trained on {len(self.codes):,} rows, not {len(self.features):,}")
        if math.isfinite(self.best) and (folder / BEST).exists():
            self.best_state = read_pt(folder / BEST)["model_state_dict"]

    def result(self, *, strict: bool) -> RQVAE:
        """The best model so far; UnusableModelError where none is worth keeping, unless not `strict`."""
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)
        elif strict:
            raise UnusableModelError(
                f"No model was kept: after {self.epoch:,} epochs {self.fault}; "
                "train for more epochs or with another learning rate"
            )
        self.model.eval()
        return self.model

    def _rows(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(as_float32(self.features[rows.numpy()]))

    def _batch(self, rows: Tensor, uses: list[Tensor], *, last: bool, spread: bool) -> NDArray[np.float64]:
        """One step of the optimiser; loss, reconstruction, quantization and diversity."""
        x = self._rows(rows)
        if self.codes is not None:
            return self._step(*self._settled_loss(x, self.codes[rows]))
        if not self.started:
            error = F.mse_loss(self.model.decoder(self.model.encoder(x)), x)
            return self._step(error / self.baseline.error, error)
        config = self.config
        passed = self.model(x, balanced if config.assignment == "balanced" else None)
        spread = spread and (config.div_weight > 0 or config.kl_weight > 0)
        terms = losses(self.model, x, passed, commitment=config.commitment_weight, spread=spread)
        loss = (
            config.recon_weight * terms.reconstruction / self.baseline.error
            + config.quant_weight * terms.quantization
            + config.div_weight * terms.diversity
            + config.kl_weight * terms.kl
        )
        sums = self._step(loss, terms.reconstruction, terms.quantization, terms.diversity)
        for use, code in zip(uses, passed.quantized.codes, strict=True):
            use += torch.bincount(code, minlength=len(use))
        if config.ema:
            self.model.quantizer.update_ema(passed.quantized, config.ema_decay)
        if last and config.revive_below > 0:
            even = config.batch_size / config.codewords
            self.model.quantizer.revive(uses, passed.quantized, config.revive_below, even)
        return sums

    def _settled_loss(self, x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reconstruction from the codes a row has, and how far the encoder is from being nearest to them."""
        tables = [level.vectors.weight.detach() for level in self.model.quantizer.quantizers]
        words = torch.stack([table[codes[:, level]] for level, table in enumerate(tables)]).sum(0)
        error = F.mse_loss(self.model.decoder(words), x)
        away = chosen_loss(self.model.encoder(x), tables, codes)
        return self.config.recon_weight * error / self.baseline.error + away, error, away

    def _step(self, loss: Tensor, *shown: Tensor) -> NDArray[np.float64]:
        """Of the optimiser; the loss and what is shown, filled up with 0."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for part in self.learnt:  # each part of its own: a steep loss of one does not slow the others down
            torch.nn.utils.clip_grad_norm_(part, self.config.grad_clip)
        self.optimizer.step()
        values = [float(value.detach()) for value in (loss, *shown)]
        return np.array(values + [0.0] * (4 - len(values)))
