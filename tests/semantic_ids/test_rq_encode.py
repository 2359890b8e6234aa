"""The IDs: those of a plain float64 computation, whatever the block size, order, type or number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rq_models import Published, one_hot, plain_codes

from batch.semantic_ids import encode
from batch.semantic_ids.checkpoint import load_rqvae
from batch.semantic_ids.encode import Encoder, encode_table
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.features import from_array
from batch.semantic_ids.model import RQVAE, Layout
from batch.semantic_ids.quantizer import FrozenCodebooks

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def published() -> Published:
    return Published()


@pytest.fixture(scope="module")
def model(published: Published, tmp_path_factory: pytest.TempPathFactory) -> RQVAE:
    path = tmp_path_factory.mktemp("model") / "rqvae_best.pt"
    torch.save({"model_state_dict": published.state_dict(), "epoch": 3}, path)
    return load_rqvae(path)


def in_blocks(encoder: Encoder, features: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([encoder.encode(features[i : i + size]).codes for i in range(0, len(features), size)])


def linear_model(width: int, tables: list[np.ndarray]) -> RQVAE:
    """A model whose latent is its input, so that ties can be put where one wants them."""
    model = RQVAE(Layout(width, (), width, len(tables), len(tables[0]), batch_norm=False, ema=False))
    with torch.no_grad():
        model.encoder.proj.weight.copy_(torch.eye(width))
        for level, table in zip(model.quantizer.quantizers, tables, strict=True):
            level.vectors.weight.copy_(torch.from_numpy(table))
    return model.eval()


@pytest.mark.parametrize("kind", ["dense", "one-hot"])
def test_codes_are_those_of_a_plain_computation(model: RQVAE, published: Published, kind: str) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(700, 40)).astype(np.float32) if kind == "dense" else one_hot(700, 40)
    found = Encoder(model).encode(features)
    assert found.codes.dtype == np.int32
    assert (found.codes == plain_codes(published, features)).all()
    assert len(np.unique(found.codes, axis=0)) > 30
    assert found.bad == []
    assert found.encoded == 700


@pytest.mark.parametrize("kind", ["dense", "one-hot"])
def test_block_size_order_threads_and_earlier_calls_change_nothing(model: RQVAE, kind: str) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(5000, 40)).astype(np.float32) if kind == "dense" else one_hot(5000, 40)
    encoder = Encoder(model, threads=2)
    expected = encoder.encode(features).codes
    assert (Encoder(model, threads=1).encode(features).codes == expected).all()
    assert (Encoder(model, precision="fp64").encode(features).codes == expected).all()
    for size in (1, 7, 128, 4096):
        rows = 600 if size < 128 else 5000
        assert (in_blocks(encoder, features[:rows], size) == expected[:rows]).all()
    order = rng.permutation(5000)
    assert (encoder.encode(features[order]).codes == expected[order]).all()
    encoder.close()
    assert (encoder.encode(features).codes == expected).all()


def test_encoding_leaves_the_codebook_as_it_is(model: RQVAE) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Encoder(model).encode(one_hot(300, 40))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), gap=st.sampled_from([0.0, 1e-15, 1e-9, 1e-7, 1e-6, 1e-5]))
def test_ties_and_near_ties_do_not_depend_on_the_block(seed: int, gap: float) -> None:
    """Rows halfway between two codewords, and off that by less than float32 can tell."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(8, 6)).astype(np.float32)
    table[5] = table[2]  # the same codeword twice
    second = rng.normal(size=(8, 6)).astype(np.float32) * 0.1
    model = linear_model(6, [table, second])
    pairs = rng.integers(0, 8, (300, 2))
    middle = (table[pairs[:, 0]].astype(np.float64) + table[pairs[:, 1]]) / 2
    features = (middle + gap * (table[pairs[:, 1]] - table[pairs[:, 0]])).astype(np.float32)
    encoder = Encoder(model)
    expected = encoder.encode(features).codes
    for size in (1, 7, 128):
        assert (in_blocks(encoder, features, size) == expected).all()
    order = rng.permutation(300)
    assert (encoder.encode(features[order]).codes == expected[order]).all()
    assert not (expected[:, 0] == 5).any()  # its equal has the lower index


def test_an_exact_tie_goes_to_the_lower_index() -> None:
    table = np.array([[4, 0], [0, 1], [0, -1], [1, 0]], dtype=np.float32)
    model = linear_model(2, [table])
    features = np.zeros((200, 2), dtype=np.float32)
    features[100:, 0] = 0.5
    codes = Encoder(model).encode(features).codes[:, 0]
    assert codes[:100].tolist() == [1] * 100
    assert codes[100:].tolist() == [3] * 100


def test_near_ties_are_decided_by_what_float32_features_hold() -> None:
    """Leads of 1e-6 of the distance, either way: float32 scores cannot tell, the answer is known by construction."""
    rng = np.random.default_rng(3)
    table = np.stack([np.ones(64), -np.ones(64)]).astype(np.float32)
    model = linear_model(64, [table])
    features = rng.normal(size=(400, 64)).astype(np.float32)
    features -= features.mean(axis=1, keepdims=True)
    side = np.where(rng.random(400) < 0.5, 1, -1)
    features[:, 0] += (side * 1e-5).astype(np.float32)
    truth = np.where(features.astype(np.float64).sum(axis=1) >= 0, 0, 1)
    found = Encoder(model).encode(features)
    assert found.exact == 400
    assert (found.codes[:, 0] == truth).all()


def test_noise_of_badly_scaled_layers_is_covered() -> None:
    """Large terms that cancel: the latents lose digits, and many more rows are decided in float64."""
    features = np.random.default_rng(4).normal(size=(3000, 40)).astype(np.float32)
    torch.manual_seed(0)
    model = RQVAE(Layout(40, (64,), 8, 2, 16, batch_norm=False, ema=False))
    with torch.no_grad():
        first, last = model.encoder.layers[0], model.encoder.proj
        first.weight[32:] = first.weight[:32]
        first.bias[:] = 300  # no ReLU is at rest: what it adds cancels in the next step
        last.weight[:, 32:] = -last.weight[:, :32] + 1e-3 * torch.randn(8, 32)
        latents = Encoder(model.eval())._encoder.exact(features)
        residual = latents
        for level in model.quantizer.quantizers:
            table = residual[torch.randperm(3000)[:16]].float()
            level.vectors.weight.copy_(table)
            residual = residual - table[torch.cdist(residual, table.double()).argmin(1)]
    tables = [level.vectors.weight.numpy(force=True) for level in model.quantizer.quantizers]
    calm = Encoder(linear_model(8, tables)).encode(latents.float().numpy())
    found = Encoder(model).encode(features)
    assert (found.codes == Encoder(model, precision="fp64").encode(features).codes).all()
    assert len(np.unique(found.codes, axis=0)) > 30
    assert found.exact > calm.exact


def test_rows_that_are_no_numbers_are_listed_and_change_no_other(model: RQVAE) -> None:
    for features in (one_hot(400, 40), np.random.default_rng(5).normal(size=(400, 40)).astype(np.float32)):
        expected = Encoder(model).encode(features).codes
        hurt = features.copy()
        hurt[3, 0], hurt[17, 39], hurt[399, 5] = np.nan, np.inf, -np.inf
        found = Encoder(model).encode(hurt, reconstruction=True)
        assert found.bad == [3, 17, 399]
        assert found.encoded == 397
        assert (found.codes[found.bad] == -1).all()
        kept = np.delete(np.arange(400), found.bad)
        assert (found.codes[kept] == expected[kept]).all()
        assert np.isfinite(found.quantization_error_sum)
        assert np.isfinite(found.reconstruction_error_sum)
        assert np.isnan(Encoder(model).quantized(found.codes)[found.bad]).all()


def test_all_rows_bad_and_no_rows_at_all(model: RQVAE) -> None:
    nothing = np.full((100, 40), np.nan, dtype=np.float32)
    assert Encoder(model).encode(nothing).bad == list(range(100))
    empty = Encoder(model).encode(np.empty((0, 40), dtype=np.float32), reconstruction=True)
    assert empty.codes.shape == (0, 3)
    assert empty.reconstruction_error_sum == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float16, np.float64, np.int64])
def test_zeros_and_ones_mean_the_same_in_every_type(model: RQVAE, dtype: type) -> None:
    for ones in (2, 20):  # few and many
        features = one_hot(300, 40, ones=ones)
        assert (Encoder(model).encode(features.astype(dtype)).codes == Encoder(model).encode(features).codes).all()


def test_a_table_of_another_width_is_refused_with_both_numbers(model: RQVAE) -> None:
    with pytest.raises(SemanticIdError, match=r"takes 40 features.*has 41"):
        Encoder(model).encode(np.zeros((2, 41), dtype=np.float32))
    with pytest.raises(SemanticIdError, match="numbers"):
        Encoder(model).encode(np.zeros((2, 40), dtype=complex))


def test_latents_quantised_vectors_and_errors_are_the_model_s_own(model: RQVAE, published: Published) -> None:
    features = one_hot(500, 40)
    encoder = Encoder(model)
    found = encoder.encode(features, reconstruction=True)
    with torch.no_grad():
        latents = published.run(published.encoder, torch.from_numpy(features)).numpy()
        tables = [level.vectors.weight.numpy() for level in published.quantizer.quantizers]
        sums = sum(table[found.codes[:, level]] for level, table in enumerate(tables))
        decoded = published.run(published.decoder, torch.from_numpy(sums)).numpy()
    np.testing.assert_allclose(encoder.latent(features), latents, atol=1e-5)
    np.testing.assert_allclose(encoder.quantized(found.codes), sums, atol=1e-6)
    assert found.quantization_error_sum == pytest.approx(((latents - sums) ** 2).sum(), rel=1e-4)
    assert found.reconstruction_error_sum == pytest.approx(((features - decoded) ** 2).mean(axis=1).sum(), rel=1e-4)
    assert encoder.encode(features).reconstruction_error_sum is None


def test_a_table_on_disk_is_encoded_block_by_block(model: RQVAE, tmp_path: Path) -> None:
    from batch.semantic_ids.features import open_features

    features = one_hot(1000, 40)
    np.save(tmp_path / "features.npy", features)
    expected = Encoder(model).encode(features).codes
    for table in (open_features(tmp_path / "features.npy"), from_array(features)):
        parts = list(encode_table(Encoder(model), table, block=300))
        assert [first for first, _ in parts] == [0, 300, 600, 900]
        assert (np.concatenate([codes.codes for _, codes in parts]) == expected).all()
        assert [first for first, _ in encode_table(Encoder(model), table, start=600, block=300)] == [600, 900]


def test_torch_keeps_its_number_of_threads(model: RQVAE) -> None:
    before = torch.get_num_threads()
    for threads in (1, 3):
        encoder = Encoder(model, threads=threads)
        encoder.encode(one_hot(encode.ROWS * 3, 40))
        encoder.close()
        assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="at least 1"):
        Encoder(model, threads=0)


def test_the_search_is_that_over_all_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((3000, 64), generator=generator)
    tables = torch.randn((3, 32, 64), generator=generator) * torch.tensor([1, 0.6, 0.4])[:, None, None]
    residual, expected = latents.double(), []
    for table in tables.double():
        code = (residual[:, None] - table).square().sum(2).argmin(1)
        expected.append(code)
        residual = residual - table[code]
    books = FrozenCodebooks(tables)
    assert torch.equal(books.encode(latents), torch.stack(expected, 1))
    assert torch.equal(books.encode(latents, block=77), torch.stack(expected, 1))
    found = books.search(latents, errors=True)
    assert 0 < int(found.close.sum()) < 30
    clear = ~found.close
    np.testing.assert_allclose(found.errors[clear], residual.square().sum(1)[clear], rtol=1e-4)
