"""One more entry in `models.yaml`; comments, order and quoting of what stands there are kept."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_router.models.discovery import describe
from ai_router.models.entries import read_entries
from ai_router.models.spec import ModelSpec
from ai_router.settings import SettingsError
from batch.errors import BatchError
from batch.export.atomic import atomic_file
from batch.sources.paths import user_path


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


def add_model(
    file: Path, place: str, *, name: str | None = None, engine: str | None = None, adapter: str | None = None
) -> ModelSpec:
    """Look at a path or an address, write it into models.yaml, and say what it is there.

    A model that cannot run is added, and says why; what is no model is refused with AddError.
    """
    is_url = place.startswith(("http://", "https://"))
    entry = {"url": place} if is_url else {"path": str(user_path(place).absolute())}
    if not is_url:
        over = user_path(adapter).absolute() if adapter else None
        found = describe(user_path(place).absolute(), source="models.yaml", engine=engine, adapter=over)
        if not found.ready and (not found.size_bytes or adapter):
            raise AddError(f"{place} is not added: {found.why}")
    elif adapter:
        raise AddError(f"{place} is a server's address: an adapter is put over weights that are here")
    entry |= {"engine": engine} if engine else {}
    entry |= {"adapter": str(user_path(adapter).absolute())} if adapter else {}
    name = name or (name_for(place) + (f"+{name_for(adapter)}" if adapter else ""))
    add_entry(file, name, entry)
    return next(spec for spec in read_entries(file) if spec.id == name)


def name_for(place: str) -> str:
    """A short name for what lies at a path or an address."""
    last = re.sub(r"\.gguf$", "", place.rstrip("/").rsplit("/", 1)[-1], flags=re.IGNORECASE)
    return re.sub(r"[^\w.+-]+", "-", last).strip("-") or "model"
