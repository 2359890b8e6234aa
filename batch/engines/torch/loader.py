"""A model's folder or GGUF file to a model, never with code of the folder's own."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from batch.engines.gguf.header import GgufHeader
from batch.engines.local.folder import NEEDS_CODE, NO_TEMPLATE, not_causal, read_config
from batch.engines.local.memory import available, given_back
from batch.engines.torch import gguf_file, gguf_tokenizer, importing, shelf, starting, verdicts
from batch.engines.torch.asked import generation_of, sampled_in_gguf
from batch.engines.torch.context import context_of
from batch.engines.torch.lean.config import nothing_more
from batch.engines.torch.lora import merge_adapter
from batch.engines.torch.quantised import check_quantised
from batch.engines.torch.troubles import first_line, out_of_memory
from batch.errors import FatalError, MissingExtraError
from batch.options import PRECISIONS

if TYPE_CHECKING:
    from batch.engines.torch.lean.weights import Source

SMALL = 1_000_000  # parameters; of a smaller model nothing is remembered, as it is read and tried in no time
PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run, its tokenizer, and what the engine needs to know of it."""

    model: Any
    tokenizer: Any
    end_ids: frozenset[int]  # tokens that end an answer
    context: int | None  # most tokens, prompt and answer together; None where the config names no limit
    about: Mapping[str, Any]
    key: str = ""  # under which it is remembered what a trial says of it; "" where nothing is


def load(
    path: str | Path,
    precision: str = "auto",
    device: str = "auto",
    adapter_path: str | Path | None = None,
    *,
    lean: bool = True,
) -> Loaded:
    """Load a causal language model from a Hugging Face folder or a GGUF file.

    Where `lean`, a model on the CPU that is known without transformers' classes is loaded without them.
    Every way it can fail is a FatalError of one sentence.
    """
    place = Path(path).expanduser()
    from_gguf = place.is_file()
    if not from_gguf:
        _check_folder(place)
    if precision not in PRECISIONS:
        raise FatalError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    starting.small_libraries()
    adapter_folder, adapter = Path(adapter_path).expanduser() if adapter_path else None, None
    start = starting.begin(place, precision, adapter_folder, lean=lean and device in ("auto", "cpu"))
    torch = starting.torch()
    from batch.engines.torch import native, prepared
    from batch.engines.torch.lean import kept

    header = start.header
    device, asked = _where(torch, device, precision)
    precision, quality = start.settled if start.settled and (device, asked) == ("cpu", precision) else (asked, "")
    dtype = _dtype(precision, device)
    lean = lean and dtype == torch.float32 and device == "cpu" and adapter_folder is None
    how = _How(asked, precision, quality, dtype, device, lean, merges=adapter_folder is not None)
    try:
        words = cache(lambda: _words(place, header, start.words() if how.lean else None))
        read = _kept(place, start if how.lean and native.kernels() is not None else None, words)
        with given_back() if read is None else contextlib.nullcontext():
            if read is None:
                read = _read_folder(place, how, words()) if header is None else _read_gguf(place, header, how, words())
            model, tokenizer = read.model, read.tokenizer
            if adapter_folder is not None:
                adapter = merge_adapter(model, adapter_folder)
            stored = "" if from_gguf else _stored(place)
            precision, quality, kernels = _quicken(read, how, stored)
        if quality and not how.quality:
            verdicts.keep(start.verdict, precision, quality)
        if how.lean and read.parameters >= SMALL:
            tokenizer = kept.keep(starting.named(start.own, "tokenizer"), tokenizer) or tokenizer
            if not read.kept:
                index = {"precision": precision, "parameters": read.parameters, "ends": sorted(read.ends)}
                prepared.keep(start.name("weights", precision), model, index)
    except FatalError:
        raise
    except Exception as error:  # transformers, safetensors, pickle and torch each raise their own
        raise FatalError(f"{place}: {_load_problem(error)}") from error
    notes = [quality] if quality else []
    if kernels == "torch" and device == "cpu" and model.dtype == torch.float32:
        notes.append(_without_kernels())
    if not tokenizer.chat_template:
        notes.append(NO_TEMPLATE)
    notes += sampled_in_gguf(header.values if header is not None else {})
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        end_ids=_end_ids(model, tokenizer) | read.ends,
        context=context_of(model.config.get_text_config()),
        about={
            "device": device,
            "precision": precision,
            **({"notes": notes} if notes else {}),
            "parameters": read.parameters,
            "architecture": getattr(model, "architecture", type(model).__name__),
            "threads": torch.get_num_threads(),
            "kernels": kernels,
            **({"kernels_from": _origin()} if kernels == "native" else {}),
            **({"kv_cache": "bf16"} if precision in ("bf16", "int8", "int4") and _has_bf16() else {}),
            **({"adapter": adapter} if adapter else {}),
        },
        key=start.name("runner", precision, kernels) if device == "cpu" and read.parameters >= SMALL else "",
    )


@dataclass(frozen=True, slots=True)
class _How:
    """What a model is loaded as."""

    asked: str  # the precision that was asked for
    precision: str  # and the one by what is remembered of that
    quality: str  # what the trial said that is remembered; "" where none is
    dtype: Any
    device: str
    lean: bool  # whether without transformers' classes, where that can be
    merges: bool  # whether an adapter is to be merged into it, which needs whole numbers


@dataclass(frozen=True, slots=True)
class _Read:
    """A model and its tokenizer out of their files."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]  # tokens that end an answer by the weights' own account
    parameters: int
    precision: str  # the one that is wanted of it
    quality: str = ""  # what that costs, where it was measured
    changed: bool = False  # whether it computes in it already
    kept: bool = False  # whether an earlier start had packed it


def _where(torch: Any, device: str, precision: str) -> tuple[str, str]:
    """The device, and the precision where that settles it."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto" and device != "cpu":
        # fp16 for the GPUs from before bf16
        precision = "bf16" if not device.startswith("cuda") or torch.cuda.is_bf16_supported() else "fp16"
    return device, precision


def _kept(place: Path, start: starting.Start | None, words: Callable[[], Any]) -> _Read | None:
    """What was packed by an earlier start; None, and the entry is gone, where it is not sound."""
    from batch.engines.torch import prepared
    from batch.engines.torch.lean import weights

    if start is None or start.entry is None:
        return None
    entry, about = start.entry, start.entry.about
    try:
        model = prepared.model_of(entry, weights.table_of(place, start.header))
        ends = frozenset(map(int, about["ends"]))
        parameters, precision = int(about["parameters"]), str(about["precision"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        shelf.forget(entry.folder.name)
        return None
    return _Read(model, words(), ends, parameters, precision, changed=True, kept=True)


def _words(place: Path, header: GgufHeader | None, found: Any) -> Any:
    """The tokenizer: the one that was kept, or transformers' own."""
    if found is not None:
        return found
    transformers = _transformers()
    return _tokenizer(place, transformers) if header is None else gguf_tokenizer.load_tokenizer(place, header)


def _read_folder(folder: Path, how: _How, tokenizer: Any) -> _Read:
    from batch.engines.torch.lean import weights

    read = _read_lean(lambda: weights.open_folder(folder), how, tokenizer) if how.lean else None
    if read is not None:
        return read
    model = _from_folder(folder, how.dtype, how.device)
    return _Read(model, tokenizer, frozenset(), sum(p.numel() for p in model.parameters()), how.precision)


def _read_lean(opened: Callable[[], Source | None], how: _How, tokenizer: Any) -> _Read | None:
    """A model of ours, changed while it is read where it is to be; None where transformers is to read it."""
    from safetensors import SafetensorError

    from batch.engines.torch import linear, native, precision
    from batch.engines.torch.lean import panels, passing

    try:
        source = opened()
        if source is None:
            return None
        none: frozenset[int] = frozenset()
        parameters, wanted = source.parameters, how.precision
        settled = precision.in_passing(source, tokenizer, wanted, how.quality)
        if settled is not None:
            return _Read(source.model, tokenizer, none, parameters, *settled, changed=True)
        if wanted == "auto" and parameters < precision.LARGE:
            wanted = "fp32"
        if wanted == "fp32":
            kind = linear.fastest()
            if kind is linear.FloatLinear and (quick := native.kernels()) is not None:
                panels.fill(source, quick, 32)
            else:
                passing.change(source, partial(linear.pack, kind=kind))
            return _Read(source.model, tokenizer, none, parameters, wanted, changed=True)
        source = opened()  # the first may be used up
        return None if source is None else _Read(source.whole(), tokenizer, none, parameters, wanted)
    except (OSError, SafetensorError):
        return None


def _read_gguf(file: Path, header: GgufHeader, how: _How, tokenizer: Any) -> _Read:
    """The model is int8 from the first layer on where that is wanted or fp32 would not fit memory."""
    from batch.engines.torch import linear
    from batch.engines.torch.lean import weights

    ends, parameters, precision = gguf_file.end_ids(header), header.parameters, how.precision
    int8 = how.device == "cpu" and linear.has_int8()
    if int8 and how.asked == precision == "auto" and 4 * (parameters or 0) > available() * 0.6:
        precision = "int8"
    how = replace(how, precision=precision)
    beside = generation_of(file.parent)
    lean = how.lean and nothing_more(beside)
    read = _read_lean(lambda: weights.open_gguf(header), how, tokenizer) if lean else None
    if read is not None:
        read.model.generation_config = SimpleNamespace(**{"eos_token_id": None, **vars(beside)})
        return replace(read, ends=ends, parameters=parameters or read.parameters)
    _transformers()
    int8 = int8 and precision == "int8" and not how.merges
    model = gguf_file.load_model(file, header, how.dtype, how.device, int8=int8)
    model.generation_config.update(**vars(beside))
    return _Read(model, tokenizer, ends, parameters or 0, precision)


def _from_folder(folder: Path, dtype: Any, device: str) -> Any:
    model, report = _transformers().AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if report["missing_keys"]:
        # transformers would fill them with random numbers and go on
        missing = sorted(report["missing_keys"])
        raise FatalError(f"{folder}: the weights lack {len(missing)} of the model's tensors, {missing[0]} among them")
    return model.to(device).eval()


def _quicken(read: _Read, how: _How, stored: str) -> tuple[str, str, str]:
    """Fuse projections, and have the model compute as is wanted, in the layout and by the loops that are fastest here.

    What an earlier trial said of the precision is not measured again.
    Returns the precision, what is given up for it, and whose loops they are.
    """
    import torch

    from batch.engines.torch import fused, linear, native, precision

    model, settled, quality = read.model, read.precision, read.quality or how.quality
    if not read.changed:
        if how.device == "cpu":
            linear.plain(model)
        linear.fuse(model)
        if settled == "auto":
            settled, quality = precision.settle(model, read.tokenizer, stored)
        elif quality:
            precision.apply(model, settled, how.device)
        else:
            quality = precision.apply_told(model, read.tokenizer, settled, how.device)
    if settled == "fp32" and how.device == "cpu" and not read.changed:
        linear.pack(model)
    quick = native.kernels() if how.device == "cpu" and model.dtype == torch.float32 else None
    if quick is not None:
        fused.use_kernels(model, quick)
    return settled, quality, "torch" if quick is None else "native"


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


def _dtype(precision: str, device: str) -> Any:
    """What the model is loaded as."""
    import torch

    if precision == "bf16" and device == "cpu" and _has_bf16():
        return torch.float32  # its linear layers are narrowed, and all between them is as in fp32
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def _has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; the cache of fewer bits is bf16 there, half the memory to read."""
    from batch.engines.torch import bf16

    return bf16.has_bf16()


def _check_folder(folder: Path) -> None:
    config = read_config(folder, starting.WEIGHTS, ", neither *.safetensors nor pytorch_model.bin")
    if problem := not_causal(config) or check_quantised(config):
        raise FatalError(f"{folder}: {problem}")


def _transformers() -> Any:
    """transformers, kept silent."""
    importing.whole()
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("local", "The torch engine") from error
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    return transformers


def _tokenizer(folder: Path, transformers: Any) -> Any:
    kind = transformers.PreTrainedTokenizerFast if _is_plain(folder) else transformers.AutoTokenizer
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the formats are many, and so are their errors
        raise FatalError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from error


def _is_plain(folder: Path) -> bool:
    """Whether a folder's tokenizer is its tokenizer.json and no class of a model: looking one up takes a while."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_bytes())
        return (folder / "tokenizer.json").is_file() and said["tokenizer_class"] in PLAIN_TOKENIZERS
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


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
