"""Families whose attention is written out in their classes: in packed steps it goes the way of all others.

Their projections, rotations and heads stay their own. Outside of packed steps nothing changes.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from batch.engines.torch.attention import current_plan, packed


def adapt(model: nn.Module) -> int:
    """Let the attentions of known classes see packed steps; how many."""
    count = 0
    for module in model.modules():
        name = type(module).__name__
        if name in INNER:
            _replace(module, "_attn", functools.partial(_inner, module, INNER[name](module)))
        elif name in WHOLE:
            _replace(module, "forward", functools.partial(WHOLE[name], module))
        else:
            continue
        count += 1
    return count


def counts_itself(model: nn.Module) -> bool:
    """Whether a model needs no positions, as what is added to its scores says where a token is."""
    return type(model).__name__ in ("BloomForCausalLM", "MptForCausalLM")


def _replace(module: nn.Module, name: str, ours: Callable[..., Any]) -> None:
    usual = getattr(module, name)
    if getattr(usual, "packed", False):
        return

    def either(*args: Any, **kwargs: Any) -> Any:
        return usual(*args, **kwargs) if current_plan() is None else ours(*args, **kwargs)

    either.packed = True  # type: ignore[attr-defined]
    setattr(module, name, either)


def _inner(
    module: Any,
    how: tuple[float, int | None],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """A method of its own for scores and sums. All: [1, heads, tokens, size]."""
    scale, window = how
    return packed(module, query, key, value, scale, window=window).transpose(1, 2), None


def _gpt_neo(module: Any) -> tuple[float, int | None]:
    local = module.attention_type == "local"
    return 1.0, int(module.bias[0, 0, -1].sum()) if local else None


# Of a class: the scale of scores, and the sliding window.
INNER: dict[str, Callable[[Any], tuple[float, int | None]]] = {
    "GPTJAttention": lambda module: (1 / module.scale_attn, None),
    "CodeGenAttention": lambda module: (1 / module.scale_attn, None),
    "GPTNeoSelfAttention": _gpt_neo,
    "GPTNeoXJapaneseAttention": lambda module: (1 / module.norm_factor, None),
}


def _falcon(
    module: Any,
    hidden_states: torch.Tensor,
    alibi: torch.Tensor | None,
    attention_mask: Any = None,
    layer_past: Any = None,
    position_embeddings: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    query, key, value = (x.transpose(1, 2) for x in module._split_heads(module.query_key_value(hidden_states)))
    if module.new_decoder_architecture:  # which repeats what a group shares
        key, value = (x[:, :: module.num_heads // module.num_kv_heads] for x in (key, value))
    bias = None
    if alibi is None:
        query, key = _code(module).apply_rotary_pos_emb(query, key, *position_embeddings)
    else:

        def bias(columns: int) -> torch.Tensor:
            ones = torch.ones(1, columns, dtype=torch.long, device=query.device)
            found = _code(module).build_alibi_tensor(ones, module.num_heads, query.dtype)
            slopes: torch.Tensor = found.view(module.num_heads, columns) / math.sqrt(module.head_dim)
            return slopes

    layer_past.update(key, value, module.layer_idx)
    mixed = packed(module, query, key, value, 1 / math.sqrt(module.head_dim), bias=bias)
    return module.dense(mixed.flatten(2)), None


def _bloom(
    module: Any,
    hidden_states: torch.Tensor,
    residual: torch.Tensor,
    alibi: torch.Tensor,
    attention_mask: Any = None,
    layer_past: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    query, key, value = module._reshape(module.query_key_value(hidden_states))

    def bias(columns: int) -> torch.Tensor:
        ones = torch.ones(1, columns, dtype=torch.long, device=query.device)
        found: torch.Tensor = _code(module).build_alibi_tensor(ones, module.num_heads, query.dtype)
        return found.view(module.num_heads, columns) * module.beta

    layer_past.update(key, value, module.layer_idx)
    mixed = packed(module, query, key, value, module.inv_norm_factor, bias=bias)
    return module.dense(mixed.flatten(2)) + residual, None


def _mpt(
    module: Any, hidden_states: torch.Tensor, position_bias: Any, past_key_values: Any = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    mixed = module.Wqkv(hidden_states)
    if module.clip_qkv:
        mixed = mixed.clamp(min=-module.clip_qkv, max=module.clip_qkv)
    shape = (1, hidden_states.shape[1], module.n_heads, module.head_dim)
    query, key, value = (x.reshape(shape).transpose(1, 2) for x in mixed.chunk(3, dim=2))

    def bias(columns: int) -> torch.Tensor:
        found: torch.Tensor = _code(module).build_mpt_alibi_tensor(module.n_heads, columns, device=query.device)
        return found.view(module.n_heads, columns)

    past_key_values.update(key, value, module.layer_idx)
    mixed = packed(module, query, key, value, module.softmax_scale, bias=bias)
    return module.out_proj(mixed.flatten(2)), None


def _xglm(
    module: Any, hidden_states: torch.Tensor, key_value_states: Any = None, past_key_values: Any = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    shape = (1, hidden_states.shape[1], -1, module.head_dim)
    query, key, value = (
        project(hidden_states).view(shape).transpose(1, 2) for project in (module.q_proj, module.k_proj, module.v_proj)
    )
    past_key_values.update(key, value, module.layer_idx)
    mixed = packed(module, query, key, value, module.scaling)
    return module.out_proj(mixed.flatten(2)), None


def _bert(
    module: Any, hidden_states: torch.Tensor, attention_mask: Any = None, past_key_values: Any = None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """What descends from BERT and has no position in its scores; attends to an encoder nowhere."""
    if kwargs.get("encoder_hidden_states") is not None:
        raise ValueError("the packed attention does not do this")
    shape = (*hidden_states.shape[:2], -1, module.attention_head_size)
    query, key, value = (
        project(hidden_states).view(shape).transpose(1, 2) for project in (module.query, module.key, module.value)
    )
    past_key_values.update(key, value, module.layer_idx)
    mixed = packed(module, query, key, value, 1 / math.sqrt(module.attention_head_size))
    return mixed.flatten(2), None


WHOLE: dict[str, Callable[..., tuple[torch.Tensor, None]]] = {
    "FalconAttention": _falcon,
    "BloomAttention": _bloom,
    "MptAttention": _mpt,
    "XGLMAttention": _xglm,
    **{f"{name}SelfAttention": _bert for name in ("MegatronBert", "RemBert", "BigBird", "Git")},
}


def _code(module: Any) -> Any:
    """The Python module that a class is from, for the functions beside it."""
    return importlib.import_module(type(module).__module__)
