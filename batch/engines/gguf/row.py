"""llama.cpp's row in the table of engines; imports nothing of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.engines.gguf import measured
from batch.engines.gguf.header import GgufError, GgufHeader, read_header
from batch.engines.gguf.kept import embeddings
from batch.engines.gguf.known import unknown
from batch.engines.local.memory import available
from batch.engines.places import form_of
from batch.engines.registry import EngineOption, EngineRow
from batch.options import PRECISIONS, TRUNCATE

MODULE = "xllamacpp"
TORCH_SHARE = 0.5  # of free memory, what torch's int8 weights may take where a choice is made


def suits(place: Path | str) -> bool:
    """A GGUF file that torch cannot run here, has no room for, or was measured to be slower with than llama.cpp."""
    if isinstance(place, str) or not _installed(MODULE) or form_of(place) != "gguf":
        return False
    try:
        return bool(torch_lacks(read_header(place))) or measured.faster(place) == "gguf"
    except (GgufError, OSError):
        return False


def torch_lacks(header: GgufHeader) -> str:
    """Why the torch engine does not take this file here, as a clause; "" where it does."""
    if clause := unknown(header):
        return f"torch {clause}"
    if not all(map(_installed, ("torch", "transformers", "gguf"))):
        return "torch is not installed"
    # A table of embeddings stays in fp32; the head may be the same matrix once more.
    needs, there = int((header.parameters or 0) * 1.1) + 4 * embeddings(header), available()
    if needs < there * TORCH_SHARE:
        return ""
    return f"torch would take {_size(needs)} as int8, more than half of the {_size(there)} that are free"


def why(file: Path, header: GgufHeader, engine: str) -> str:
    """Why this engine runs a file, for its line: what it keeps of it, and how quick it was when that was measured."""
    if engine not in ("torch", "gguf"):
        return ""
    known = measured.find(file)
    own, other = known.get(engine), known.get("gguf" if engine == "torch" else "torch")
    named = {"torch": "torch", "gguf": "llama.cpp"}
    if engine == "torch":
        precision = own.precision if own and own.precision else ""
        said = f"torch {precision}: fits in memory" if precision else "torch: fits in memory as int8 or fp32"
    else:
        said = f"llama.cpp: {_size(header.size_bytes)}, {header.quantisation} kept"
    if own and other and own.together == other.together:
        faster, theirs = measured.faster(file), named["gguf" if engine == "torch" else "torch"]
        word = (
            "about as quick here as" if not faster else "faster here than" if faster == engine else "slower here than"
        )
        said += f", and is {word} {theirs} ({own.rate:,.0f} and {other.rate:,.0f} tokens/s)"
    elif own:
        said += f" ({own.rate:,.0f} tokens/s here)"
    lacks = torch_lacks(header) if engine == "gguf" else ""
    return f"{said}; {lacks}" if lacks else said


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


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
