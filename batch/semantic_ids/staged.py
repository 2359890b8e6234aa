"""An RQ-VAE in closed form, stage by stage, so that nothing waits for a gradient to find codes that tell rows apart.

1. The encoder's first layers carry the principal components of the features, its last hidden layer random features of
   those (Rahimi and Recht, 2007).
2. Codes: residual k-means on the components, balanced, and in the last level told apart as far as there are codes.
3. The encoder's last layer is solved for (ridge regression), so that each row lands on the sum of its codewords and its
   nearest codewords are its codes.
4. The decoder, random features of that sum, is solved for to give the features back.

With more random features than rows both regressions meet every row: the model knows its table by heart. Rows that it
has not seen get codes near those of their like, and a reconstruction that was made for other rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import nn

from batch.semantic_ids.assign import settled
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.kmeans import kmeans
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.model import RQVAE, Stack
from batch.semantic_ids.quantizer import squared_distances
from batch.semantic_ids.solve import BLOCK, solve_decoder, solve_projection
from batch.semantic_ids.training import TrainConfig

Tensor: TypeAlias = Any  # torch is not followed by the type checker

SAMPLE = 16384  # rows that codebooks start from
ROUNDS = 12  # of the subspace iteration: the components need not be exact
SPARE = 16  # directions that it carries beside those that are asked for
BIAS = 0.3  # of a random feature, in units of its input's spread


def build(features: NDArray[Any], config: TrainConfig) -> RQVAE:
    """The model of `features` [rows, input_dim], in eval mode; `config` is fitted to the rows.

    SemanticIdError where a hidden layer before the last is too narrow for the components.
    """
    generator = torch.Generator().manual_seed(config.seed)
    model = RQVAE(config.layout(features.shape[1]), dropout=config.dropout)
    model.eval()
    with torch.no_grad():
        mean, directions = components(features, config.vector_dim, generator)
        points = torch.cat([(part - mean) @ directions for part in _blocks(features)])
        spread = float(points.square().sum(1).mean().sqrt())
        randomise(model.encoder, directions.t(), -(mean @ directions), spread, generator)
        codes = _settle(model, points, config, generator)
        sums = torch.stack([level.vectors.weight[codes[:, n]] for n, level in enumerate(model.quantizer.quantizers)])
        targets = sums.sum(0)
        pairs = zip(_blocks(features), targets.split(BLOCK), strict=True)
        solve_projection(model.encoder, pairs, config.ridge)
        eye = torch.eye(config.vector_dim)
        spread = float((targets - targets.mean(0)).square().sum(1).mean().sqrt())
        randomise(model.decoder, eye, -targets.mean(0), spread, generator)
    solve_decoder(model, features, config.ridge)
    return model


def components(features: NDArray[Any], count: int, generator: Any) -> tuple[Tensor, Tensor]:
    """Mean [width] and the first `count` principal directions [width, count], near enough, by subspace iteration.

    Where rows or features are fewer, the directions that are left over are 0.
    """
    width = features.shape[1]
    mean = torch.stack([part.double().sum(0) for part in _blocks(features)]).sum(0).div(len(features)).float()
    carried = min(count + SPARE, width)
    basis = torch.linalg.qr(torch.randn((width, carried), generator=generator)).Q
    for _ in range(ROUNDS):
        product = torch.zeros((width, carried))
        for part in _blocks(features):
            away = part - mean
            product.addmm_(away.t(), away @ basis)
        basis = torch.linalg.qr(product).Q
    square = torch.zeros((carried, carried))
    for part in _blocks(features):
        inside = (part - mean) @ basis
        square.addmm_(inside.t(), inside)
    turned = torch.linalg.eigh(square).eigenvectors.flip(1)
    found = torch.zeros((width, count))
    kept = min(count, carried, len(features))
    found[:, :kept] = basis @ turned[:, :kept]
    return mean, found


def randomise(stack: Stack, weight: Tensor, bias: Tensor, spread: float, generator: Any) -> None:
    """Make the last hidden layer of `stack` random features relu(random · (x @ weight.T + bias) / spread + random).

    The layers before it carry the components (weight [components, in]) as pairs relu(v), relu(-v). SemanticIdError
    where such a layer is too narrow.
    """
    linears = [step for step in stack.layers if isinstance(step, nn.Linear)]
    if not linears:
        raise SemanticIdError("A staged training needs at least one hidden layer")
    count = len(weight)
    narrow = min((step.out_features for step in linears[:-1]), default=2 * count)
    if narrow < 2 * count:
        raise SemanticIdError(
            f"A hidden layer of {narrow} units does not carry {count} components: all but the last take {2 * count}"
        )
    for step in stack.layers:
        if isinstance(step, nn.BatchNorm1d):  # does nothing in inference
            step.reset_parameters()
            step.running_var.fill_(1 - step.eps)
    last = linears[-1].out_features
    mixed = torch.randn((last, count), generator=generator) / max(spread, 1e-12)
    eye = torch.eye(count)
    split, join = torch.cat([eye, -eye]), torch.cat([eye, -eye], dim=1)  # a value as a pair, and back
    maps = [split] * (len(linears) - 1) + [mixed]
    for number, (step, out) in enumerate(zip(linears, maps, strict=True)):
        here = out @ weight if number == 0 else out @ join
        step.weight.zero_()
        step.weight[: len(out), : here.shape[1]] = here
        step.bias.zero_()
        if number == 0:
            step.bias[: len(out)] = out @ bias
    linears[-1].bias += BIAS * torch.randn(last, generator=generator)


def _settle(model: RQVAE, points: Tensor, config: TrainConfig, generator: Any) -> Tensor:
    """Codebooks into the model, and the codes [rows, levels] that each of the points is to have."""
    quantizers = model.quantizer.quantizers
    left = points[torch.randperm(len(points), generator=generator)[:SAMPLE]]
    tables = []
    for _ in quantizers:
        tables.append(kmeans(left, config.codewords, starts=config.kmeans_n_init, generator=generator))
        left = left - tables[-1][squared_distances(left, tables[-1]).argmin(1)]
    codes, tables = settled(points, tables)
    for level, table, code in zip(quantizers, tables, codes.unbind(1), strict=True):
        level.vectors.weight.copy_(table)
        level.keep(torch.arange(len(table)), torch.bincount(code, minlength=len(table)).float())
    return codes


def _blocks(features: NDArray[Any]) -> Iterator[Tensor]:
    for start in range(0, len(features), BLOCK):
        yield torch.from_numpy(as_float32(features[start : start + BLOCK]))
