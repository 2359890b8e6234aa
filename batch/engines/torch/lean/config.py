"""Which configs are known here to the last key, and what they say; what is not known goes through transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from batch.engines.gguf.header import GgufHeader
from batch.engines.torch.asked import HONOURED, asks

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# Without one of these there is a default of transformers' to be known, so it is not for us.
NUMBERS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings"),
)
# What changes no answer, whatever it says.
ANY = frozenset(
    {
        *("architectures", "model_type", "initializer_range", "use_cache", "attention_dropout", "transformers_version"),
        *("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id", "torch_dtype", "dtype", "max_window_layers"),
        *("_name_or_path", "_model_name_or_path", "is_llama_config", "transformers.js_config", "tie_word_embeddings"),
        *("rms_norm_eps", "rope_theta", "head_dim", "attention_bias", "hidden_act", *NUMBERS),
    }
)


def _no_window(config: Mapping[str, Any], value: Any) -> bool:
    used = config.get("use_sliding_window", config["model_type"] not in ("qwen2", "qwen3"))
    return value is None or used is False


# What has to be so.
SO: dict[str, Callable[[Mapping[str, Any], Any], bool]] = {
    "rope_scaling": lambda config, value: value is None,
    "rope_interleaved": lambda config, value: value is False,
    "rope_parameters": lambda config, value: value is None or _plain_rope(value),
    "pretraining_tp": lambda config, value: value in (None, 1),
    "mlp_bias": lambda config, value: value is False,
    "use_sliding_window": lambda config, value: value is False,
    "sliding_window": _no_window,
    "layer_types": lambda config, value: value is None or set(value) == {"full_attention"},
}
GGUF_KEYS = frozenset(
    {
        *("context_length", "block_count", "feed_forward_length", "embedding_length", "vocab_size"),
        *("rope.dimension_count", "rope.freq_base", "attention.head_count", "attention.head_count_kv"),
        *("attention.layer_norm_rms_epsilon", "attention.key_length", "attention.value_length"),
    }
)


@dataclass
class LeanConfig:
    """A config by the names that transformers has for it."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_parameters: dict[str, Any]
    tie_word_embeddings: bool
    attention_bias: tuple[bool, bool]  # of queries, keys and values; of what puts them together again
    eos_token_id: Any = None
    _attn_implementation: str = "lean"

    def get_text_config(self) -> LeanConfig:
        """Itself: it reads nothing but text."""
        return self


def of_folder(folder: Path) -> tuple[LeanConfig, Any] | None:
    """The config of a folder and what its generation config says; None where either is not known to the last key."""
    try:
        said = json.loads((folder / "config.json").read_bytes())
        asked = folder / "generation_config.json"
        generation = SimpleNamespace(**json.loads(asked.read_bytes())) if asked.exists() else SimpleNamespace()
        config = _of(said)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if config is None or not nothing_more(generation):
        return None
    if not hasattr(generation, "eos_token_id"):
        generation.eos_token_id = config.eos_token_id
    return config, generation


def nothing_more(generation: Any) -> bool:
    """Whether a generation config asks for nothing that takes transformers."""
    return not any(asks(generation, name, nothing) for name, nothing in HONOURED.items())


def _of(said: Mapping[str, Any]) -> LeanConfig | None:
    """A config.json as ours; KeyError, TypeError or None where it is not for us."""
    kind = said["model_type"]
    if kind not in CLASSES or said.get("architectures") not in (None, [CLASSES[kind]]) or said["hidden_act"] != "silu":
        return None
    if any(name not in ANY and not (name in SO and SO[name](said, value)) for name, value in said.items()):
        return None
    if kind == "mistral" and "sliding_window" not in said:  # it has one then
        return None
    numbers = {name: said[name] for name in NUMBERS}
    head = said.get("head_dim")
    if head is None and kind != "qwen3":
        head = numbers["hidden_size"] // numbers["num_attention_heads"]
    rope = said.get("rope_parameters") or {"rope_type": "default", "rope_theta": said["rope_theta"]}
    integers = [*numbers.values(), head]
    floats = said["rms_norm_eps"], rope["rope_theta"]
    if not all(type(x) is int and x > 0 for x in integers) or not all(type(x) in (int, float) for x in floats):
        return None
    if numbers["num_attention_heads"] % numbers["num_key_value_heads"]:
        return None
    wants = said.get("attention_bias", False), said.get("tie_word_embeddings", False)
    if not all(type(x) is bool for x in wants):
        return None
    bias = (True, False) if kind == "qwen2" else (wants[0],) * 2 if kind != "mistral" else (False, False)
    return LeanConfig(
        **numbers,
        model_type=kind,
        head_dim=integers[-1],
        rms_norm_eps=said["rms_norm_eps"],
        rope_parameters=dict(rope),
        tie_word_embeddings=wants[1],
        attention_bias=bias,
        eos_token_id=said.get("eos_token_id"),
    )


def _plain_rope(value: Any) -> bool:
    return (
        isinstance(value, dict) and value.keys() <= {"rope_type", "rope_theta"} and value.get("rope_type") == "default"
    )


def of_gguf(header: GgufHeader) -> LeanConfig | None:
    """The config of a GGUF file; None where a key of its architecture is not known here."""
    arch = header.architecture
    if arch not in ("llama", "qwen2", "qwen3"):
        return None
    own = {key.partition(".")[2]: value for key, value in header.values.items() if key.startswith(f"{arch}.")}
    if own.keys() - GGUF_KEYS:
        return None
    heads, wide = own.get("attention.head_count"), own.get("embedding_length")
    if not (type(heads) is int and type(wide) is int and heads):
        return None
    head = own.get("attention.key_length", own.get("rope.dimension_count", wide // heads))
    sizes = [own.get(key, head) for key in ("attention.value_length", "rope.dimension_count")]
    embedding = next((t for t in header.tensors if t.name == "token_embd.weight"), None)
    if (
        any(size != head for size in sizes)
        or embedding is None
        or (arch == "qwen3" and "attention.key_length" not in own)
    ):
        return None
    try:
        return _of(
            {
                "model_type": arch,
                "hidden_act": "silu",
                "vocab_size": embedding.shape[0],
                "hidden_size": wide,
                "intermediate_size": own["feed_forward_length"],
                "num_hidden_layers": own["block_count"],
                "num_attention_heads": heads,
                "num_key_value_heads": own["attention.head_count_kv"],
                "head_dim": head,
                "max_position_embeddings": own["context_length"],
                "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
                "rope_theta": own["rope.freq_base"],
                "tie_word_embeddings": not any(t.name == "output.weight" for t in header.tensors),
                "eos_token_id": header.number("tokenizer.ggml.eos_token_id"),
            }
        )
    except (KeyError, TypeError):
        return None
