"""Training: it learns, it repeats, it goes on after a stop, and keeps a model that beats the mean, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from rq_models import one_hot

from batch.semantic_ids.checkpoint import load_rqvae
from batch.semantic_ids.collisions import count_collisions
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.kmeans import kmeans
from batch.semantic_ids.losses import losses
from batch.semantic_ids.model import RQVAE
from batch.semantic_ids.quality import Quality, UnusableModelError, baseline_of, quality_of
from batch.semantic_ids.solve import RIDGE, solve_decoder
from batch.semantic_ids.train import BEST, CHECKPOINT, Epoch, TrainConfig, train

pytestmark = pytest.mark.model

SMALL = TrainConfig(
    method="gradient", epochs=4, batch_size=32, lr=5e-3, hidden=(32, 16), vector_dim=8, codewords=8, kmeans_n_init=2
)
TABLE = one_hot(400, 30, ones=3)


def weights(model: RQVAE) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def rate(model: RQVAE) -> float:
    return count_collisions(Encoder(model).encode(TABLE).codes, model.codewords).rate


def test_losses_fall_and_the_epoch_that_loses_least_comes_back() -> None:
    reports: list[Epoch] = []
    model = train(TABLE, replace(SMALL, epochs=12), progress=reports.append)
    assert [r.epoch for r in reports] == list(range(1, 13))
    assert reports[-1].reconstruction < 0.9 * reports[0].reconstruction
    assert not model.training
    mean = float(np.square(TABLE - TABLE.mean(0)).mean())
    assert [r.baseline for r in reports] == [pytest.approx(mean, rel=1e-5)] * 12
    seen = [r.quality for r in reports if r.quality is not None and r.quality.fault() is None]
    best = min(seen, key=lambda quality: quality.score)
    assert [r.quality for r in reports if r.best][-1] == best
    assert rate(model) == best.collision_rate
    found = Encoder(model).encode(TABLE, reconstruction=True)
    assert found.reconstruction_error_sum == pytest.approx(best.error * len(TABLE), rel=1e-4)
    assert best.gain > 1.3


def test_a_model_no_better_than_the_mean_is_not_kept(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=2, lr=1e-7, solve=False)
    said = "after 2 epochs its reconstruction error is .* mean of all rows gives"
    with pytest.raises(UnusableModelError, match=said):
        train(TABLE, config, folder=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [CHECKPOINT]
    with pytest.raises(UnusableModelError, match=said):  # nothing left to do, and no model
        train(TABLE, config, folder=tmp_path, resume=True)
    assert isinstance(train(TABLE, config, strict=False), RQVAE)
    train(TABLE, replace(config, recon_weight=0.0))  # never meant to reconstruct


def test_a_model_whose_codes_collapsed_is_not_kept() -> None:
    good = Quality(error=0.2, baseline=1.0, collision_rate=0.1, unique=90, possible=100)
    assert good.fault() is None
    assert "collapsed: 49 different ones where there could be 100" in str(replace(good, unique=49).fault())
    assert "0.95, and predicting the mean of all rows gives 1" in str(replace(good, error=0.95).fault())
    assert "nan" in str(replace(good, error=float("nan")).fault())
    assert replace(good, error=2.0).fault(reconstructs=False) is None
    assert good.gain == 5


def test_rows_that_are_alike_are_nothing_to_learn_and_no_collisions() -> None:
    with pytest.raises(SemanticIdError, match="alike"):
        train(np.ones((40, 6), np.float32), SMALL)
    assert baseline_of(np.repeat(TABLE[:5], 9, axis=0)).distinct == len(np.unique(TABLE[:5], axis=0))


def test_the_last_layer_solved_for_is_the_ridge_regression_on_what_stands_before_it() -> None:
    model = train(TABLE, replace(SMALL, epochs=3, solve=False), strict=False)
    encoder = Encoder(model)
    codes = encoder.encode(TABLE).codes
    before = quality_of(model, TABLE, baseline_of(TABLE))
    solve_decoder(model, TABLE)
    with torch.no_grad():
        hidden = model.decoder.layers(torch.from_numpy(encoder.quantized(codes))).double()
    error = hidden @ model.decoder.proj.weight.double().t() + model.decoder.proj.bias - torch.from_numpy(TABLE)
    slope = hidden.t() @ error + RIDGE * hidden.square().sum(0).mean() * model.decoder.proj.weight.double().t()
    assert float(slope.abs().max()) < 1e-3  # no direction leads down
    assert float(error.mean(0).abs().max()) < 1e-5
    after = quality_of(model, TABLE, baseline_of(TABLE))
    assert after.error < before.error and after.unique == before.unique


def test_codewords_that_nothing_chooses_start_anew() -> None:
    model = train(TABLE, replace(SMALL, epochs=1), strict=False)
    levels = model.quantizer.quantizers
    with torch.no_grad():
        levels[1].vectors.weight[3] = 1e3
        passed = model(torch.from_numpy(TABLE))
    before = [level.vectors.weight.detach().clone() for level in levels]
    uses = [torch.full((8,), 50.0) for _ in levels]
    uses[1][3] = 0
    assert model.quantizer.revive(uses, passed.quantized, 0.1, 4.0) == 1
    pairs = zip(levels, before, strict=True)
    moved = [(level.vectors.weight != old).any(1).nonzero()[:, 0].tolist() for level, old in pairs]
    assert moved == [[], [3], []]
    word = levels[1].vectors.weight[3]
    assert bool((passed.quantized.residuals[1] == word).all(1).any())
    assert torch.equal(levels[1].ema_w[3], word * 4) and float(levels[1].ema_cluster_size[3]) == 4


def test_the_same_seed_gives_the_same_model_and_another_another() -> None:
    torch.manual_seed(1)
    first = weights(train(TABLE, SMALL))
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(weights(train(TABLE, SMALL)), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not same(weights(train(TABLE, replace(SMALL, seed=1))), first)


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({}, 2),
        ({"dropout": 0.2, "optimizer": "adamw", "weight_decay": 1e-4, "kl_weight": 0.1}, 2),
        ({"warmup": 0.5, "settle": 0.25}, 1),
        ({"warmup": 0.25, "settle": 0.25}, 3),
        ({"assignment": "nearest", "warmup": 0, "settle": 0, "ema": False}, 2),
    ],
)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    changes: dict[str, Any], after: int, tmp_path: Path
) -> None:
    config = replace(SMALL, **changes)
    expected = weights(train(TABLE, config))

    def stop(report: Epoch) -> None:
        if report.epoch == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TABLE, config, folder=tmp_path, progress=stop)
    reports: list[Epoch] = []
    model = train(TABLE, config, folder=tmp_path, resume=True, progress=reports.append)
    assert [r.epoch for r in reports] == list(range(after + 1, 5))
    assert same(weights(model), expected)
    assert same(weights(load_rqvae(tmp_path / BEST)), expected)
    assert load_rqvae(tmp_path / CHECKPOINT).input_dim == 30
    assert same(weights(train(TABLE, config, folder=tmp_path, resume=True)), expected)  # nothing left to do


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    train(TABLE, replace(SMALL, epochs=1), folder=tmp_path, strict=False)
    with pytest.raises(SemanticIdError, match=r"trained with lr 0.005, not 0.1"):
        train(TABLE, replace(SMALL, lr=0.1), folder=tmp_path, resume=True)
    with pytest.raises(SemanticIdError, match="another width than 31"):
        train(one_hot(50, 31), SMALL, folder=tmp_path, resume=True)
    torch.save({"model_state_dict": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(SemanticIdError, match="can go on"):
        train(TABLE, SMALL, folder=tmp_path, resume=True)


def test_the_published_layout_is_what_is_saved(tmp_path: Path) -> None:
    train(TABLE, replace(SMALL, dropout=0.1), folder=tmp_path)
    state = torch.load(tmp_path / BEST, weights_only=True)["model_state_dict"]
    assert {"encoder.layers.0.weight", "encoder.layers.1.running_mean", "encoder.layers.4.weight"} <= state.keys()
    assert {"encoder.proj.bias", "decoder.proj.weight", "quantizer.quantizers.2.vectors.weight"} <= state.keys()
    assert {"quantizer.quantizers.0.ema_cluster_size", "quantizer.quantizers.0.ema_w"} <= state.keys()


def test_bad_features_and_a_loss_that_explodes_are_told() -> None:
    hurt = TABLE.copy()
    hurt[7, 3] = np.nan
    with pytest.raises(SemanticIdError, match="Row 7"):
        train(hurt, SMALL)
    with pytest.raises(SemanticIdError, match="two rows"):
        train(TABLE[:1], SMALL)
    with pytest.raises(SemanticIdError, match="lower learning rate"):
        train(TABLE, replace(SMALL, lr=1e20, batch_norm=False, grad_clip=1e20))


def test_memory_mapped_bytes_train_as_floats_do(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TABLE.astype(np.uint8))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    config = replace(SMALL, epochs=1)
    assert same(weights(train(mapped, config, strict=False)), weights(train(TABLE, config, strict=False)))


def test_only_training_moves_the_codebook_s_averages() -> None:
    model = train(TABLE, replace(SMALL, epochs=1), strict=False)
    before = weights(model)
    with torch.no_grad():
        model(torch.from_numpy(TABLE))
    assert same(weights(model), before)
    passed = model(torch.from_numpy(TABLE))
    model.quantizer.update_ema(passed.quantized)
    assert not torch.equal(model.quantizer.quantizers[0].ema_w, before["quantizer.quantizers.0.ema_w"])


def test_terms_of_the_loss_are_those_written_out() -> None:
    model = train(TABLE, replace(SMALL, epochs=1), strict=False)
    x = torch.from_numpy(TABLE[:64])
    passed = model(x)
    terms = losses(model, x, passed, commitment=0.25, spread=True)
    with torch.no_grad():
        left = model.encoder(x)
        quantization = diversity = 0.0
        total = torch.zeros_like(left)
        for level in model.quantizer.quantizers:
            table = level.vectors.weight
            code = torch.cdist(left, table).argmin(1)
            quantization += 1.25 * float(((left - table[code]) ** 2).mean())
            counts = torch.bincount(code, minlength=8)
            pairs = [float((table[i] - table[j]).norm()) for i in range(8) for j in range(i)]
            diversity += float((counts - 64 / 8).abs().mean()) / (64 / 8) + 2 * sum(pairs) / len(pairs)
            total = total + table[code]
            left = left - table[code]
        reconstruction = float(((model.decoder(total) - x) ** 2).mean())
    assert float(terms.reconstruction.detach()) == pytest.approx(reconstruction, rel=1e-4)
    assert float(terms.quantization.detach()) == pytest.approx(quantization, rel=1e-4)
    assert float(terms.diversity.detach()) == pytest.approx(diversity, rel=1e-4)
    assert float(terms.kl.detach()) >= 0
    terms.diversity.backward()
    assert float(model.encoder.proj.weight.grad.abs().sum()) > 0


def test_kmeans_finds_clusters_that_are_there() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn((6, 5), generator=generator) * 10
    points = centres.repeat_interleave(40, 0) + 0.1 * torch.randn((240, 5), generator=generator)
    found = kmeans(points, 6, starts=5, generator=generator)
    assert float(torch.cdist(centres, found).amin(1).max()) < 0.2
    few = kmeans(points[:3], 6, starts=2, generator=generator)
    assert few.shape == (6, 5)
    assert bool(torch.isfinite(few).all())
