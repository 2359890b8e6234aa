"""llama.cpp's row in the table of engines; imports nothing of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufError, GgufHeader, read_header
from batch.engines.gguf.known import unknown
from batch.engines.local.memory import available
from batch.engines.places import form_of
from batch.engines.registry import EngineOption, EngineRow
from batch.options import PRECISIONS, TRUNCATE

MODULE = "xllamacpp"
TORCH_SHARE = 0.5  # of free memory, what torch's int8 weights may take where a choice is made


def suits(place: Path | str) -> bool:
    """A GGUF file that torch cannot run here, or has no room for, where llama.cpp is installed."""
    if isinstance(place, str) or not _installed(MODULE) or form_of(place) != "gguf":
        return False
    try:
        return not torch_runs(read_header(place))
    except (GgufError, OSError):
        return False


def torch_runs(header: GgufHeader) -> bool:
    """Whether the torch engine takes this file here: it knows all of it, and its weights fit in int8."""
    known = not unknown(header) and all(map(_installed, ("torch", "transformers", "gguf")))
    return known and int((header.parameters or 0) * 1.3) < available() * TORCH_SHARE


def why(header: GgufHeader, engine: str) -> str:
    """Why this engine runs a file, for its line."""
    size = f"{header.size_bytes / 1e9:.1f} GB" if header.size_bytes >= 1e9 else f"{header.size_bytes / 1e6:.0f} MB"
    if engine == "torch":
        return f"on torch: {header.architecture} fits in memory as int8 or fp32"
    return f"on llama.cpp: {size}, {header.quantisation} kept" if engine == "gguf" else ""


def check(spec: Mapping[str, Any]) -> str:
    """What is wrong with an entry's options together."""
    if spec.get("precision", "auto") != "auto":
        return "llama.cpp computes with the file's own quantisation; precision is nothing it can be told"
    return ""


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


ROW = EngineRow(
    "gguf",
    "local",
    "llama.cpp: any GGUF file, as it is quantised; CPUs, Metal, CUDA",
    core="batch.engines.gguf.engine:open_core",
    extra="gguf",
    modules=(MODULE,),
    forms=("gguf",),
    options={
        "context": EngineOption("tokens each answer has, prompt included; without it the model's own", int, minimum=64),
        "slots": EngineOption("answers at once, each with the whole context", int, minimum=1),
        "threads": EngineOption("threads of the CPU", int, minimum=1),
        "gpu_layers": EngineOption("layers on the GPU; all without it, where there is one", int, minimum=0),
        "precision": EngineOption("auto: as the file is quantised", choices=PRECISIONS),
        "truncate": EngineOption("never: a prompt that is too long is refused", choices=TRUNCATE),
    },
    suits=suits,
    check=check,
)
