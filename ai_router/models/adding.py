"""One more entry in `models.yaml`; comments, order and quoting of what stands there are kept."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_router.settings import SettingsError
from batch.errors import BatchError
from batch.export.atomic import atomic_file


class AddError(BatchError):
    """An entry cannot be added; one sentence."""


def add_entry(file: Path, model_id: str, entry: Mapping[str, Any]) -> None:
    """Write an entry; raises AddError where the name is taken or the file is no list of models."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        data = yaml.load(text) if text.strip() else None
    except (YAMLError, OSError, ValueError) as error:
        raise SettingsError(f"Cannot read {file}: {' '.join(str(error).split())[:300]}") from None
    data = {} if data is None else data
    if not isinstance(data, dict) or not isinstance(data.get("models") or {}, dict):
        raise AddError(f"{file} is no list of models; mend it first")
    if not data.get("models"):
        data["models"] = {}
    if model_id in data["models"]:
        raise AddError(f"{file} has a model {model_id} already; --name gives it another name")
    data["models"][model_id] = dict(entry)
    out = io.StringIO()
    yaml.dump(data, out)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            stream.write(out.getvalue().encode())
    except OSError as error:
        raise AddError(f"Cannot write {file}: {error.strerror or error}") from None


def name_for(place: str) -> str:
    """A short name for what lies at a path or an address."""
    last = re.sub(r"\.gguf$", "", place.rstrip("/").rsplit("/", 1)[-1], flags=re.IGNORECASE)
    return re.sub(r"[^\w.+-]+", "-", last).strip("-") or "model"
