"""Linear layers made faster after loading: siblings that read the same input fused, oneDNN's layout or int8 on CPUs.

All replace `nn.Linear` modules inside whatever model class transformers loaded; the model's own code stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from batch.engines.torch.experts import SplitExperts, is_split, layers_of
from batch.engines.torch.gemm import FloatProduct, PackedProduct, Product, round_weight
from batch.engines.torch.native import Kernels, kernels

TURNS = 6  # of the trial of two products
ROUNDS = 4  # of so many turns, before a product of ours is passed over
TRIED = (4, 32)  # rows of it
LOOKED_AT = 64  # inputs of a layer, where what was rounded is compared
UP = ("gate_up_proj", "up_proj")  # of experts
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
PLAIN = ("FalconLinear",)  # linear layers by another name, which nothing here would know


Replaced = dict[nn.Module, nn.Module]  # a layer, and what stands in its place


class PackedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer whose weight lies in oneDNN's own layout: the same product, from a library that knows the CPU.

    torch's usual product is MKL's, which leaves half of an AMD processor's vector width unused.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = None if linear.bias is None else linear.bias.detach()

    @property
    def weight(self) -> torch.Tensor:
        """A copy in the plain layout, [out, in]."""
        weight: torch.Tensor = self.packed.to_dense()
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


class FloatLinear(nn.Module):  # type: ignore[misc]
    """A linear layer over our own product of floats, whose sums are the same whatever rows stand beside a row's own.

    Whole layers of such products run in one call of the kernels.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        quick = kernels()
        if quick is None:
            raise NotImplementedError("there are no native kernels")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.product = FloatProduct(quick, linear.weight.detach(), self.bias, 32)

    @classmethod
    def restored(cls, product: FloatProduct) -> FloatLinear:
        """A layer over a product that has its numbers."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.in_features, made.out_features = product.inputs, product.outputs
        made.bias, made.product = product.bias, product
        return made

    @property
    def weight(self) -> torch.Tensor:
        """A copy in the plain layout, [out, in]."""
        return self.product.plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out]."""
        flat = x.reshape(-1, self.in_features).contiguous()
        return self.product(flat).view(*x.shape[:-1], self.out_features)


class RoundedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer over a product with rounded weights; fp32 in and out."""

    rounds = True
    product: Callable[[torch.Tensor], torch.Tensor]

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dtype = inputs, outputs, dtype

    @classmethod
    def restored(cls, product: Product) -> RoundedLinear:
        """A layer over a product that has its numbers."""
        made = RoundedLinear(product.inputs, product.outputs)
        made.product = product
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out]."""
        flat = x.reshape(-1, self.in_features).float().contiguous()
        return self.product(flat).view(*x.shape[:-1], self.out_features).to(self.dtype)


class Int8Linear(RoundedLinear):
    """Weights and activations in int8, a scale for each token of the input.

    A token's scale comes from that token alone, so an answer does not depend on who else is in the batch. The product
    is that of gemm.c where the CPU has AVX-512 VNNI, with a step for every block of a weight's inputs; else oneDNN's
    (u8 × s8), with one for each output.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.weight.dtype)
        self.product = rounded_product(linear, 8, OneDnnProduct)


def rounded_product(linear: nn.Linear, bits: int, otherwise: Callable[..., Any]) -> Any:
    """Our product in so many bits; where the kernels have none: `otherwise` of kernels, weight and bias in float32."""
    weight = linear.weight.detach().float()  # [out, in]
    bias = None if linear.bias is None else linear.bias.detach().float()
    quick = kernels()
    if quick is not None and quick.panel:
        return PackedProduct(quick, round_weight(weight, bits), bias)
    return otherwise(quick, weight, bias)


class OneDnnProduct:
    """What `PackedProduct` is in int8, by oneDNN: VNNI or AMX where the CPU has it. weight: float32, [out, in]."""

    def __init__(self, quick: Kernels | None, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.quick, self.bias = quick, bias
        self.scale = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        quantised = (weight / self.scale.unsqueeze(1)).round().clamp(-127, 127).to(torch.int8)
        self.zero = torch.zeros(len(self.scale), dtype=torch.int32)
        self.packed = torch.ops.onednn.qlinear_prepack(quantised, [64, weight.shape[1]])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32, [rows, in], contiguous; returns [rows, out]."""
        if self.quick is not None:
            rows, scale = self.quick.quantise(x)
        else:
            scale = x.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).div_(127)
            # 128 is the zero point; the half makes the cut of the conversion a rounding
            rows = (x / scale).add_(128.5).to(torch.uint8)
        out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, self.packed, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        if self.quick is not None:
            self.quick.rescale(out, scale, self.bias)
        else:
            out *= scale
            if self.bias is not None:
                out += self.bias
        return out


class _Fused:
    """One product for several siblings; each takes its part of the output for the same input."""

    def __init__(self, linear: nn.Module, sizes: list[int]) -> None:
        self.linear = linear
        self.sizes = sizes
        self._input: torch.Tensor | None = None
        self._parts: list[torch.Tensor | None] = []

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if x is not self._input or self._parts[index] is None:
            self._input = x
            self._parts = list(self.linear(x).split(self.sizes, dim=-1))
        found = self._parts[index]
        assert found is not None
        self._parts[index] = None  # each is read once; nothing is held longer than needed
        if not any(part is not None for part in self._parts):
            self._input = None
        return found


class FusedPart(nn.Module):  # type: ignore[misc]
    """A linear layer whose product is computed together with its siblings'."""

    def __init__(self, fused: _Fused, index: int, linear: nn.Linear) -> None:
        super().__init__()
        self._fused, self._index = fused, index
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., in]; returns [..., out], a view into the siblings' common output."""
        return self._fused.part(self._index, x)


def fuse(model: nn.Module) -> int:
    """Fuse the siblings of every block that has them; how many groups there were."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in PLAIN:
                setattr(module, name, _plain(child))
    count = 0
    for module in list(model.modules()):
        for names in SIBLINGS:
            linears: list[Any] = [getattr(module, name, None) for name in names]
            if not all(type(linear) is nn.Linear for linear in linears):
                continue
            first = linears[0]
            alike = {(x.in_features, x.bias is None, x.weight.dtype, x.weight.device) for x in linears}
            if len(alike) != 1:
                continue
            sizes = [x.out_features for x in linears]
            whole = without_numbers(first.in_features, sum(sizes), bias=first.bias is not None)
            whole.weight = _together([x.weight.data for x in linears])
            if first.bias is not None:
                whole.bias = _together([x.bias.data for x in linears])
            module.add_module("_".join(["fused", *names]), whole)
            holder = _Fused(whole, sizes)
            for i, (name, linear) in enumerate(zip(names, linears, strict=True)):
                setattr(module, name, FusedPart(holder, i, linear))
            count += 1
    return count


def _plain(linear: nn.Linear) -> nn.Linear:
    made = without_numbers(linear.in_features, linear.out_features, bias=linear.bias is not None)
    made.weight, made.bias = linear.weight, linear.bias
    return made


def without_numbers(inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    """A linear layer on "meta", where no memory and no time is taken for the random numbers that would come first."""
    made = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(made)
    made.in_features, made.out_features = inputs, outputs
    made.weight = nn.Parameter(torch.empty(outputs, inputs, device="meta"), requires_grad=False)
    made.register_parameter(
        "bias", nn.Parameter(torch.empty(outputs, device="meta"), requires_grad=False) if bias else None
    )
    return made


def _together(parts: list[torch.Tensor]) -> nn.Parameter:
    """One after the other; on "meta" by their shapes alone, as torch's own way there imports its compiler."""
    first = parts[0]
    if first.device.type != "meta":
        return nn.Parameter(torch.cat(parts), requires_grad=False)
    return nn.Parameter(first.new_empty(sum(map(len, parts)), *first.shape[1:]), requires_grad=False)


def plain(model: nn.Module) -> int:
    """Put `nn.Linear` in the place of layers that are the same by another name, Falcon's or GPT-2's; how many."""
    same: dict[type, bool] = {}
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            turned = type(child).__name__ == "Conv1D"  # its weights are [in, out]
            if type(child) is nn.Linear or not (turned or isinstance(child, nn.Linear)):
                continue
            weight = child.weight.detach()
            weight = weight.T if turned else weight
            made = nn.Linear(weight.shape[1], weight.shape[0], bias=child.bias is not None, device="meta")
            made.weight = nn.Parameter(weight.contiguous(), requires_grad=False) if turned else child.weight
            if child.bias is not None:
                made.bias = child.bias
            if type(child) not in same:
                same[type(child)] = _same(child, made)
            if same[type(child)]:
                setattr(parent, name, made)
                count += 1
    return count


def _same(layer: nn.Module, made: nn.Linear) -> bool:
    """Whether both say the same of something: others make more of a product, as routers do."""
    x = torch.randn(3, made.in_features, dtype=made.weight.dtype, device=made.weight.device)
    with torch.inference_mode():
        found = layer(x)
        return isinstance(found, torch.Tensor) and torch.allclose(found, made(x), rtol=1e-3, atol=1e-3)


def quantise(model: nn.Module) -> int:
    """Put every linear layer, the head and experts too, into int8; how many. Embeddings stay as they are."""
    return replace(model, Int8Linear, split=True)


def quantise_told(part: nn.Module) -> float:
    """`quantise`, and how far it took the largest layer's weights: root mean square, as a share of their own."""
    layers = {name: module for name, module in part.named_modules() if type(module) is nn.Linear}
    name = max(layers, key=lambda name: layers[name].weight.numel(), default="")
    quantise(part)
    return rounding(layers[name], part.get_submodule(name)) if name else 0.0


def rounding(before: nn.Linear, after: nn.Module) -> float:
    """How far a layer's weights are from what they were, by what it makes of some of its inputs."""
    some = torch.arange(0, before.in_features, max(1, before.in_features // LOOKED_AT))
    ones = torch.zeros(len(some), before.in_features, dtype=before.weight.dtype)
    ones[torch.arange(len(some)), some] = 1
    with torch.inference_mode():
        exact = before.weight.detach()[:, some].T.float()
        found = after(ones).float() - (0 if before.bias is None else before.bias.float())
        return float((found - exact).norm() / exact.norm().clamp(min=1e-30))


def pack(model: nn.Module, kind: type[nn.Module] | None = None) -> int:
    """Put every linear layer, the head's and experts' too, into the layout whose fp32 product is fastest; how many.

    `kind`: what `fastest` said, where it was asked already.
    """
    kind = kind or fastest()
    return 0 if kind is nn.Linear else replace(model, kind, split=True)


def replace(
    model: nn.Module,
    make: Callable[[nn.Linear], nn.Module],
    *,
    split: bool = False,
    takes: Callable[[nn.Linear], bool] = lambda layer: True,
) -> int:
    """Put what `make` makes of it in the place of every linear layer that it takes; how many.

    `split`: of experts too, which are taken all or none.
    """
    replaced: Replaced = {}
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and takes(child):
                if child not in replaced:
                    replaced[child] = make(child)
                setattr(parent, name, replaced[child])
                count += 1
            elif split and is_split(child):
                layers = [layers_of(child, kind)[0] for kind in ("down_proj", *UP) if hasattr(child, kind)]
                if all(map(takes, layers)):
                    setattr(parent, name, SplitExperts(child, make))
                    count += 1
    relink(model, replaced)
    return count


def joined(parts: Sequence[Any]) -> nn.Module | None:
    """One layer of what several give, where they are of products of ours, and whole panels; else None."""
    products: list[Any] = [getattr(part, "product", None) for part in parts]
    kinds = {type(product) for product in products}
    if not all(isinstance(product, Product) for product in products) or len(kinds) > 1:
        return None
    if any(product.outputs % product.panel or product.paired for product in products[:-1]):
        return None
    kind: Any = FloatLinear if isinstance(parts[0], FloatLinear) else RoundedLinear
    made: nn.Module = kind.restored(products[0].joined(products))
    return made


def relink(model: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> None:
    """Let fused parts use what was put in the place of their common layer.

    The old layers themselves are the keys: a freed one's `id` could be that of a new one.
    """
    for holder in {module._fused: None for module in model.modules() if isinstance(module, FusedPart)}:
        holder.linear = replaced.get(holder.linear, holder.linear)


def rounds(model: nn.Module) -> bool:
    """Whether numbers are rounded on the way through it, so that sums in another order may differ by a step."""
    return model.dtype != torch.float32 or any(getattr(module, "rounds", False) for module in model.modules())


def fastest() -> type[nn.Module]:
    """The kind of layer whose fp32 product is fastest here, by a trial of some milliseconds.

    A layer as wide as gates are, over few rows and over a batch of them: narrow ones and many rows differ the least, so
    that what else runs beside the trial would decide it. Our own where it is not clearly slower: whole layers in one
    call gain more than the trial sees. It is passed over only where it stays so for several rounds, each product by its
    best time of all: on a busy machine a single round may have been in others' turns.
    """
    found: type[nn.Module] = nn.Linear
    with torch.inference_mode():
        plain = nn.Linear(512, 2816)
        for kind, gain, rounds in ((PackedLinear, 1.2, 1), (FloatLinear, 0.9, ROUNDS)):
            try:
                usual, other = (plain if k is nn.Linear else k(plain) for k in (found, kind))
                inputs = [torch.randn(rows, 512) for rows in TRIED]
                if not all(torch.allclose(other(x), plain(x), rtol=1e-4, atol=1e-4) for x in inputs):
                    continue
                if sooner(other, usual, inputs, gain, rounds):
                    found = kind
            except (RuntimeError, AttributeError, NotImplementedError):
                continue
    return found


def sooner(one: nn.Module, other: nn.Module, inputs: Sequence[torch.Tensor], gain: float, rounds: int) -> bool:
    """Whether one layer's time for all inputs, times `gain`, is below another's in one of so many rounds."""
    best: list[tuple[float, float]] = [(float("inf"), float("inf"))] * len(inputs)
    for _ in range(rounds):
        best = [_best(before, one, other, x) for before, x in zip(best, inputs, strict=True)]
        if sum(its for its, _ in best) * gain < sum(theirs for _, theirs in best):
            return True
    return False


def _best(before: tuple[float, float], one: nn.Module, other: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """The best seconds of two layers, in turns as others may run beside, and those known before."""
    times = [before, *((took(one, x), took(other, x)) for _ in range(TURNS))]
    return min(first for first, _ in times), min(second for _, second in times)


def took(layer: nn.Module, x: torch.Tensor) -> float:
    """Seconds of one pass."""
    start = time.perf_counter()
    layer(x)
    return time.perf_counter() - start


def has_int8() -> bool:
    """Whether there is an int8 product here that is right on this CPU."""
    return works(Int8Linear, 0.1)


def works(make: Callable[[nn.Linear], nn.Module], tolerance: float) -> bool:
    """Whether this torch has what a kind of layer is made of, and comes that near to the plain product."""
    try:
        torch.manual_seed(0)
        linear = nn.Linear(64, 32)
        x = torch.randn(8, 64)
        with torch.inference_mode():
            return bool(((make(linear)(x) - linear(x)).abs().max() < tolerance).item())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
