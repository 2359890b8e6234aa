"""What lies at a model's place (a folder of weights, a file, an adapter …), told from names and first bytes."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

FORMS = {
    "folder": "a model's folder",
    "gguf": "a GGUF file",
    "mmproj": "a projector (mmproj), which turns pictures into tokens for a model",
    "safetensors": "a file of weights",
    "adapter": "a LoRA adapter",
    "url": "a server's address",
    "unknown": "no model",
    "missing": "not there",
}
_HEAD = 4096  # bytes in which a GGUF file names its architecture
_LONGEST_CONFIG = 16 * 2**20


def form_of(place: Path | str) -> str:
    """One of `FORMS`; reads at most a few kilobytes and never raises."""
    if isinstance(place, str):
        return "url"
    try:
        if place.is_dir():
            return _folder_form(place)
        if not place.is_file():
            return "missing"
        if place.suffix in (".safetensors", ".bin", ".pt", ".pth"):
            return "safetensors"
        with place.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, ValueError):
        return "missing"
    if not head.startswith(b"GGUF"):
        return "unknown"
    return "mmproj" if _is_projector(place, head) else "gguf"


def _folder_form(folder: Path) -> str:
    if (folder / "config.json").is_file():
        return "folder"
    if (folder / "adapter_config.json").is_file() or (folder / "adapters.safetensors").is_file():
        return "adapter"
    return "folder"


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of a folder, projectors left out."""
    try:
        return [path for path in sorted(folder.glob("*.gguf")) if form_of(path) == "gguf"]
    except OSError:
        return []


def _is_projector(path: Path, head: bytes) -> bool:
    at = head.find(b"general.architecture")
    # After the key: its type (4 bytes, 8 is a text), its length (8), the text.
    named = head[at + 20 + 12 : at + 20 + 12 + 4] if at >= 0 else b""
    return named == b"clip" or path.name.lower().startswith("mmproj")


def base_of_adapter(folder: Path) -> str:
    """What an adapter's own configuration calls the model it belongs to, or ""."""
    config = read_config(folder / "adapter_config.json")[0]
    for key in ("base_model_name_or_path", "model"):
        if isinstance(value := config.get(key), str) and value:
            return " ".join(value.split())[:200]
    return ""


def open_file(path: Path) -> BinaryIO:
    """A file to read bytes of; raises OSError, for a pipe or a device too, which would keep its reader waiting."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(number, "rb")


def read_config(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON object from a file of a model's folder, or {} and what is wrong with it; never raises."""
    try:
        with open_file(path) as file:
            text = file.read(_LONGEST_CONFIG + 1)
        if len(text) > _LONGEST_CONFIG:
            return {}, f"{path} is too large for a configuration"
        value = json.loads(text.decode("utf-8"))
    except FileNotFoundError:
        return {}, f"no {path.name} in {path.parent}"
    except RecursionError:
        return {}, f"cannot read {path}: nested too deeply"
    except (OSError, ValueError) as error:
        return {}, f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
    if not isinstance(value, dict):
        return {}, f"{path} is not a model's config"
    return value, ""
