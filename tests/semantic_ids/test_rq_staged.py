"""A model in closed form: an ordinary RQ-VAE that gives its table back and tells its rows apart."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from numpy.typing import NDArray
from rq_models import one_hot

from batch.semantic_ids.checkpoint import load_rqvae
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.model import Stack
from batch.semantic_ids.quality import UnusableModelError, baseline_of, quality_of
from batch.semantic_ids.staged import components, randomise
from batch.semantic_ids.train import BEST, Epoch, TrainConfig, train

pytestmark = pytest.mark.model

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "semantic_ids"))

from city import City, features  # noqa: E402

TOWN = features(City("NYC", places=600, categories=40, regions=20, users=200, seed=3))
CONFIG = TrainConfig(codewords=20, vector_dim=32, kmeans_n_init=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Epoch]]:
    folder, reports = tmp_path_factory.mktemp("staged"), []
    train(TOWN, CONFIG, folder=folder, progress=reports.append)
    return folder, reports


def test_a_town_comes_back_ten_times_better_than_its_mean_with_few_collisions(
    trained: tuple[Path, list[Epoch]],
) -> None:
    folder, reports = trained
    model = load_rqvae(folder / BEST)  # what a user encodes with: nothing but the file
    found = quality_of(model, TOWN, baseline_of(TOWN))
    assert found.gain >= 10 and found.collision_rate < 0.15
    assert [report.quality for report in reports] == [found] and reports[0].best
    error = 0.0  # the slow and plain way, in float64, with torch's own modules
    double = load_rqvae(folder / BEST).double()
    with torch.no_grad():
        x = torch.from_numpy(TOWN.astype(np.float64))
        left, total = double.encoder(x), 0
        codes = []
        for level in double.quantizer.quantizers:
            table = level.vectors.weight
            code = torch.cdist(left, table).argmin(1)
            codes.append(code)
            left, total = left - table[code], total + table[code]
        error = float((double.decoder(total) - x).square().mean())
    assert error == pytest.approx(found.error, rel=0.02)
    assert len(torch.stack(codes, 1).unique(dim=0)) == found.unique


def test_the_same_seed_gives_the_same_model_and_what_is_there_is_kept(
    trained: tuple[Path, list[Epoch]],
) -> None:
    folder, _ = trained
    here = load_rqvae(folder / BEST).state_dict()
    again = train(TOWN, CONFIG).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in here.items())
    kept = train(TOWN, CONFIG, folder=folder, resume=True, progress=lambda _: pytest.fail("trained again")).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in here.items())
    with pytest.raises(SemanticIdError, match="with codewords 20, not 8"):
        train(TOWN, replace(CONFIG, codewords=8), folder=folder, resume=True)
    with pytest.raises(SemanticIdError, match="with method staged, not gradient"):
        train(TOWN, replace(CONFIG, method="gradient"), folder=folder, resume=True)
    with pytest.raises(SemanticIdError, match="another width than 30"):
        train(one_hot(600, 30), CONFIG, folder=folder, resume=True)


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        (one_hot(300, 30, ones=3), {}),
        (one_hot(300, 30, ones=3), {"batch_norm": False, "ema": False, "dropout": 0.2}),
        (one_hot(20, 30, ones=3), {"codewords": 32}),  # fewer rows than codewords, and than components
        (np.random.default_rng(0).normal(5, 3, (300, 6)).astype(np.float32), {}),  # fewer features than components
        (np.random.default_rng(0).integers(0, 255, (300, 40)).astype(np.uint8), {"hidden": (300,)}),
        (np.random.default_rng(0).normal(0, 1e-4, (300, 40)), {"levels": 2, "hidden": (80, 70, 400)}),
    ],
)
def test_tables_of_other_shapes_and_scales_come_back_too(table: NDArray[Any], changes: dict[str, Any]) -> None:
    config = replace(CONFIG, codewords=changes.pop("codewords", 20), **changes)
    found = quality_of(train(table, config), table, baseline_of(table))
    assert found.gain >= 10 and found.collision_rate < 0.15


def test_what_cannot_come_out_well_is_said() -> None:
    with pytest.raises(SemanticIdError, match="63 units does not carry 32 components: all but the last take 64"):
        train(TOWN, replace(CONFIG, hidden=(63, 500)))
    with pytest.raises(SemanticIdError, match="at least one hidden layer"):
        train(TOWN, replace(CONFIG, hidden=(), decoder_hidden=(9,)))
    with pytest.raises(UnusableModelError, match=r"its reconstruction error is .*more codewords"):
        noise = np.random.default_rng(0).normal(size=(300, 40))
        train(noise, replace(CONFIG, codewords=10, hidden=(64, 2)))


def test_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(4)
    table = (rng.normal(size=(400, 60)) * np.linspace(5, 0.1, 60)).astype(np.float32) + 2
    mean, found = components(table, 8, torch.Generator().manual_seed(0))
    centred = table - table.mean(0)
    best = np.linalg.svd(centred, compute_uv=False)[:8]
    assert np.allclose(mean, table.mean(0), atol=1e-4)
    assert np.allclose(found.T @ found, np.eye(8), atol=1e-4)
    assert np.linalg.norm(centred @ found.numpy(), axis=0) == pytest.approx(best, rel=0.02)


def test_narrow_layers_carry_the_components_exactly() -> None:
    stack = Stack(7, (6, 9, 50), 4, batch_norm=True, dropout=None).eval()
    weight, bias = torch.randn(3, 7), torch.randn(3)
    x = torch.randn(20, 7)
    with torch.no_grad():
        randomise(stack, weight, bias, 2.0, torch.Generator().manual_seed(5))
        generator = torch.Generator().manual_seed(5)
        mixed = torch.randn((50, 3), generator=generator) / 2
        expected = ((x @ weight.t() + bias) @ mixed.t() + 0.3 * torch.randn(50, generator=generator)).relu()
        assert torch.allclose(stack.layers(x), expected, atol=1e-4)


def test_rows_that_were_not_seen_have_ids_too() -> None:
    model = train(TOWN[:450], CONFIG)
    codes = Encoder(model).encode(TOWN[450:]).codes
    assert codes.min() >= 0 and len(np.unique(codes, axis=0)) > 75
