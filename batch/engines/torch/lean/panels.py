"""A model of ours whose weights go from its files straight into the panels of products of floats, and nowhere else.

All products lie in one piece of memory, which is as large as they are and written once. Not in large pages: where the
system has to make those of small ones first, that takes longer than all else of a start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from batch.engines.torch import linear
from batch.engines.torch.bf16 import PairedLinear
from batch.engines.torch.gemm import FloatProduct
from batch.engines.torch.lean.weights import HEAD, Source, put
from batch.engines.torch.mapped import Mapped
from batch.engines.torch.native import Kernels
from batch.engines.torch.stored import Stored

ALIGNED = 64
PAIRED = linear.SIBLINGS[1]  # gates and what they gate: a panel has as many of each


def fill(source: Source, quick: Kernels, bits: int) -> None:
    """Fill the model of a source with products of 32 or 16 bits. Errors of reading are raised."""
    model = source.model
    linear.fuse(model)
    layers = [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    made = [
        FloatProduct.room(quick, layer.out_features, layer.in_features, bits, paired=name.endswith("_".join(PAIRED)))
        for name, layer in layers
    ]
    sizes = [-(-product.nbytes // ALIGNED) * ALIGNED for product in made]
    memory, at = Mapped(sum(sizes), large=False).bytes, 0
    kind: Any = linear.FloatLinear if bits == 32 else PairedLinear
    replaced: linear.Replaced = {}
    for (name, layer), product, size in zip(layers, made, sizes, strict=True):
        weights, biases = _parts(source, name)
        bias = torch.cat([part.floats() for part in biases]) if biases else None
        product.read(weights, bias, memory[at : at + size])
        at += size
        replaced[layer] = kind.restored(product)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, replaced[layer])
    linear.relink(model, replaced)
    for name in [name for name, value in model.named_parameters() if value.device.type == "meta"]:
        put(model, name, source.tensors[name].floats())
    model.eval()


def _parts(source: Source, name: str) -> tuple[list[Stored], list[Stored]]:
    """The weights of a layer of the fused model by its name, and its biases."""
    if f"{name}.weight" == HEAD:
        return [source.head], []
    parent, _, leaf = name.rpartition(".")
    names = next((parts for parts in linear.SIBLINGS if leaf == "_".join(["fused", *parts])), (leaf,))
    weights, biases = (
        [own for part in names if (own := source.tensors.get(f"{parent}.{part}.{kind}")) is not None]
        for kind in ("weight", "bias")
    )
    return weights, biases
