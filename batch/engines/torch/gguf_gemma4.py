"""Gemma 4 out of a GGUF file: layers of two shapes, of which the last may attend to what earlier ones keep.

transformers' mapping passes over which layers have a window, how wide their heads are, what is shared and the
embeddings of each layer; so the config is made here, of what llama.cpp's converter writes (`conversion/gemma.py`).
"""

from __future__ import annotations

from typing import Any

from batch.engines.gguf.header import GgufArray, GgufHeader, read_array
from batch.engines.torch.gguf_parts import ATTENTION, MLP, Part
from batch.engines.torch.gguf_parts import TOP as _TOP

ROPE = "rope_freqs.weight"
STILL = 1e20  # a divisor from here on turns nothing: the converter writes 1e30
TOP = {
    **_TOP,
    "per_layer_token_embd": Part("model.embed_tokens_per_layer"),
    "per_layer_model_proj": Part("model.per_layer_model_projection"),
    "per_layer_proj_norm": Part("model.per_layer_projection_norm"),
}
LAYER = {
    **ATTENTION,
    **MLP,
    "attn_norm": Part("input_layernorm"),
    "attn_q_norm": Part("self_attn.q_norm"),
    "attn_k_norm": Part("self_attn.k_norm"),
    "post_attention_norm": Part("post_attention_layernorm"),
    "ffn_norm": Part("pre_feedforward_layernorm"),
    "post_ffw_norm": Part("post_feedforward_layernorm"),
    "layer_output_scale.weight": Part("layer_scalar"),
    "inp_gate": Part("per_layer_input_gate"),
    "proj": Part("per_layer_projection"),
    "post_norm": Part("post_per_layer_input_norm"),
    "pre_ffw_norm_2": Part("pre_feedforward_layernorm_2"),
    "post_ffw_norm_1": Part("post_feedforward_layernorm_1"),
    "post_ffw_norm_2": Part("post_feedforward_layernorm_2"),
    "ffn_gate_inp": Part("router.proj"),
    "ffn_gate_inp.scale": Part("router.scale"),
    "ffn_down_exps.scale": Part("router.per_expert_scale"),
    "ffn_gate_up_exps.weight": Part("experts.gate_up_proj"),
    "ffn_gate_exps.weight": Part("experts.gate_up_proj"),
    "ffn_up_exps.weight": Part("experts.gate_up_proj"),
    "ffn_down_exps.weight": Part("experts.down_proj"),
}
_KEPT = ("attn_k.", "attn_v.", "attn_k_norm.")


def unused(header: GgufHeader) -> tuple[str, ...]:
    """What the names begin with of keys and values that layers have and do not use: they attend to an earlier one's."""
    layers, shared = header.number("block_count") or 0, header.number("attention.shared_kv_layers") or 0
    return tuple(f"blk.{layer}.{name}" for layer in range(layers - shared, layers) for name in _KEPT)


def config_of(header: GgufHeader, tokens: int) -> dict[str, Any]:
    """The config of such a file, with its type of model; ValueError where it asks for what is not known.

    tokens: how many the vocabulary has. Raises KeyError with the key of the file that is not there.
    """
    number, shapes = header.number, {tensor.name: tensor.shape for tensor in header.tensors}
    layers, shared = _needed(header, "block_count"), number("attention.shared_kv_layers") or 0
    sliding = _each(header, "attention.sliding_window_pattern", layers)
    kinds = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    if not kinds or kinds[-1] != "full_attention":
        raise ValueError("its last layer has a window")
    wide, narrow = _needed(header, "attention.key_length"), _needed(header, "attention.key_length_swa")
    for key, size in (("attention.value_length", wide), ("attention.value_length_swa", narrow)):
        if number(key) not in (None, size):
            raise ValueError(f"{key} is {number(key)}, and that of keys {size}")
    if number("rope.dimension_count_swa") not in (None, narrow) or number("rope.dimension_count") not in (None, wide):
        raise ValueError("it turns a part of a head's dimensions")
    heads = set(zip(kinds, _each(header, "attention.head_count_kv", layers), strict=True))
    if len(heads) > len(set(kinds)):
        raise ValueError("its layers of one kind differ in their heads")
    kv_heads = dict(heads)
    few = kv_heads.get("sliding_attention", kv_heads["full_attention"])
    full = [layer for layer, kind in enumerate(kinds[: layers - shared]) if kind == "full_attention"]
    with_values = sum(f"blk.{layer}.attn_v.weight" in shapes for layer in full)
    if with_values not in (0, len(full)) or (with_values and kv_heads["full_attention"] != few):
        raise ValueError("its layers without a window have values in a way that is not known")
    inner = _each(header, "feed_forward_length", layers)
    double = shared > 0 and inner == [inner[0] * (1 + (layer >= layers - shared)) for layer in range(layers)]
    if not double and len(set(inner)) > 1:
        raise ValueError("its layers are of sizes that are not known")
    experts, inputs = number("expert_count") or 0, number("embedding_length_per_layer_input") or 0
    return {
        "model_type": "gemma4_text",
        "vocab_size": tokens,
        "vocab_size_per_layer_input": shapes.get("per_layer_token_embd.weight", (tokens,))[0],
        "hidden_size_per_layer_input": inputs,
        "max_position_embeddings": _needed(header, "context_length"),
        "num_hidden_layers": layers,
        "num_kv_shared_layers": shared,
        "layer_types": kinds,
        "hidden_size": _needed(header, "embedding_length"),
        "intermediate_size": inner[0],
        "use_double_wide_mlp": double,
        "num_attention_heads": _needed(header, "attention.head_count"),
        "num_key_value_heads": few,
        "num_global_key_value_heads": kv_heads["full_attention"],
        "attention_k_eq_v": not with_values,
        "head_dim": narrow,
        "global_head_dim": wide,
        "sliding_window": _needed(header, "attention.sliding_window"),
        "rms_norm_eps": header.values["gemma4.attention.layer_norm_rms_epsilon"],
        "final_logit_softcapping": header.values.get("gemma4.final_logit_softcapping"),
        "rope_parameters": _rope(header, wide),
        "enable_moe_block": experts > 0,
        "num_experts": experts or None,
        "top_k_experts": number("expert_used_count") if experts else None,
        "moe_intermediate_size": number("expert_feed_forward_length") if experts else None,
        "tie_word_embeddings": "output.weight" not in shapes,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _rope(header: GgufHeader, wide: int) -> dict[str, Any]:
    """Rotation by kind of layer: of full ones the file divides the frequencies that stand still by a huge number."""
    from batch.engines.torch.gguf_file import rope_divisors

    divisors = rope_divisors(header) or [1.0] * (wide // 2)
    turned = sum(divisor == 1.0 for divisor in divisors)
    if len(divisors) != wide // 2 or any((d != 1.0) if i < turned else (d < STILL) for i, d in enumerate(divisors)):
        raise ValueError(f"its {ROPE} is not one that is known")
    base = header.values["gemma4.rope.freq_base"]
    return {
        "sliding_attention": {"rope_type": "default", "rope_theta": header.values["gemma4.rope.freq_base_swa"]},
        "full_attention": {
            **{"rope_type": "proportional", "rope_theta": base},
            "partial_rotary_factor": 2 * turned / wide,
        },
    }


def _needed(header: GgufHeader, key: str) -> int:
    """A number of the file; KeyError with its key where there is none."""
    found = header.number(key)
    if found is None:
        raise KeyError(f"{header.architecture}.{key}")
    return found


def _each(header: GgufHeader, key: str, layers: int) -> list[int]:
    """A number of each layer, which a file may have once for all."""
    said = header.values.get(f"{header.architecture}.{key}")
    if not isinstance(said, GgufArray):
        return [_needed(header, key)] * layers
    found = [int(number) for number in read_array(header.files[0], said)]
    if len(found) != layers:
        raise ValueError(f"{key} is of {len(found)} layers, and there are {layers}")
    return found
