"""What a model keeps of each answer while it runs, reckoned from its config.json: keys and values, and states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_LAYERS = 10_000
BOTH = ("hybrid", "hybrid_sliding")  # kinds of layers that attend and have states
STATES = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", *BOTH)  # kinds of layers that have them
FLOAT = 4  # bytes of a state's number
# Families that keep something of their own, which is not reckoned here: what they take is not known.
OTHERWISE = {"cpmant", "deepseek_v4", "dots3_note", "dots3_note_text", "qwen4_exp", "qwen4_exp_text"}
NOTHING = {"openai-gpt", "recurrent_gemma"}  # run without a cache
TWICE = {"longcat_flash"}  # attend twice in a layer
_HEADS = (
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads"),
    "num_decoder_attention_heads",
)
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")
_KINDS = ("layer_types", "layers_block_type", "block_types")


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes: of keys and values for each token, in 16 bits; of states for each row, however short, in 32."""

    per_token: int
    per_row: int


def of_config(config: Mapping[str, Any]) -> Kept | None:
    """Of all layers; None where the config does not say enough."""
    config = _of_text(config)
    listed = next((said for key in _KINDS if isinstance(said := config.get(key), list)), [])
    layers = _number(config, *_LAYERS) or len(listed)
    family = str(config.get("model_type"))  # whatever stands there
    if not 0 < layers <= MOST_LAYERS or family in OTHERWISE:
        return None
    if family in NOTHING:
        return Kept(0, 0)
    kinds = _kinds(config, layers, listed)
    kept = layers - _number(config, "num_kv_shared_layers")  # the last ones read what others keep
    attend = [
        (layer, kind)
        for layer, kind in enumerate(kinds[: max(kept, 0)])
        if kind in BOTH or ("attention" in kind and kind != "linear_attention")
    ]
    times = 2 if family in TWICE else 1
    per_token = 2 * times * sum(_numbers_per_token(_of_layer(config, layer), kind) for layer, kind in attend)
    per_row = FLOAT * sum(_numbers_per_row(config, kind) for kind in kinds if kind in STATES)
    return Kept(per_token, per_row) if per_token or per_row else None


def embeddings(config: Mapping[str, Any]) -> int:
    """Elements of the table that tokens are looked up in; 0 where the config does not say."""
    config = _of_text(config)
    return _number(config, "vocab_size") * _number(config, *_HIDDEN)


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about text of a model that takes pictures too."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) and not _number(config, *_LAYERS) else config


def _of_layer(config: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    """The config with what one of its layers has otherwise."""
    others = config.get("per_layer_config")
    own = others.get(str(layer)) if isinstance(others, Mapping) else None
    return {**config, **own} if isinstance(own, Mapping) else config


def _kinds(config: Mapping[str, Any], layers: int, listed: list[Any]) -> list[str]:
    """What each layer is, in transformers' own words, however the config says it."""
    if listed and all(isinstance(kind, str) for kind in listed):
        return [listed[i % len(listed)] for i in range(layers)]
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [{"*": "attention", "M": "mamba"}.get(kind, "mlp") for kind in pattern[:layers]]
    for key in ("attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids"):
        if isinstance(places := config.get(key), list):
            attends = "hybrid" if key == "hybrid_layer_ids" else "attention"
            return [attends if i in places else "mamba" for i in range(layers)]
    for period, offset in (("attn_layer_period", "attn_layer_offset"), ("full_attention_interval", "")):
        if every := _number(config, period):
            first = _number(config, offset) if offset else every - 1
            return ["attention" if i % every == first else "mamba" for i in range(layers)]
    if _number(config, "mamba_d_ssm"):
        return ["hybrid"] * layers
    states = "state_size" in config or "ssm_cfg" in config or config.get("model_type") in ("rwkv", "xlstm")
    return ["mamba" if states else "attention"] * layers


def _numbers_per_token(config: Mapping[str, Any], kind: str) -> int:
    """What a layer keeps of a token: keys and values of its heads, or the latent that all of them are made of."""
    index = _number(config, "index_head_dim")  # of sparse attention, which looks for what to attend to
    if rank := _number(config, "kv_lora_rank"):
        return rank + _number(config, "qk_rope_head_dim") + index
    heads, hidden = _number(config, *_HEADS), _number(config, *_HIDDEN)
    own = {"full_attention": ("global_head_dim", "num_global_key_value_heads", "")}
    own["sliding_attention"] = own["hybrid_sliding"] = ("swa_head_dim", "swa_num_key_value_heads", "swa_v_head_dim")
    size, many, values = own.get(kind, ("", "", ""))
    wide = _number(config, size, "head_dim", "attention_head_dim", "kv_channels") or (hidden // heads if heads else 0)
    alone = config.get("multi_query") is True and config.get("new_decoder_architecture") is not True
    kv = 1 if alone else _number(config, many, "num_key_value_heads", "num_kv_heads") or heads
    return kv * (wide + (_number(config, values, "v_head_dim") or wide)) + index


def _numbers_per_row(config: Mapping[str, Any], kind: str) -> int:
    """What a layer with a state keeps of a row: the state, and the last inputs of its convolution."""
    hidden, family = _number(config, *_HIDDEN), str(config.get("model_type"))
    if family == "xlstm":  # a matrix for each head, its normaliser and its greatest gate
        heads = _number(config, "num_heads") or 1
        keys, values = (
            int(hidden * factor) // heads if isinstance(factor := config.get(f"{name}_dim_factor"), float) else 0
            for name in ("qk", "v")
        )
        return heads * (keys * values + keys + 1)
    if family == "zaya":  # convolved queries and keys, and half of the values, a token late
        keys = _number(config, "num_key_value_heads") * _number(config, "head_dim")
        queries = _number(config, "num_attention_heads") * _number(config, "head_dim")
        return (queries + keys) * (_number(config, "cca_time0") + _number(config, "cca_time1") - 2) + keys // 2
    if family.startswith("inkling"):  # convolved keys, values and what goes into attention and MLP
        return (_numbers_per_token(config, kind) + 2 * hidden) * _number(config, "conv_kernel_size")
    taps = _number(config, "linear_conv_kernel_dim", "mamba_d_conv", "conv_kernel", "conv1d_width")
    if short := _number(config, "conv_L_cache"):
        return hidden * short
    if key := _number(config, "linear_key_head_dim", "linear_head_dim"):  # gated delta nets
        heads = _number(config, "linear_num_value_heads", "linear_num_heads")
        value = _number(config, "linear_value_head_dim", "linear_head_dim")
        keys = (_number(config, "linear_num_key_heads") or heads) * key
        return heads * key * value + (2 * keys + heads * value) * taps
    size = _number(config, "mamba_d_state", "ssm_state_size", "state_size")
    if not size:  # lightning attention, a matrix for each head; RWKV's five vectors
        heads = _number(config, "num_attention_heads")
        wide = _number(config, "head_dim") or (hidden // heads if heads else 0)
        return heads * wide**2 if heads else 5 * hidden
    head = _number(config, "mamba_d_head", "mamba_head_dim", "mamba_headdim") or (
        0 if "num_attention_heads" in config else _number(config, "head_dim")
    )
    heads = _number(config, "mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "num_heads")
    if head and heads:
        groups = _number(config, "mamba_n_groups", "mamba_ngroups", "n_groups") or 1
        return heads * head * size + (heads * head + 2 * groups * size) * taps
    expand = _number(config, "mamba_expand")
    inner = expand * hidden if expand else _number(config, "intermediate_size") or 2 * hidden
    return inner * (size + taps)


def _number(config: Mapping[str, Any], *keys: str) -> int:
    found = next((value for key in keys if isinstance(value := config.get(key), int) and value), 0)
    return found if 0 < found < 2**32 else 0
