"""One token's step of Mamba's states in a native call, where transformers' classes make five copies of them on the way.

All families of a kind have the same function beside their classes, by one name. In packed steps with native kernels it
is done here for what has the shapes that are known; everything else goes to the function as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from batch.engines.torch.attention import current_plan

NAMES = ("mamba_selective_state_update", "mamba2_selective_state_update")


def adapt(model: nn.Module) -> int:
    """Let the Python modules that a model's classes are from see packed steps; of how many functions."""
    count = 0
    for code in {sys.modules[type(module).__module__] for module in model.modules()}:
        for name in NAMES:
            usual = getattr(code, name, None)
            if usual is not None and not getattr(usual, "packed", False):
                setattr(code, name, _either(usual))
                count += 1
    return count


def _either(usual: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def either(*args: Any, **kwargs: Any) -> torch.Tensor:
        found = _step(*args, **kwargs)
        return usual(*args, **kwargs) if found is None else found

    either.packed = True  # type: ignore[attr-defined]
    return either


def _step(
    state: torch.Tensor,
    x: torch.Tensor,
    steps: torch.Tensor,
    rates: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    skip: torch.Tensor | None = None,
    dt_bias: torch.Tensor | None = None,
    dt_softplus: bool = False,
    z: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """The state of every row moved on in place, and what it says; None where this is not done here.

    Mamba's first kind: state [rows, channels, size], x and steps [rows, channels], rates [channels, size], b and c
    [rows, size]. Its second: state [rows, heads, wide, size], x [rows, heads, wide], b and c [rows, groups, size], and
    the same all over a head steps [rows, heads, wide] and rates [heads, wide, size]. skip and dt_bias are as steps.
    """
    plan = current_plan()
    given = [part for part in (state, x, steps, rates, b, c, skip, dt_bias, z) if part is not None]
    if plan is None or plan.native is None or any(part.dtype is not torch.float32 for part in given):
        return None
    if not state.is_contiguous() or state.dim() != x.dim() + 1:
        return None
    own = [steps, skip, dt_bias]
    if x.dim() == 3:
        spread = [part for part in (*own, rates) if part is not None]
        if any(part.stride(-1) for part in spread) or rates.stride(1):
            return None
        own = [None if part is None else part[..., 0] for part in own]
        rates = rates[:, 0, 0]
    step, per_head, bias = own
    assert step is not None
    step = step if bias is None else step + bias
    step = functional.softplus(step) if dt_softplus else step
    wide = x if x.dim() == 3 else x.unsqueeze(-1)
    parts = (part.contiguous() for part in (wide, step, rates, b, c))
    out = plan.native.kernels.state_step(state, *parts).view(x.shape)
    if per_head is not None:
        out += x * (per_head.unsqueeze(-1) if x.dim() == 3 else per_head)
    return out if z is None else out * functional.silu(z)
