"""Models as their publishers build them, written independently of the library, and encoding the slow and plain way."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import torch
from torch import nn


def mlp(widths: list[int], *, batch_norm: bool, dropout: bool) -> nn.Module:
    """`layers.{i}` and `proj`, as in the published checkpoints."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(a, b)]
        layers += [nn.BatchNorm1d(b)] if batch_norm else []
        layers += [nn.ReLU()]
        layers += [nn.Dropout(0.1)] if dropout else []
    module = nn.Module()
    module.layers = nn.ModuleList(layers)
    module.proj = nn.Linear(widths[-2], widths[-1])
    return module


class Published(nn.Module):
    """Only names and numbers of the original; encoded by `plain_codes`."""

    def __init__(
        self,
        input_dim: int = 40,
        hidden: tuple[int, ...] = (32, 16, 8),
        vector_dim: int = 8,
        levels: int = 3,
        codewords: int = 16,
        *,
        batch_norm: bool = True,
        dropout: bool = False,
        ema: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        kinds: Any = {"batch_norm": batch_norm, "dropout": dropout}
        self.encoder = mlp([input_dim, *hidden, vector_dim], **kinds)
        self.decoder = mlp([vector_dim, *hidden[::-1], input_dim], **kinds)
        self.quantizer = nn.Module()
        self.quantizer.quantizers = nn.ModuleList()
        for _ in range(levels):
            quantizer = nn.Module()
            quantizer.vectors = nn.Embedding(codewords, vector_dim)
            if ema:
                quantizer.register_buffer("ema_cluster_size", torch.rand(codewords))
                quantizer.register_buffer("ema_w", torch.randn(codewords, vector_dim))
            self.quantizer.quantizers.append(quantizer)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.3, 2)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.2)
        self.eval()
        self._place(input_dim, codewords)

    @torch.no_grad()
    def _place(self, input_dim: int, codewords: int) -> None:
        """Codewords amid the latents, so that many of them are chosen."""
        features = torch.cat([torch.randn(500, input_dim), torch.from_numpy(one_hot(500, input_dim))])
        residual = self.run(self.encoder, features)
        for quantizer in self.quantizer.quantizers:
            table = residual[torch.randperm(1000)[:codewords]]
            quantizer.vectors.weight.copy_(table)
            residual = residual - table[torch.cdist(residual, table).argmin(1)]

    def run(self, stack: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """A stack, step by step."""
        for layer in stack.layers:
            x = layer(x)
        return stack.proj(x)


def plain_codes(model: Published, features: np.ndarray) -> np.ndarray:
    """Codes in float64, row by row, distance by distance."""
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        latents = double.run(double.encoder, torch.from_numpy(features.astype(np.float64))).numpy()
    tables = [level.vectors.weight.detach().numpy() for level in double.quantizer.quantizers]
    found = np.empty((len(features), len(tables)), dtype=np.int64)
    for row, latent in enumerate(latents):
        residual = latent.copy()
        for level, table in enumerate(tables):
            code = min(range(len(table)), key=lambda k: (((residual - table[k]) ** 2).sum(), k))
            found[row, level] = code
            residual -= table[code]
    return found


def one_hot(rows: int, width: int, seed: int = 0, ones: int = 2) -> np.ndarray:
    """float32 rows with a few ones."""
    rng = np.random.default_rng(seed)
    found = np.zeros((rows, width), dtype=np.float32)
    found[np.arange(rows)[:, None], rng.random((rows, width)).argpartition(ones, axis=1)[:, :ones]] = 1
    return found
