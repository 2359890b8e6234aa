"""Small GGUF files of many architectures, written from transformers' models as llama.cpp's converter writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines import gguf_own
from tests.engines import smollm2 as real

SIZES = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1},
    **{"eos_token_id": 2},
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
GPT2 = {"max_position_embeddings": 1024}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# What a file is called by, with transformers' type of model and what differs from SIZES.
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama", {}),
    "llama3": ("llama", "llama", {"rope_parameters": LLAMA3}),
    "mistral": ("llama", "mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", "qwen2", {}),
    "qwen3": ("qwen3", "qwen3", {"head_dim": 128}),
    "qwen2moe": ("qwen2moe", "qwen2_moe", {**MOE, "shared_expert_intermediate_size": 96}),
    "qwen3moe": ("qwen3moe", "qwen3_moe", {**MOE, "head_dim": 32, "norm_topk_prob": True}),
    "gemma2": ("gemma2", "gemma2", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}),
    "gemma3": ("gemma3", "gemma3_text", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}),
    "phi3": ("phi3", "phi3", {"sliding_window": None, "original_max_position_embeddings": 128}),
    "gpt2": (
        "gpt2",
        "gpt2",
        {"intermediate_size": None, "n_embd": 64, "n_layer": 2, "n_head": 4, "max_position_embeddings": 1024},
    ),
    "bloom": ("bloom", "bloom", {"intermediate_size": None, "n_layer": 2, "n_head": 4}),
    "falcon": ("falcon", "falcon", {"multi_query": True, "num_key_value_heads": 1, "intermediate_size": 256}),
    "stablelm": ("stablelm", "stablelm", {"use_qkv_bias": True}),
    "starcoder2": ("starcoder2", "starcoder2", {"sliding_window": None}),
    "nemotron": ("nemotron", "nemotron", {}),
    "mamba": ("mamba", "mamba", {"state_size": 4, "time_step_rank": 4, "intermediate_size": 128}),
    **gguf_own.ARCHITECTURES,
}

UNMERGED = "Ġzyzzyva"  # a word that no merges make
MARKED = ("<tool>", "    ")  # tokens that stand for their own text
EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon")


@cache
def vocabulary() -> tuple[list[str], list[str]]:
    """Byte-level tokens, three special ones first, and their merges, learned from a few texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([*real.LANGUAGES, *real.CODE, *real.SHORT], trainer)
    tokens = [made.id_to_token(i) for i in range(made.get_vocab_size())] + [UNMERGED, *MARKED]
    return tokens, [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]


def pieces() -> list[str]:
    """As many tokens as sentencepiece has them: special ones, bytes, and pieces from the most frequent on."""
    return _pieces()[0]


@cache
def _pieces() -> tuple[list[str], list[str]]:
    """Those, and the merges they are made by."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    room = len(vocabulary()[0]) - 259
    trainer = trainers.BpeTrainer(vocab_size=room, limit_alphabet=100, show_progress=False)
    made.train_from_iterator([*real.LANGUAGES, *real.CODE, *real.SHORT], trainer)
    found = [made.id_to_token(i) for i in range(made.get_vocab_size())]
    found += [f"<unused{i}>" for i in range(room - len(found))]
    merges = [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *found], merges


def model_of(name: str) -> Any:
    """transformers' model of a name of ARCHITECTURES, its weights random and the same every time."""
    import torch
    import transformers

    _, kind, said = ARCHITECTURES[name]
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, "vocab_size": len(vocabulary()[0]), **said})
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    for name, buffer in model.named_buffers():
        if "correction_bias" in name or "layer_scalar" in name:
            buffer += torch.randn_like(buffer)
    model.generation_config.eos_token_id = None
    return model


def write(path: Path, name: str, model: Any = None, *, split: str = "gpt-2", space: bool | None = None) -> Path:
    """A file of such a model, whose text is split in such a way; or which is sentencepiece's, with a space in front.

    `split`: "gemma4" is a vocabulary of pieces with merges, as Gemma 4 has one.
    """
    import gguf

    arch, _, _ = ARCHITECTURES[name]
    model = model or model_of(name)
    config = model.config
    config.allow_global_per_layer_attribute_access = True  # of Gemma 4, whose heads differ by layer
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name)
    for key, attribute in _keys(arch).items():
        value = getattr(config, attribute, None) if attribute else None
        if isinstance(value, int) and not isinstance(value, bool):
            writer.add_uint32(f"{arch}.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"{arch}.{key}", value)
    part = getattr(config, "partial_rotary_factor", None) or 1.0
    part = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor") or part
    heads = config.num_attention_heads if hasattr(config, "num_attention_heads") else 1
    more: dict[str, Any] = {
        "rope.dimension_count": int((getattr(config, "head_dim", None) or config.hidden_size // heads) * part),
        "context_length": 128 if arch != "gpt2" else 1024,
        "feed_forward_length": 4 * config.hidden_size,  # of those that name none
        "attention.layer_norm_epsilon": next((x for x in map(vars(config).get, EPSILONS) if x), None),
    }
    if arch == "phi3":
        more["rope.scaling.original_context_length"] = 128
    more |= gguf_own.values(arch, config)
    for key, value in more.items():
        if isinstance(value, list):
            writer.add_array(f"{arch}.{key}", value)
        elif isinstance(value, str):
            writer.add_string(f"{arch}.{key}", value)
        elif f"{arch}.{key}" not in writer.kv_data[0] and value is not None and arch != "mamba":
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"{arch}.{key}", value)
    if theta := (getattr(config, "rope_parameters", None) or {}).get("rope_theta"):
        writer.add_float32(f"{arch}.rope.freq_base", theta)
    _add_vocabulary(writer, split, space)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    for tensor, weights in _tensors(arch, model):
        writer.add_tensor(tensor, np.ascontiguousarray(weights, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: Any, split: str, space: bool | None) -> None:
    if split == "gemma4":
        writer.add_tokenizer_model("gemma4")
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(True)
        writer.add_token_list(pieces())
        writer.add_token_scores([-1000.0] * len(pieces()))
        writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(pieces()) - 259)])
        writer.add_token_merges(_pieces()[1])
        return
    if space is not None:
        writer.add_tokenizer_model("llama")
        writer.add_add_space_prefix(space)
        writer.add_token_list(pieces())
        writer.add_token_scores([0.0 if i < 259 else float(259 - i) for i in range(len(pieces()))])
        writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(pieces()) - 259)])
        return
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 3 else 4 if token in MARKED else 1 for i, token in enumerate(tokens)])
    writer.add_token_merges(merges)


def _keys(arch: str) -> dict[str, str | None]:
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    if arch in gguf_own.STORED:
        return gguf_own.KEYS
    theirs = {"minimax-m2": "minimax_m2", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}.get(arch, arch)
    keys = {
        key: name for key, name in GGUF_CONFIG_MAPPING[theirs].items() if key not in ("vocab_size", "rope.freq_base")
    }
    wide = {"attention.key_length": "head_dim", "attention.value_length": "head_dim"}
    more = wide if arch in ("qwen3", "qwen3moe", "gemma2", "gemma3") else {}
    experts: dict[str, str | None] = {}
    if arch.endswith("moe"):
        shared = "shared_expert_intermediate_size"
        experts = {"expert_feed_forward_length": "moe_intermediate_size", "expert_shared_feed_forward_length": shared}
    return {**keys, **more, **experts}


def _tensors(arch: str, model: Any) -> Iterator[tuple[str, Any]]:
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(arch, TensorProcessor)(config=model.config.to_dict())
    named = {"llama": "llama", "qwen35": "qwen35", "qwen35moe": "qwen35moe"}.get(arch)
    places = get_gguf_hf_weights_map(model, processor, named)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    tied = model.config.tie_word_embeddings
    for name, place in sorted(places.items()):
        if not (tied and name == "output.weight") and (arch != "gpt2" or place.startswith("transformer.")):
            if arch in gguf_own.STORED:
                yield from gguf_own.stored(arch, model.config, name, weights[place])
                continue
            yield name + ".weight" * name.endswith("_exps"), _as_stored(arch, model.config, name, weights[place])
    yield from gguf_own.unnamed(arch, model.config, weights)
    rope = getattr(model.config, "rope_parameters", None) or {}
    if arch == "llama" and rope.get("rope_type") == "llama3":
        size = model.config.hidden_size // model.config.num_attention_heads
        plain = 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float32) / size)
        yield "rope_freqs.weight", plain / model.model.rotary_emb.inv_freq.numpy()


def _as_stored(arch: str, config: Any, name: str, weights: Any) -> Any:
    """Weights as llama.cpp's converter stores them."""
    if arch == "llama" and (found := re.search(r"attn_([qk])\.", name)):
        heads = config.num_attention_heads if found[1] == "q" else config.num_key_value_heads
        return weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)
    if arch in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        return weights + 1
    if arch == "gpt2" and re.search(r"(attn_qkv|ffn_down|ffn_up|attn_output)\.weight", name):
        return weights.T
    if arch == "bloom" and "attn_qkv" in name:
        parts = weights.reshape(config.n_head, 3, -1, *weights.shape[1:]).swapaxes(0, 1)
        return parts.reshape(weights.shape)
    if arch == "mamba":
        return weights.squeeze(1) if "ssm_conv1d.weight" in name else -np.exp(weights) if "ssm_a" in name else weights
    if (arch.endswith("moe") or arch == "minimax-m2") and re.search(r"ffn_(gate|up)_exps", name):
        half = weights.shape[1] // 2
        return weights[:, :half] if "gate" in name else weights[:, half:]
    return weights.squeeze(0) if "ffn_gate_inp_shexp" in name else weights
