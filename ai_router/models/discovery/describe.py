"""What can be said of a place without loading what lies there: a folder, a file, a server's address. Never raises."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_router.models.discovery.kept import embeddings, of_config
from ai_router.models.own import own_sampling
from ai_router.models.spec import ModelSpec
from batch.engines import registry as engines
from batch.engines.gguf import kept as gguf_kept
from batch.engines.gguf.header import GgufError, GgufHeader
from batch.engines.gguf.header import read_header as read_gguf
from batch.engines.gguf.row import why as gguf_why
from batch.engines.local import memory
from batch.engines.local.folder import NOT_CAUSAL, not_causal
from batch.engines.places import FORMS, base_of_adapter, form_of, gguf_files, open_file, read_config
from batch.engines.registry import Place
from batch.engines.torch.asked import generation_of
from batch.engines.torch.lean import config as lean
from batch.errors import FatalError

SUFFIXES = (".gguf", ".safetensors", ".bin")  # of names that are taken for a file's
# Of models that take pictures too: those whose text alone the local engines run.
TEXT_ALONE = {
    *("gemma3", "gemma3n", "gemma4", "gemma4_unified", "llama4", "mistral3", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe"),
    *("qwen3_5", "qwen3_5_moe", "qwen4_exp"),
}
OWN = ("folder", "gguf")  # forms of models that may have defaults of sampling
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself has it
_MOST_ELEMENTS = 2**60  # of a tensor that can be


def describe(
    place: Place,
    *,
    id: str | None = None,  # noqa: A002 - the field's own name
    name: str | None = None,
    engine: str | None = None,
    source: str,
    notes: str = "",
    sampling: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
    engine_options: Mapping[str, Any] | None = None,
    context: int | None = None,
) -> ModelSpec:
    """The spec of what lies at a place. No engine: the one that suits it best here. `sampling` goes over its own.

    What cannot be read, or run here, is not ready, and `why` names it and says what would help.
    """
    form = form_of(place)
    asked, engine = engine, engine or engines.default_engine(place)
    why, config, weights = _look(place, form) if isinstance(place, Path) else _nothing("")
    header = None
    if form == "gguf" and isinstance(place, Path):
        why, header = look_at_gguf(place)
        if header is None and asked is None:
            engine = "gguf"  # whatever it holds
    only_here = form == "missing"
    if not why and (why := _cannot_take(engine, form, place)):
        only_here = bool(_missing(engine, form))
    if not why and form == "folder" and not engines.find(engine).external:
        why = _garbled(weights)
    if not why and isinstance(place, str):
        why = _lacks(engine, place, engine_options or {})
    if not why and adapter is not None:
        why = _adapter_problem(adapter, engine)
    label = place if isinstance(place, str) else place.name
    own = own_sampling(place, header) if isinstance(place, Path) and form in OWN else {}
    if header is not None and isinstance(place, Path) and not why:
        why = _too_large(header, engine)
        only_here = bool(why)
        notes = "; ".join(filter(None, (notes, gguf_why(place, header, engine))))
    per_token, per_row, table = _kept(header, config)
    parameters = header.parameters if header else count_parameters(weights)
    return ModelSpec(
        id=id or label,
        name=name or label,
        engine=engine,
        place=place,
        source=source,
        parameters=parameters,
        size_bytes=header.size_bytes if header else _size(weights),
        context=context or (header.context if header else _context(config)),
        quantisation=header.quantisation if header else _quantised(config),
        license=header.license if header else "",
        cache_bytes_per_token=per_token,
        cache_bytes_per_row=per_row,
        embeddings=table,
        held=_held(place, header, weights, parameters, table),
        notes=notes,
        ready=not why,
        why=why,
        only_here=only_here,
        sampling={**own, **(sampling or {})},
        adapter=adapter,
        engine_options=engine_options or {},
    )


def describe_folder(folder: Path, **said: Any) -> ModelSpec:
    """What can be said of a Hugging Face model folder; see `describe`."""
    return describe(folder, **said)


_Seen = tuple[str, dict[str, Any], list[Path]]


def _nothing(why: str) -> _Seen:
    return why, {}, []


def _look(place: Path, form: str) -> _Seen:
    """Why it is no model, its config, its files of weights."""
    if form == "missing":
        return _nothing(f"no such {'file' if place.suffix in SUFFIXES else 'folder'}: {place}")
    if form == "folder":
        return _look_into(place)
    if form == "adapter":
        base = base_of_adapter(place)
        named = f", made for {base}" if base else ""
        text = f"{place} is a LoRA adapter{named}, and no model: ai-router models add BASE --adapter {place}"
        return _nothing(text)
    if form == "mmproj":
        text = f"{place} is {FORMS['mmproj']}: name the model's own GGUF file, which lies beside it"
        return _nothing(text)
    if form == "safetensors" and form_of(place.parent) == "adapter":
        text = f"{place} is a LoRA adapter's file: ai-router models add BASE --adapter {place.parent}"
        return _nothing(text)
    if form == "safetensors":
        return _nothing(f"{place} is a file of weights, and a model is its whole folder: name {place.parent}")
    if form == "unknown":
        return _nothing(f"{place} is no model: neither a folder with a config.json nor a GGUF file")
    return "", {}, [place]


def _look_into(folder: Path) -> _Seen:
    config, why = read_config(folder / "config.json")
    try:
        weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    except OSError as error:
        return f"cannot read {folder}: {error.strerror or error}", config, []
    if why and (inside := gguf_files(folder)):
        return f"{folder} holds a GGUF file, and no config.json: name the file itself, {inside[0]}", config, []
    if why:
        return why, config, weights
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(one, str) for one in architectures):
        return f"{folder / 'config.json'}: architectures is no list of names", config, weights
    if why := not_causal(config) or _needs_pictures(config, architectures):
        return why, config, weights
    if not weights:
        return f"no weights (*.safetensors) in {folder}", config, weights
    return "", config, weights


def _garbled(weights: Sequence[Path]) -> str:
    """Why a file of weights is none, else ""."""
    for file in weights:
        if file.suffix == ".safetensors":
            try:
                read_header(file)
            except ValueError:
                return f"{file} holds no weights that can be read: copy or fetch it again"
            except OSError as error:
                return f"{file} cannot be read: {error.strerror or error}"
    return ""


def _needs_pictures(config: Mapping[str, Any], architectures: Sequence[str]) -> str:
    only = architectures and all(one.endswith("ForConditionalGeneration") for one in architectures)
    return f"{NOT_CAUSAL} ({architectures[0]})" if only and config.get("model_type") not in TEXT_ALONE else ""


def _missing(engine: str, form: str) -> str:
    """What has to be installed before this engine can run this form here, else ""."""
    try:
        row = engines.find(engine)
    except FatalError:
        return ""
    return row.missing() if form in row.forms else ""


def _cannot_take(engine: str, form: str, place: Place) -> str:
    """Why this engine cannot run this form of model here, else ""."""
    try:
        row = engines.find(engine)
    except FatalError as error:
        return str(error)
    if form in row.forms or row.external:
        return row.missing() or row.refuses(place)
    takers = engines.takers(form)
    here = FORMS[form]
    if not takers:
        hint = "serve it (with llama.cpp's llama-server, say), or take the model's folder of safetensors"
        return f"{place} is {here}, which none of the engines here runs ({', '.join(engines.names())}): {hint}"
    return f"{place} is {here}; the {engine} engine does not run it, engine: {takers[0].name} does"


def _adapter_problem(adapter: Path, engine: str) -> str:
    """Why an adapter cannot be put over weights on an engine, else ""."""
    if form_of(adapter) == "missing":
        return f"no such adapter folder: {adapter}"
    form = form_of_adapter(adapter)
    if form == "gguf" and engine != "gguf":
        return f"{adapter} is a LoRA adapter in GGUF, which llama.cpp puts over a GGUF file: engine: gguf"
    if form == "folder" and engine == "gguf":
        return f"{adapter} is a PEFT folder, and llama.cpp takes an adapter as one GGUF file: engine: torch"
    return ""


def _lacks(engine: str, place: str, options: Mapping[str, Any]) -> str:
    """What a server's model needs and has not, such as a key, else ""."""
    return engines.find(engine).lacks({**({"url": place} if place else {}), **options})


def form_of_adapter(place: Path) -> str:
    """`folder` (PEFT or MLX) or `gguf` where a LoRA adapter lies there, else ""."""
    form = form_of(place)
    if form == "adapter":
        return "folder"
    if form != "gguf":
        return ""
    header = look_at_gguf(place)[1]
    return "gguf" if header is not None and header.text("general.type") == "adapter" else ""


def look_at_gguf(file: Path) -> tuple[str, GgufHeader | None]:
    """Why a GGUF file is no model that answers ("" where it is one), and its header where it can be read."""
    try:
        header = read_gguf(file)
    except (GgufError, OSError) as error:
        return f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", None
    why = header.why_not()
    return (f"{file} is {why}" if why else ""), header


def _too_large(header: GgufHeader, engine: str) -> str:
    """Why it does not fit this machine, both numbers named; "" where it does."""
    needs = header.size_bytes if engine != "torch" else max(header.size_bytes, int((header.parameters or 0) * 1.3))
    there = memory.total()
    if needs < there:
        return ""
    bits = 8 * header.size_bytes / (header.parameters or 1)
    fits = f"{there * 0.7 / 1e9:.1f} GB of weights" + (f" ({bits * 0.7 * there / needs:.1f} bits)" if bits else "")
    return f"takes {needs / 1e9:.1f} GB and this machine has {there / 1e9:.1f} GB: {fits} would fit"


def _quantised(config: Mapping[str, Any]) -> str:
    """`4 bits`, `gptq`, … as a config has it."""
    for key in ("quantization", "quantization_config"):
        said = config.get(key)
        if isinstance(said, Mapping):
            bits, method = said.get("bits"), said.get("quant_method")
            return f"{bits} bits" if isinstance(bits, int) else str(method)[:20] if method else ""
    return ""


def _kept(header: GgufHeader | None, config: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Bytes that the model keeps of a token and of a row, and how many of its parameters are a table of embeddings."""
    if header is not None:
        kept = gguf_kept.cache_bytes_per_token(header), gguf_kept.cache_bytes_per_row(header)
        return *kept, gguf_kept.embeddings(header)
    of = of_config(config)
    return (of.per_token if of else None), (of.per_row if of else None), embeddings(config)


def _held(
    place: Place, header: GgufHeader | None, weights: Sequence[Path], parameters: int | None, table: int | None
) -> int | None:
    """How many parameters torch holds of a model whose table of embeddings it leaves in the file; None of others."""
    if isinstance(place, str) or not parameters or not table:
        return None
    if header is not None:
        known = lean.of_gguf(header) if lean.nothing_more(generation_of(place.parent)) else None
    elif weights and all(file.suffix == ".safetensors" for file in weights):
        found = lean.of_folder(place)
        known = found[0] if found else None
    else:
        known = None
    if known is None:
        return None
    # Where the head is the same matrix, it is there in its stead.
    return parameters if known.tie_word_embeddings else parameters - table


def _context(config: Mapping[str, Any]) -> int | None:
    for key in ("max_position_embeddings", "n_positions"):
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return None


def _size(weights: Sequence[Path]) -> int | None:
    try:
        return sum(file.stat().st_size for file in weights) or None
    except OSError:
        return None


def read_header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file (8 bytes of length, then JSON). Raises ValueError and OSError."""
    with open_file(file) as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise ValueError(f"{file} is cut short")
        (length,) = struct.unpack("<Q", start)
        if length > min(_LONGEST_HEADER, file.stat().st_size):
            raise ValueError(f"{file} has no safetensors header")
        try:
            header = json.loads(stream.read(length))
        except RecursionError:
            raise ValueError(f"{file}: the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError(f"{file} has no safetensors header")
    return header


def count_parameters(weights: Sequence[Path]) -> int | None:
    """Elements of all tensors, from the safetensors headers; None where they do not say."""
    total = 0
    for file in weights:
        if file.suffix != ".safetensors":
            return None
        try:
            header = read_header(file)
        except (OSError, ValueError):
            return None
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            shape = tensor.get("shape") if isinstance(tensor, dict) else None
            if not isinstance(shape, list) or not all(isinstance(n, int) and 0 <= n < 2**40 for n in shape):
                return None
            elements = math.prod(shape[:8])
            if len(shape) > 8 or elements > _MOST_ELEMENTS:
                return None
            total += elements
    return total or None
