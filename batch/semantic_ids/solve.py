"""The last layer of a stack in closed form: what is left to do when codes and the layers before it stand still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.model import RQVAE, Stack

Tensor: TypeAlias = Any  # torch is not followed by the type checker

RIDGE = 1e-3  # of the mean square of a hidden unit: what keeps weights small where rows say little
BLOCK = 4096


def solve_decoder(model: RQVAE, features: NDArray[Any], ridge: float = RIDGE) -> None:
    """Solve the decoder's projection for `features` [rows, input_dim], from the codes that the rows have; puts the
    model in eval mode.
    """
    model.eval()
    encoder = Encoder(model)
    try:
        codes = encoder.encode(features).codes
    finally:
        encoder.close()

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            yield torch.from_numpy(encoder.quantized(codes[rows])), torch.from_numpy(as_float32(features[rows]))

    solve_projection(model.decoder, pairs(), ridge)


def solve_projection(stack: Stack, pairs: Iterable[tuple[Tensor, Tensor]], ridge: float) -> None:
    """Set the projection of `stack` to the ridge regression on its hidden units, of the second of each of the pairs
    ([rows, in], [rows, out]) on the first; `ridge` counts in units of the mean square of a hidden unit.

    Takes memory for a square matrix of the last hidden width, in float64.
    """
    with torch.no_grad():
        width, outputs = stack.proj.in_features + 1, stack.proj.out_features
        square = torch.zeros((width, width), dtype=torch.float64)
        product = torch.zeros((width, outputs), dtype=torch.float64)
        for inputs, targets in pairs:
            hidden = F.pad(stack.layers(inputs), (0, 1), value=1.0).double()
            square.addmm_(hidden.t(), hidden)
            product.addmm_(hidden.t(), targets.double())
        square.diagonal()[:-1].add_(ridge * float(square.diagonal()[:-1].mean()) + 1e-12)
        solution = torch.linalg.solve(square, product).float()
        stack.proj.weight.copy_(solution[:-1].t())
        stack.proj.bias.copy_(solution[-1])
