"""A folder to a model of mlx-lm, with an adapter where one is named; never with code of the folder's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.engines.local.folder import NEEDS_CODE, NO_TEMPLATE, not_causal, read_config, stay_offline
from batch.engines.torch.asked import penalty_alone  # which knows nothing of torch
from batch.engines.torch.troubles import whole  # nor does this
from batch.errors import FatalError, MissingExtraError

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
BITS = {"int8": 8, "int4": 4}
GROUP = 32  # weights that share a scale where a model is quantised here


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run, its tokenizer, and what the engine needs to know of it."""

    model: Any
    tokenizer: Any  # the one of transformers
    end_ids: frozenset[int]  # tokens that end an answer
    context: int | None  # most tokens, prompt and answer together; None where the config names no limit
    pads: bool  # whether prompts of different lengths can be read together
    about: Mapping[str, Any]
    penalty: float = 1.0  # of repetition, as the model's generation config asks


def load(path: str | Path, precision: str = "auto", adapter: str | Path | None = None) -> Loaded:
    """Load a model; every way it can fail is a FatalError of one sentence.

    `auto` runs the weights as they are stored on a GPU and in fp32 on a CPU, which has no fast half precision here.
    A quantised checkpoint keeps its bits, and the precision is that of its scales and activations; int8 and int4 put
    the weights of one that is not into so many bits.
    """
    folder = Path(path).expanduser()
    if problem := not_causal(read_config(folder, ("model*.safetensors",), " (model*.safetensors)")):
        raise FatalError(f"{folder}: {problem}")
    if precision not in (known := ("auto", *PRECISIONS, *BITS)):
        raise FatalError(f"precision: {precision!r} is none of {', '.join(known)}")
    mx, utils = _libraries()
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    try:
        model, config, longest = _load_model(folder, utils)
        dtype = getattr(mx, PRECISIONS.get(precision, "float32")) if precision in PRECISIONS or not on_gpu else None
        if dtype is not None:
            model.set_dtype(dtype)
        if adapter is not None:
            from batch.engines.mlx.adapter import adapt

            adapt(model, Path(adapter).expanduser())
            if dtype is not None:  # the adapter's own numbers too
                model.set_dtype(dtype)
        bits = (config.get("quantization") or {}).get("bits")
        if precision in BITS:
            bits = _quantise(model, BITS[precision], bits)
        model.eval()
        mx.eval(model.parameters())
        tokenizer = utils.load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
    except FatalError as error:
        if str(error).startswith(("mlx-lm", "longrope")):
            raise FatalError(f"{folder}: {error}") from None
        raise
    except Exception as error:  # mlx, mlx-lm, safetensors and transformers each raise their own
        raise FatalError(f"{folder}: {_problem(error)}") from error
    pads = _check_caches(folder, model)
    penalty, notes = penalty_alone(folder)
    if not tokenizer._tokenizer.chat_template:
        notes.append(NO_TEMPLATE)
    if longest is not None and longest < (_context(config) or 0):
        notes.append(f"at most {longest:,} tokens: mlx-lm knows one of its two scales of positions (longrope)")
    return Loaded(
        model=model,
        tokenizer=tokenizer._tokenizer,
        end_ids=frozenset(tokenizer.eos_token_ids),
        context=min(filter(None, (_context(config), longest)), default=None),
        pads=pads,
        penalty=penalty,
        about={
            "device": "gpu" if on_gpu else "cpu",
            "precision": f"int{bits}" if bits else _precision(model),
            "parameters": utils.get_total_parameters(model),
            "architecture": config.get("model_type"),
            **({"adapter": str(adapter)} if adapter is not None else {}),
            **({"notes": notes} if notes else {}),
        },
    )


def _load_model(folder: Path, utils: Any) -> tuple[Any, dict[str, Any], int | None]:
    """mlx-lm's model, its config, and the most tokens that its positions are right for (None: any number)."""
    from batch.engines.mlx import rope

    config = json.loads((folder / "config.json").read_bytes())
    nested = isinstance(config.get("text_config"), dict)
    text = config["text_config"] if nested else config
    found, longest = rope.translate(text, rope.read_by(text, utils._get_classes))
    model, config = utils.load_model(
        folder, lazy=True, model_config={"text_config": {**text, **found}} if nested else found
    )
    try:
        from transformers import AutoConfig

        said = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    except Exception:  # a model that mlx-lm knows and transformers does not
        return model, config, longest
    rope.check(model, said)
    return model, config, longest


def _libraries() -> tuple[Any, Any]:
    """mlx and mlx-lm's loading, kept silent and off the network."""
    stay_offline()
    try:
        import jinja2  # noqa: F401 - chat templates; transformers names it only when one is used
        import mlx.core as mx
        import transformers
        from mlx_lm import utils
    except ImportError as error:
        raise MissingExtraError("mlx", "The mlx engine") from error
    transformers.logging.set_verbosity(logging.CRITICAL)
    return mx, utils


def _quantise(model: Any, bits: int, already: int | None) -> int:
    """Put a model's matrices into so many bits; how many they have now. One that is quantised stays as it is."""
    import mlx.nn as nn

    if already is None:
        nn.quantize(
            model,
            GROUP,
            bits,
            class_predicate=lambda _, module: hasattr(module, "to_quantized") and not module.weight.shape[-1] % GROUP,
        )
    return already or bits


def _check_caches(folder: Path, model: Any) -> bool:
    """Whether the model's caches allow padded prompts; raises where they cannot be joined at all.

    BatchGenerator pads prompts that it reads together. Attention masks the padding, but a recurrent state swallows it
    in some of mlx-lm's models (Mamba among them), and the answers are others.
    """
    from mlx_lm.models import cache

    caches = cache.make_prompt_cache(model)
    for one in caches:
        if not hasattr(one, "merge"):
            kind = type(one).__name__
            raise FatalError(f"{folder}: mlx-lm cannot run prompts of this model together (its cache is a {kind})")
    return all(isinstance(one, cache.KVCache | cache.RotatingKVCache) for one in caches)


def _context(config: Mapping[str, Any]) -> int | None:
    """The most tokens a row may have. mlx-lm runs Mistral without its window, which is right only within it."""
    text = config.get("text_config") or config
    limits = [text.get("max_position_embeddings")]
    if text.get("model_type") == "mistral":
        limits.append(text.get("sliding_window"))
    return min((limit for limit in limits if limit), default=None)


def _precision(model: Any) -> str:
    from mlx.utils import tree_flatten

    names = {f"mlx.core.{long}": short for short, long in PRECISIONS.items()}
    kinds = {names.get(str(weights.dtype)) for _, weights in tree_flatten(model.parameters())} - {None}
    return str(kinds.pop()) if len(kinds) == 1 else "mixed"


def _problem(error: Exception) -> str:
    text = str(error)
    line = whole(error)
    if "custom module" in text or "trust_remote_code" in text:
        return NEEDS_CODE
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "bad_alloc" in text:
        return f"not enough memory for the model: {line}"
    if "not supported" in text and "Model type" in text:
        return f"not a language model that mlx-lm knows: {line}"
    return f"the model cannot be loaded: {line}"
