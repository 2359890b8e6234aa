"""The torch engine's row in the table of engines; imports no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from batch.engines.gguf.header import GgufError, read_header
from batch.engines.gguf.known import unknown
from batch.engines.places import read_config
from batch.engines.registry import EngineOption, EngineRow
from batch.options import KV_CACHE, PRECISIONS, TRUNCATE


def refuses(place: Path | str) -> str:
    """Why torch cannot run a folder although it is a model's."""
    if isinstance(place, str):
        return ""
    if place.is_file():
        return _refuses_gguf(place)
    said = read_config(place / "config.json")[0].get("quantization")
    if isinstance(said, dict) and "bits" in said and "group_size" in said:
        return f"its weights are quantised by MLX ({said['bits']} bits), which torch does not read: engine: mlx runs it"
    return ""


def _refuses_gguf(file: Path) -> str:
    if importlib.util.find_spec("gguf") is None:
        return 'needs gguf to read the file\'s weights: pip install "ai-router[local]"'
    try:
        clause = unknown(read_header(file))
    except (GgufError, OSError) as error:
        return f"{file}: {error}"
    return f"torch {clause}; llama.cpp does: engine: gguf" if clause else ""


def suits(place: Path | str) -> bool:
    """What lies on this machine."""
    return not isinstance(place, str)


ROW = EngineRow(
    "torch",
    "local",
    "any Hugging Face causal language model, GGUF files of the usual ones; on CPUs and GPUs",
    core="batch.engines.torch.engine:open_core",
    extra="local",
    modules=("torch", "transformers"),
    forms=("folder", "gguf"),
    options={
        "precision": EngineOption("numbers the model computes in", choices=PRECISIONS),
        "device": EngineOption("where it runs: auto, cpu, cuda"),
        "truncate": EngineOption("the end at which a prompt that is too long is cut", choices=TRUNCATE),
        "order": EngineOption("the order prompts are taken in", choices=("arrival", "longest")),
        "cache_gb": EngineOption("most memory for keys and values, in GiB", float, minimum=0.001),
        "kv_cache": EngineOption("numbers that keys and values are kept in; auto: as precision says", choices=KV_CACHE),
        "share_prefixes": EngineOption("compute what prompts have in common once", bool),
    },
    suits=suits,
    refuses=refuses,
)
