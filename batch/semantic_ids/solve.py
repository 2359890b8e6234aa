"""The decoder's last layer in closed form: what is left to do when codes and the layers before it stand still."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.layers import as_float32
from batch.semantic_ids.model import RQVAE

RIDGE = 1e-3  # of the mean square of a hidden unit: what keeps weights small where rows say little
BLOCK = 4096


def solve_decoder(model: RQVAE, features: NDArray[Any]) -> None:
    """Set the decoder's projection to the ridge regression of `features` [rows, input_dim] on its hidden units, from
    the codes that the rows have; puts the model in eval mode.

    Takes memory for a square matrix of the decoder's last hidden width, in float64.
    """
    model.eval()
    encoder = Encoder(model)
    try:
        codes = encoder.encode(features).codes
    finally:
        encoder.close()
    with torch.no_grad():
        width, inputs = model.decoder.proj.in_features + 1, features.shape[1]
        square = torch.zeros((width, width), dtype=torch.float64)
        product = torch.zeros((width, inputs), dtype=torch.float64)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            words = torch.from_numpy(encoder.quantized(codes[rows]))
            hidden = F.pad(model.decoder.layers(words), (0, 1), value=1.0).double()
            square.addmm_(hidden.t(), hidden)
            product.addmm_(hidden.t(), torch.from_numpy(as_float32(features[rows])).double())
        square.diagonal()[:-1].add_(RIDGE * float(square.diagonal()[:-1].mean()) + 1e-12)
        solution = torch.linalg.solve(square, product).float()
        model.decoder.proj.weight.copy_(solution[:-1].t())
        model.decoder.proj.bias.copy_(solution[-1])
