"""A model's folder or GGUF file to a model, never with code of the folder's own."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufHeader
from batch.engines.local.folder import NEEDS_CODE, NO_TEMPLATE, not_causal, read_config, stay_offline
from batch.engines.local.memory import available
from batch.engines.torch import gguf_file, verdicts
from batch.engines.torch.context import context_of
from batch.engines.torch.lora import merge_adapter
from batch.engines.torch.quantised import check_quantised
from batch.engines.torch.troubles import first_line, out_of_memory
from batch.errors import FatalError, MissingExtraError
from batch.options import PRECISIONS

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run, its tokenizer, and what the engine needs to know of it."""

    model: Any
    tokenizer: Any
    end_ids: frozenset[int]  # tokens that end an answer
    context: int | None  # most tokens, prompt and answer together; None where the config names no limit
    about: Mapping[str, Any]


def load(
    path: str | Path, precision: str = "auto", device: str = "auto", adapter_path: str | Path | None = None
) -> Loaded:
    """Load a causal language model from a Hugging Face folder or a GGUF file.

    Every way it can fail is a FatalError of one sentence.
    """
    place = Path(path).expanduser()
    from_gguf = place.is_file()
    if not from_gguf:
        _check_folder(place)
    if precision not in PRECISIONS:
        raise FatalError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    torch, transformers = _libraries()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto" and device != "cpu":
        # fp16 for the GPUs from before bf16
        precision = "bf16" if not device.startswith("cuda") or torch.cuda.is_bf16_supported() else "fp16"
    adapter, header = None, gguf_file.open_header(place) if from_gguf else None
    auto = precision == "auto"
    verdict = _verdict(place, header) if auto and not adapter_path else ""
    precision, quality = verdicts.find(verdict) or (precision, "")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    try:
        if header is not None:
            tokenizer, ends = gguf_file.load_tokenizer(place, header), gguf_file.end_ids(header)
            model, precision = _from_gguf(place, header, precision, dtype, device, auto=auto, plain=bool(adapter_path))
        else:
            tokenizer = _tokenizer(place, transformers)
            model, ends = _from_folder(place, dtype, device, transformers), frozenset()
        config = model.config.get_text_config()
        parameters = sum(p.numel() for p in model.parameters()) if header is None else header.parameters
        if adapter_path:
            adapter = merge_adapter(model, Path(adapter_path).expanduser())
        tried, stored = precision == "auto", "" if from_gguf else _stored(place)
        precision, quality, kernels = _quicken(model, tokenizer, precision, device, stored, quality)
        if tried and quality:
            verdicts.keep(verdict, precision, quality)
    except FatalError:
        raise
    except Exception as error:  # transformers, safetensors, pickle and torch each raise their own
        raise FatalError(f"{place}: {_load_problem(error)}") from error
    notes = [quality] if quality else []
    if kernels == "torch" and device == "cpu" and precision in ("fp32", "int8", "int4"):
        notes.append(_without_kernels())
    if not tokenizer.chat_template:
        notes.append(NO_TEMPLATE)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        end_ids=_end_ids(model, tokenizer) | ends,
        context=context_of(config),
        about={
            "device": device,
            "precision": precision,
            **({"notes": notes} if notes else {}),
            "parameters": parameters,
            "architecture": type(model).__name__,
            "threads": torch.get_num_threads(),
            "kernels": kernels,
            **({"kernels_from": _origin()} if kernels == "native" else {}),
            **({"kv_cache": "bf16"} if precision in ("int8", "int4") and _has_bf16(torch) else {}),
            **({"adapter": adapter} if adapter else {}),
        },
    )


def _from_folder(folder: Path, dtype: Any, device: str, transformers: Any) -> Any:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if report["missing_keys"]:
        # transformers would fill them with random numbers and go on
        missing = sorted(report["missing_keys"])
        raise FatalError(f"{folder}: the weights lack {len(missing)} of the model's tensors, {missing[0]} among them")
    return model.to(device).eval()


def _from_gguf(
    file: Path, header: GgufHeader, precision: str, dtype: Any, device: str, *, auto: bool, plain: bool
) -> tuple[Any, str]:
    """The model and the precision: int8 from the first layer on where that is wanted or fp32 would not fit memory."""
    from batch.engines.torch import linear

    tight = auto and 4 * (header.parameters or 0) > available() * 0.6
    if tight and device == "cpu" and linear.has_int8():
        precision = "int8"
    int8 = precision == "int8" and device == "cpu" and not plain and linear.has_int8()
    model = gguf_file.load_model(file, header, dtype, device, int8=int8)
    return model, precision


def _quicken(
    model: Any, tokenizer: Any, wanted: str, device: str, stored: str, remembered: str
) -> tuple[str, str, str]:
    """Fuse projections, and have the model compute as is wanted, in the layout and by the loops that are fastest here.

    `remembered`: what an earlier trial said of the precision that is wanted, which is not measured again.
    Returns the precision, what is given up for it, and whose loops they are.
    """
    from batch.engines.torch import fused, linear, native, precision

    linear.fuse(model)
    settled, quality = wanted, remembered
    if wanted == "auto":
        settled, quality = precision.settle(model, tokenizer, stored)
    elif remembered:
        precision.apply(model, wanted, device)
    else:
        quality = precision.apply_told(model, tokenizer, wanted, device)
    if settled == "fp32" and device == "cpu" and linear.packs_faster():
        linear.pack(model)
    quick = native.kernels() if device == "cpu" and settled in ("fp32", "int8", "int4") else None
    if quick is not None:
        fused.use_kernels(model, quick)
    return settled, quality, "torch" if quick is None else "native"


def _verdict(place: Path, header: GgufHeader | None) -> str:
    """The name under which it is remembered what a trial says of this model on this machine."""
    from batch.engines.torch import native, precision

    files = (
        [path for pattern in (*WEIGHTS, "*.json") for path in place.glob(pattern)] if header is None else header.files
    )
    return verdicts.key([*files, *native.files()], precision.rules())


def _without_kernels() -> str:
    from batch.engines.torch import native

    return f"slower than it could be: no native kernels, {native.why_not()}"


def _origin() -> str:
    from batch.engines.torch import native

    return native.origin()


def _stored(folder: Path) -> str:
    """The type that config.json says the weights are stored in."""
    config = json.loads((folder / "config.json").read_bytes())
    return str(config.get("dtype") or config.get("torch_dtype") or "")


def _has_bf16(torch: Any) -> bool:
    """Whether the CPU multiplies bf16 in hardware; the int8 mode's cache is bf16 there, half the memory to read."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _check_folder(folder: Path) -> None:
    config = read_config(folder, WEIGHTS, ", neither *.safetensors nor pytorch_model.bin")
    if problem := not_causal(config) or check_quantised(config):
        raise FatalError(f"{folder}: {problem}")


def _libraries() -> tuple[Any, Any]:
    """torch and transformers, kept silent and off the network."""
    stay_offline()
    try:
        import jinja2  # noqa: F401 - chat templates; transformers names it only when one is used
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError("local", "The torch engine") from error
    except OSError as error:  # a library of the system that torch was built for
        raise FatalError(f"torch cannot be imported: {error}") from error
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    return torch, transformers


def _tokenizer(folder: Path, transformers: Any) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the formats are many, and so are their errors
        raise FatalError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from error


def _load_problem(error: Exception) -> str:
    line = first_line(error)
    if "trust_remote_code" in str(error):
        return NEEDS_CODE
    if out_of_memory(error):
        return f"not enough memory for the model: {line}"
    if "weights_only" in str(error):
        return f"the weights cannot be read: {read_problem(error)}"
    if "Unrecognized configuration class" in line or "model type" in line or "Unrecognized model" in line:
        return f"not a causal language model that transformers knows: {line}"
    return f"the weights cannot be read: {line}"


def read_problem(error: BaseException) -> str:
    """Why a file of weights cannot be read, in words of ours where torch's advise to run what is in it."""
    text = str(error)
    if "weights_only" not in text:
        return first_line(error)
    found = re.search(r"GLOBAL:? (\S+)", text)
    if found:
        return f"it holds more than tensors ({found[1]}), which would run as code and is never loaded"
    return "it is damaged, or no file of tensors that torch.save wrote"


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: those of the generation config, else the model's, and the tokenizer's own."""
    config = model.generation_config.eos_token_id
    if config is None:
        config = model.config.get_text_config().eos_token_id
    ends = list(config) if isinstance(config, list | tuple) else [config]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)
