"""What of a GGUF file the torch engine knows, to the last key; the rest is llama.cpp's to run.

transformers makes a config of the keys that it maps and passes over all others, of which many change answers. So every
key of an architecture is either mapped, checked against the config once that is made, or changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from batch.engines.gguf.header import GgufArray, GgufHeader
from batch.engines.gguf.splits import splits_known

_EVERY = (
    *("context_length", "block_count", "feed_forward_length", "embedding_length", "vocab_size", "tensor_data_layout"),
    *("rope.dimension_count", "rope.freq_base", "rope.scaling.type", "attention.head_count", "attention.head_count_kv"),
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.key_length"),
    *("attention.value_length", "attention.sliding_window"),
)
_GEMMA = ("attn_logit_softcapping", "final_logit_softcapping")
_EXPERTS = ("expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length")
_QWEN35 = (
    *("ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"),
    *("full_attention_interval", "rope.dimension_sections", "nextn_predict_layers"),
)
# Of what transformers makes models of (`GGUF_CONFIG_MAPPING`) the causal language models whose files it reads rightly,
# each with the keys that are its own.
ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "bloom": (),
    "falcon": (),
    "gemma2": _GEMMA,
    "gemma3": (*_GEMMA, "rope.freq_base_swa"),
    "gemma4": (
        *("final_logit_softcapping", "rope.freq_base_swa", "rope.dimension_count_swa", *_EXPERTS),
        *("attention.key_length_swa", "attention.value_length_swa", "attention.sliding_window_pattern"),
        *("attention.shared_kv_layers", "embedding_length_per_layer_input"),
    ),
    "gpt-oss": (*_EXPERTS, "rope.scaling.factor", "rope.scaling.original_context_length"),
    "gpt2": (),
    "lfm2": ("shortconv.l_cache",),
    "llama": (),
    "mamba": ("ssm.conv_kernel", "ssm.state_size", "ssm.time_step_rank", "ssm.inner_size"),
    "minimax-m2": (*_EXPERTS, "expert_gating_func"),
    "nemotron": (),
    "phi3": ("rope.scaling.original_context_length",),
    "qwen2": (),
    "qwen2moe": _EXPERTS,
    "qwen3": (),
    "qwen35": _QWEN35,
    "qwen35moe": (*_QWEN35, *_EXPERTS),
    "qwen3moe": _EXPERTS,
    "stablelm": ("use_parallel_residual",),
    "starcoder2": (),
}
TOKENIZERS = ("gpt2", "llama", "gemma4")  # `tokenizer.ggml.model`, as far as they are read here
# Layers that differ, where that is known; and positions that are stretched in a way that is.
_ARRAYS = {
    "gemma4": ("attention.head_count_kv", "attention.sliding_window_pattern", "feed_forward_length"),
    "lfm2": ("attention.head_count_kv",),
    **dict.fromkeys(("qwen35", "qwen35moe"), ("rope.dimension_sections",)),
}
_STRETCHED = {"gpt-oss": ("yarn",)}
_SUPPRESSED = "tokenizer.ggml.suppress_tokens"
_STRETCHING = ("rope_factors_long.weight", "rope_factors_short.weight")


def unknown(header: GgufHeader) -> str:
    """What of a file torch does not know, as a clause; "" where it knows all."""
    arch = header.architecture
    if arch not in ARCHITECTURES:
        return f"runs no {arch} out of a GGUF file"
    stretched = header.text(f"{arch}.rope.scaling.type")
    if stretched not in ("", "none", *_STRETCHED.get(arch, ())):
        return f"does not stretch the positions of a GGUF file ({stretched})"
    if any(tensor.name in _STRETCHING for tensor in header.tensors):
        return "does not stretch the positions of a GGUF file (longrope)"
    if _SUPPRESSED in header.values:
        return "does not suppress the tokens that a GGUF file names"
    own = {key.partition(".")[2]: value for key, value in header.values.items() if key.startswith(f"{arch}.")}
    for key, value in own.items():
        if key not in _EVERY and key not in ARCHITECTURES[arch]:
            return f"does not know what {arch}.{key} asks for"
        if isinstance(value, GgufArray) and key not in _ARRAYS.get(arch, ()):
            return f"does not run layers that differ ({arch}.{key})"
    model, split = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if model not in TOKENIZERS:
        return f"does not know its tokenizer ({model or 'not said'})"
    if not splits_known(model, split):
        return f"does not know how its text is split ({split or 'not said'})"
    return ""
