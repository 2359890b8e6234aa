"""What rows are given in training: codewords evenly used, rows kept apart."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from batch.semantic_ids.assign import apart, balanced, settled
from batch.semantic_ids.losses import chosen_loss

pytestmark = pytest.mark.model


def distances(rows: int, codewords: int, seed: int) -> torch.Tensor:
    return torch.rand((rows, codewords), generator=torch.Generator().manual_seed(seed))


@given(st.integers(2, 12), st.integers(0, 1000))
def test_codewords_are_used_evenly_though_one_is_nearest_to_all(codewords: int, seed: int) -> None:
    costs = distances(codewords * 20, codewords, seed)
    costs[:, 0] -= 1.5
    assert bool((costs.argmin(1) == 0).all())
    used = torch.bincount(balanced(costs - costs.min()), minlength=codewords)
    assert int(used.min()) >= 10
    assert int(used.max()) <= 35


def test_where_rows_are_even_already_the_nearest_is_taken() -> None:
    costs = 1 - torch.eye(8).repeat(5, 1) + 0.1 * distances(40, 8, 0)
    assert torch.equal(balanced(costs), costs.argmin(1))
    assert torch.equal(balanced(torch.zeros((6, 3))) < 3, torch.ones(6, dtype=torch.bool))  # nothing to choose by


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 1000))
def test_rows_of_a_group_share_codewords_only_where_there_are_too_few(
    groups: list[int], codewords: int, seed: int
) -> None:
    costs = distances(len(groups), codewords, seed)
    group = torch.tensor(groups)
    found = apart(group, costs)
    for value in set(groups):
        used = torch.bincount(found[group == value], minlength=codewords)
        assert int(used.max()) - int(used.min()) <= 1
    alone = [row for row, value in enumerate(groups) if groups.count(value) == 1]
    assert found[alone].tolist() == costs.argmin(1)[alone].tolist()


def test_settled_codes_tell_rows_apart_and_codebooks_are_their_means() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((400, 6), generator=generator) * torch.tensor([5.0, 1, 1, 0.1, 0.1, 0.1])
    tables = [torch.randn((8, 6), generator=generator) for _ in range(3)]
    codes, means = settled(latents, tables)
    assert len(codes.unique(dim=0)) > 350
    residual = latents
    for level, mean in enumerate(means):
        for word in codes[:, level].unique().tolist():
            assert torch.allclose(mean[word], residual[codes[:, level] == word].mean(0), atol=1e-5)
        residual = residual - mean[codes[:, level]]


def test_an_encoder_that_follows_the_loss_comes_nearest_to_its_codes() -> None:
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn((8, 6), generator=generator) * size for size in (2.0, 0.5)]
    codes = torch.randint(8, (100, 2), generator=generator)
    latents = torch.randn((100, 6), generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        chosen_loss(latents, tables, codes).backward()
        optimizer.step()
    residual = latents.detach()
    for level, table in enumerate(tables):
        assert float((torch.cdist(residual, table).argmin(1) == codes[:, level]).float().mean()) > 0.97
        residual = residual - table[codes[:, level]]
