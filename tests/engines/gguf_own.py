"""What llama.cpp's converter writes otherwise than transformers has it: Gemma 4, LFM2, Qwen 3.5, gpt-oss, MiniMax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_QWEN35 = {
    **{"num_hidden_layers": 4, "full_attention_interval": 2, "head_dim": 32, "linear_conv_kernel_dim": 4},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "rope_parameters": {
        **{"rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 0.5},
        **{"mrope_section": [3, 3, 2], "mrope_interleaved": True},
    },
}
_YARN = {"rope_type": "yarn", "rope_theta": 15e4, "factor": 4.0, "original_max_position_embeddings": 32}
_YARN |= {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False}
_GEMMA4 = {
    **{"num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3, "sliding_window": 8},
    **{"head_dim": 16, "global_head_dim": 32, "hidden_size_per_layer_input": 0, "final_logit_softcapping": 30.0},
    **{"vocab_size_per_layer_input": 603, "tie_word_embeddings": True},
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
    },
}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gemma4-e": (
        "gemma4",
        "gemma4_text",
        _GEMMA4 | {"hidden_size_per_layer_input": 16, "num_kv_shared_layers": 2, "use_double_wide_mlp": True},
    ),
    "gemma4-moe": (
        "gemma4",
        "gemma4_text",
        {
            **_GEMMA4,
            **{"attention_k_eq_v": True, "num_global_key_value_heads": 1, "enable_moe_block": True},
            **{"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
        },
    ),
    "lfm2": ("lfm2", "lfm2", {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]}),
    "qwen35": ("qwen35", "qwen3_5_text", _QWEN35),
    "qwen35moe": (
        "qwen35moe",
        "qwen3_5_moe_text",
        {
            **_QWEN35,
            **{"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
            "shared_expert_intermediate_size": 48,
        },
    ),
    "gpt-oss": (
        "gpt-oss",
        "gpt_oss",
        {
            **{"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
            **{"rope_parameters": _YARN, "tie_word_embeddings": False},
        },
    ),
    "minimax-m2": (
        "minimax-m2",
        "minimax_m2",
        {
            **{"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32},
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
    ),
}
KEYS: dict[str, str | None] = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
}
STORED = ("gemma4", "lfm2", "qwen35", "qwen35moe", "gpt-oss")


def values(arch: str, config: Any) -> dict[str, Any]:
    """Keys beside the usual ones."""
    heads = getattr(config, "num_key_value_heads", None)
    if arch == "lfm2":
        kv = [heads if kind == "full_attention" else 0 for kind in config.layer_types]
        return {
            **{"attention.head_count_kv": kv, "shortconv.l_cache": config.conv_L_cache},
            "attention.layer_norm_rms_epsilon": config.norm_eps,
        }
    if arch not in (*STORED, "minimax-m2"):
        return {}
    if arch == "gemma4":
        return _gemma4(config)
    said = {"attention.head_count_kv": heads, "attention.layer_norm_rms_epsilon": config.rms_norm_eps}
    said |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if arch == "minimax-m2":
        return (
            said
            | {"expert_feed_forward_length": config.intermediate_size, "expert_gating_func": 2}
            | {"rope.dimension_count": config.head_dim // 2}
        )
    if arch == "gpt-oss":
        return said | {
            **{"expert_count": config.num_local_experts, "expert_used_count": config.num_experts_per_tok},
            **{"expert_feed_forward_length": config.intermediate_size, "attention.sliding_window": 8},
            **{"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            "rope.scaling.original_context_length": 32,
        }
    said |= {"rope.dimension_count": config.head_dim // 2, "rope.dimension_sections": [3, 3, 2, 0]}
    said |= {"full_attention_interval": 2, "ssm.conv_kernel": 4, "ssm.state_size": config.linear_key_head_dim}
    said |= {"ssm.group_count": config.linear_num_key_heads, "ssm.time_step_rank": config.linear_num_value_heads}
    said |= {"ssm.inner_size": config.linear_num_value_heads * config.linear_value_head_dim}
    if arch == "qwen35moe":
        said |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok}
        said |= {"expert_feed_forward_length": config.moe_intermediate_size}
        said |= {"expert_shared_feed_forward_length": config.shared_expert_intermediate_size}
    return said


def _gemma4(config: Any) -> dict[str, Any]:
    slides = [kind == "sliding_attention" for kind in config.layer_types]
    layers, shared = len(slides), config.num_kv_shared_layers
    heads: Any = config.num_key_value_heads
    if config.attention_k_eq_v:
        heads = [
            heads if narrow else config.per_layer_config[at].num_key_value_heads for at, narrow in enumerate(slides)
        ]
    inner: Any = config.intermediate_size
    if config.use_double_wide_mlp:
        inner = [inner * (1 + (layer >= layers - shared)) for layer in range(layers)]
    wide = config.per_layer_config[layers - 1].head_dim
    said = {
        **{"attention.head_count_kv": heads, "feed_forward_length": inner, "attention.sliding_window": 8},
        **{"attention.layer_norm_rms_epsilon": config.rms_norm_eps, "attention.shared_kv_layers": shared},
        **{"embedding_length_per_layer_input": config.hidden_size_per_layer_input},
        **{"attention.sliding_window_pattern": slides, "final_logit_softcapping": config.final_logit_softcapping},
        **{"attention.key_length": wide, "attention.value_length": wide, "rope.dimension_count": wide},
        **{"attention.key_length_swa": config.head_dim, "attention.value_length_swa": config.head_dim},
        **{"rope.dimension_count_swa": config.head_dim, "rope.freq_base": 1e6, "rope.freq_base_swa": 1e4},
    }
    if config.enable_moe_block:
        said |= {"expert_count": config.num_experts, "expert_used_count": config.top_k_experts}
        said |= {"expert_feed_forward_length": config.moe_intermediate_size}
    return said


def stored(arch: str, config: Any, name: str, weights: Any) -> Iterator[tuple[str, Any]]:
    """A tensor as such a file has it, which may be two."""
    if arch == "gemma4":
        yield name + ".weight" * name.endswith(("_exps", "layer_output_scale")), weights
    elif arch == "lfm2":
        yield name, weights.squeeze(1) if "shortconv.conv." in name else weights
    elif arch == "gpt-oss":
        yield from _gpt_oss(name, weights)
    else:
        yield from _qwen35(config, name, weights)


def unnamed(arch: str, config: Any, weights: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Those that the converter names before the library's table is asked."""
    for place, value in weights.items():
        if arch.startswith("qwen35") and place.endswith("linear_attn.dt_bias"):
            yield f"blk.{place.split('.')[2]}.ssm_dt.bias", _tiled(config, value, 1)
        if arch == "gpt-oss" and ".experts." in place:
            yield from _experts(place, value)
        if arch == "gemma4" and place.endswith(("router.scale", "per_expert_scale")):
            layer, last = place.split(".")[2], place.endswith("per_expert_scale")
            yield f"blk.{layer}.{'ffn_down_exps' if last else 'ffn_gate_inp'}.scale", value
    if arch == "gemma4":
        if config.num_kv_shared_layers:  # whose checkpoints have keys and values that nothing is done with
            yield f"blk.{len(config.layer_types) - 1}.attn_k.weight", np.ones((64, config.hidden_size))
        wide = config.per_layer_config[len(config.layer_types) - 1].head_dim
        turned = int(wide * 0.25 / 2)
        yield "rope_freqs.weight", np.array([1.0] * turned + [1e30] * (wide // 2 - turned))


def _experts(place: str, weights: Any) -> Iterator[tuple[str, Any]]:
    """gpt-oss has its experts turned, and gates and what they are for in turn."""
    layer, bias = place.split(".")[2], place.endswith("_bias")
    turned, ending = weights if bias else weights.swapaxes(-1, -2), "bias" if bias else "weight"
    if "down" in place:
        yield f"blk.{layer}.ffn_down_exps.{ending}", turned
        return
    for kind, half in (("gate", turned[:, ::2]), ("up", turned[:, 1::2])):
        yield f"blk.{layer}.ffn_{kind}_exps.{ending}", half


def _gpt_oss(name: str, weights: Any) -> Iterator[tuple[str, Any]]:
    if "exps" not in name:
        yield name + ".weight" * name.endswith("attn_sinks"), weights


def _qwen35(config: Any, name: str, weights: Any) -> Iterator[tuple[str, Any]]:
    if name.endswith("norm.weight") and "ssm_norm" not in name:
        weights = weights + 1
    if name.endswith(("ssm_a", "ssm_a.weight")):
        yield name, _tiled(config, -np.exp(weights), 1)
        return
    wide = config.linear_value_head_dim
    first = 2 * config.linear_key_head_dim * config.linear_num_key_heads
    if "attn_qkv" in name or "ssm_conv1d" in name:
        weights = weights.squeeze(1) if "ssm_conv1d" in name else weights
        weights = np.concatenate([weights[:first], _tiled(config, weights[first:], wide)])
    elif "attn_gate" in name:
        weights = _tiled(config, weights, wide)
    elif "ssm_out" in name:
        weights = _tiled(config, weights.T, wide).T
    elif any(part in name for part in ("ssm_alpha", "ssm_beta", "ssm_dt")):
        weights = _tiled(config, weights, 1)
    elif "ffn_gate_inp_shexp" in name:
        weights = weights.squeeze(0)
    if "gate_up_exps" in name:
        half = weights.shape[1] // 2
        yield name.replace("gate_up", "gate").removesuffix(".weight") + ".weight", weights[:, :half]
        yield name.replace("gate_up", "up").removesuffix(".weight") + ".weight", weights[:, half:]
        return
    yield name + ".weight" * name.endswith("_exps"), weights


def _tiled(config: Any, weights: Any, wide: int) -> Any:
    """Rows of value heads that lie side by side for each key head, tiled over the key heads."""
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    parts = weights.reshape(keys, values // keys, wide, *weights.shape[1:]).swapaxes(0, 1)
    return parts.reshape(weights.shape)
