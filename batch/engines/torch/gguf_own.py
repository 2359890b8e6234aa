"""Architectures whose GGUF files are put into transformers' models by tables of our own: LFM2, Qwen 3.5, gpt-oss.

Gemma 4 is in `gguf_gemma4`. transformers reads the first two in one go into modules of its own, and the third not
rightly (its tensors have other names than it looks for). What a file has otherwise than the model is llama.cpp's
converter's doing (`conversion/*.py` there), and undone here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from batch.engines.gguf.header import GgufArray, GgufHeader, read_array
from batch.engines.torch import gguf_gemma4
from batch.engines.torch.gguf_parts import ATTENTION, MLP, TOP, Part


def _unturned(weights: Any, config: Any) -> Any:
    return weights.swapaxes(-1, -2)


def _in_between(weights: Any, config: Any) -> Any:  # [channels, taps] to [channels, 1, taps]
    return weights[:, None]


def _from_one(weights: Any, config: Any) -> Any:  # norms that are stored with their one
    return weights - 1


def _a_log(weights: Any, config: Any) -> Any:
    import numpy as np

    return _by_key(np.log(-weights), config, 1)


def _by_key(weights: Any, config: Any, wide: int, first: int = 0) -> Any:
    """Rows of value heads, tiled over the key heads in a file, side by side for each key head as the model has them."""
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    import numpy as np

    part = weights[first:].reshape(values // keys, keys, wide, *weights.shape[1:]).swapaxes(0, 1)
    return np.concatenate([weights[:first], part.reshape(weights[first:].shape)])


def _heads(weights: Any, config: Any) -> Any:
    return _by_key(weights, config, 1)


def _values(weights: Any, config: Any) -> Any:
    return _by_key(weights, config, config.linear_value_head_dim)


def _mixed(weights: Any, config: Any) -> Any:  # queries and keys before the values
    return _by_key(
        weights, config, config.linear_value_head_dim, 2 * config.linear_key_head_dim * config.linear_num_key_heads
    )


def _taps(weights: Any, config: Any) -> Any:
    return _in_between(_mixed(weights, config), config)


def _inputs(weights: Any, config: Any) -> Any:
    return _values(weights.T, config).T


def _one_row(weights: Any, config: Any) -> Any:
    return weights.reshape(1, -1)


_QWEN35 = {
    **ATTENTION,
    **MLP,
    "attn_norm": Part("input_layernorm", _from_one),
    "post_attention_norm": Part("post_attention_layernorm", _from_one),
    "attn_q_norm": Part("self_attn.q_norm", _from_one),
    "attn_k_norm": Part("self_attn.k_norm", _from_one),
    "attn_qkv": Part("linear_attn.in_proj_qkv", _mixed),
    "attn_gate": Part("linear_attn.in_proj_z", _values),
    "ssm_alpha": Part("linear_attn.in_proj_a", _heads),
    "ssm_beta": Part("linear_attn.in_proj_b", _heads),
    "ssm_conv1d": Part("linear_attn.conv1d", _taps),
    "ssm_norm": Part("linear_attn.norm"),
    "ssm_out": Part("linear_attn.out_proj", _inputs),
    "ssm_a": Part("linear_attn.A_log", _a_log),
    "ssm_dt.bias": Part("linear_attn.dt_bias", _heads),
}
_QWEN35_TOP = {**TOP, "output_norm": Part("model.norm", _from_one)}
# Of each architecture: what lies at the model's top, and what in a layer. Names with an ending stand for themselves.
TABLES: Mapping[str, tuple[Mapping[str, Part], Mapping[str, Part]]] = {
    "gemma4": (gguf_gemma4.TOP, gguf_gemma4.LAYER),
    "lfm2": (
        {
            **TOP,
            "token_embd_norm": Part("model.embedding_norm"),
            "output_norm": Part("model.embedding_norm"),
        },
        {
            **ATTENTION,
            "attn_output": Part("self_attn.out_proj"),
            "attn_norm": Part("operator_norm"),
            "attn_q_norm": Part("self_attn.q_layernorm"),
            "attn_k_norm": Part("self_attn.k_layernorm"),
            "ffn_norm": Part("ffn_norm"),
            "ffn_gate": Part("feed_forward.w1"),
            "ffn_up": Part("feed_forward.w3"),
            "ffn_down": Part("feed_forward.w2"),
            "shortconv.in_proj": Part("conv.in_proj"),
            "shortconv.out_proj": Part("conv.out_proj"),
            "shortconv.conv": Part("conv.conv", _in_between),
        },
    ),
    "qwen35": (_QWEN35_TOP, _QWEN35),
    "qwen35moe": (
        _QWEN35_TOP,
        {
            **_QWEN35,
            "ffn_gate_inp": Part("mlp.gate"),
            "ffn_gate_exps.weight": Part("mlp.experts.gate_up_proj"),
            "ffn_up_exps.weight": Part("mlp.experts.gate_up_proj"),
            "ffn_down_exps.weight": Part("mlp.experts.down_proj"),
            "ffn_gate_inp_shexp": Part("mlp.shared_expert_gate", _one_row),
            "ffn_gate_shexp": Part("mlp.shared_expert.gate_proj"),
            "ffn_up_shexp": Part("mlp.shared_expert.up_proj"),
            "ffn_down_shexp": Part("mlp.shared_expert.down_proj"),
        },
    ),
    "gpt-oss": (
        TOP,
        {
            **ATTENTION,
            "attn_norm": Part("input_layernorm"),
            "post_attention_norm": Part("post_attention_layernorm"),
            "attn_sinks.weight": Part("self_attn.sinks"),
            "ffn_gate_inp": Part("mlp.router"),
            "ffn_gate_exps.weight": Part("mlp.experts.gate_up_proj", _unturned),
            "ffn_up_exps.weight": Part("mlp.experts.gate_up_proj", _unturned),
            "ffn_down_exps.weight": Part("mlp.experts.down_proj", _unturned),
            "ffn_gate_exps.bias": Part("mlp.experts.gate_up_proj_bias"),
            "ffn_up_exps.bias": Part("mlp.experts.gate_up_proj_bias"),
            "ffn_down_exps.bias": Part("mlp.experts.down_proj_bias"),
        },
    ),
}


class Made(NamedTuple):
    """A tensor as the model has it; no name where it waits for the other half of it."""

    weights: Any
    name: str | None


class Processor:
    """What transformers' own processors are to the architectures that they read."""

    def __init__(self, arch: str, config: Any) -> None:
        self._arch, self._config = arch, config
        self._halves: dict[str, dict[str, Any]] = {}

    def process(self, weights: Any, name: str, tensor_key_mapping: Mapping[str, str], parsed_parameters: Any) -> Made:
        """A tensor's numbers in the model's order; gates and what they are for, which it has as one, put together."""
        part = _part(self._arch, name)
        if part is None:
            return Made(weights, name)
        if part[0].change is not None:
            weights = part[0].change(weights, self._config)
        if "gate_up_proj" not in part[0].place or "gate_up" in name:
            return Made(weights, name)
        halves = self._halves.setdefault(tensor_key_mapping[name], {})
        halves["gate" if "_gate_" in name else "up"] = weights
        if len(halves) == 2:
            made = _woven(self._arch, **self._halves.pop(tensor_key_mapping[name]))
            return Made(made, name)
        return Made(weights, None)


def places(header: GgufHeader) -> dict[str, str]:
    """Where each tensor of a file goes, of those that have a place."""
    arch, found = header.architecture, {}
    for tensor in header.tensors:
        if (part := _part(arch, tensor.name)) is not None:
            found[tensor.name] = part[1]
    return found


def unused(header: GgufHeader) -> tuple[str, ...]:
    """What the names begin with of tensors that nothing is run with here: layers that foretell more than one token,
    and keys and values of layers that attend to those of another."""
    if header.architecture == "gemma4":
        return gguf_gemma4.unused(header)
    more, layers = header.number("nextn_predict_layers") or 0, header.number("block_count") or 0
    return tuple(f"blk.{layer}." for layer in range(layers - more, layers))


def config_of(header: GgufHeader) -> dict[str, Any]:
    """The config of such a file, as a dictionary with its type of model.

    Raises KeyError with the key of the file that is not there.
    """
    tokens = header.values.get("tokenizer.ggml.tokens")
    count = tokens.count if isinstance(tokens, GgufArray) else 0
    if header.architecture == "gpt-oss":
        return _gpt_oss(header, count)
    if header.architecture == "gemma4":
        return gguf_gemma4.config_of(header, count)
    from transformers.integrations.gguf.gguf_config_mapping import get_gguf_config

    said = dict(header.values)
    for key, value in said.items():
        if isinstance(value, GgufArray):
            said[key] = value.count if key.startswith("tokenizer.") else read_array(header.files[0], value)
    return dict(get_gguf_config(said, tuple(tensor.name for tensor in header.tensors)))


def _gpt_oss(header: GgufHeader, tokens: int) -> dict[str, Any]:
    def value(key: str) -> Any:
        return header.values[f"gpt-oss.{key}"]

    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": value("rope.freq_base")}
    if header.text("gpt-oss.rope.scaling.type") == "yarn":
        # Its makers do not round where the ramp begins and ends; llama.cpp does.
        rope |= {"rope_type": "yarn", "factor": value("rope.scaling.factor"), "truncate": False}
        rope |= {"original_max_position_embeddings": value("rope.scaling.original_context_length")}
        rope |= {"beta_fast": 32.0, "beta_slow": 1.0}
    return {
        "model_type": "gpt_oss",
        "max_position_embeddings": value("context_length"),
        "num_hidden_layers": value("block_count"),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("expert_feed_forward_length"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": value("attention.key_length"),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "sliding_window": value("attention.sliding_window"),
        "num_local_experts": value("expert_count"),
        "num_experts_per_tok": value("expert_used_count"),
        "rope_parameters": rope,
        "vocab_size": tokens,
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in header.tensors),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _woven(arch: str, gate: Any, up: Any) -> Any:
    """gate and up as one: side by side, or one of each in turn as gpt-oss has them (along the last axis)."""
    import numpy as np

    if arch != "gpt-oss":
        return np.concatenate([gate, up], axis=1)
    return np.stack([gate, up], axis=-1).reshape(*gate.shape[:-1], -1)


def _part(arch: str, name: str) -> tuple[Part, str] | None:
    top, layer = TABLES[arch]
    pieces = name.split(".")
    inside = pieces[0] == "blk" and len(pieces) > 3 - (pieces[-1] == "ssm_a")
    table, before = (layer, f"model.layers.{pieces[1]}.") if inside else (top, "")
    rest = ".".join(pieces[2:] if inside else pieces)
    if rest in table:
        return table[rest], before + table[rest].place
    stem, _, ending = rest.rpartition(".")
    if ending not in ("weight", "bias") or stem not in table:
        return None
    return table[stem], f"{before}{table[stem].place}.{ending}"
