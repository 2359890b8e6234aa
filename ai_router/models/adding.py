"""One entry more in `models.yaml`, or one fewer; comments, order and quoting of what stands there are kept."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_router.models.discovery import describe
from ai_router.models.entries import SOURCE, read_entries
from ai_router.models.remote import SHOWN, specs_at
from ai_router.models.spec import ModelSpec
from ai_router.settings import SettingsError
from batch.errors import BatchError
from batch.export.atomic import atomic_file
from batch.sources.paths import user_path


class AddError(BatchError):
    """An entry cannot be added, or removed; one sentence."""


def add_entry(file: Path, model_id: str, entry: Mapping[str, Any]) -> None:
    """Write an entry; raises AddError where the name is taken or the file is no list of models."""
    _, data = _read(file)
    if not data.get("models"):
        data["models"] = {}
    if model_id in data["models"]:
        raise AddError(f"{file} has a model {model_id} already; --name gives it another name")
    data["models"][model_id] = dict(entry)
    _write(file, _dumped(data))


def remove_entry(file: Path, model_id: str) -> None:
    """Take an entry out; raises AddError where there is none of that name. What it names stays where it lies."""
    from ruamel.yaml.error import YAMLError

    text, data = _read(file)
    models: Any = data.get("models") or {}
    key = next((key for key in models if str(key) == model_id), None)
    if key is None:
        raise AddError(f"{file} has no model {model_id}")
    lines, (line, column) = text.splitlines(keepends=True), models.lc.key(key)
    del models[key]
    data["models"] = models or None
    # ruamel has comments go with what stands before them, so the lines are taken out where there are lines.
    without = "".join([*lines[:line], *lines[line + _length(lines[line:], column) :]])
    try:
        same = not models.fa.flow_style() and _parsed(without) == data
    except YAMLError:
        same = False
    try:
        written = without if same else _dumped(data)
        _parsed(written)  # no entry names what is gone
    except YAMLError:
        raise AddError(f"{file}: others use what {model_id} says (&, *); take it out by hand") from None
    _write(file, written)


def _length(lines: Sequence[str], column: int) -> int:
    """How many lines an entry has, of those from its key on; comments before the next one are that one's."""
    length = 1
    for at, line in enumerate(lines[1:], 2):
        words = line.strip()
        indent = len(line) - len(line.lstrip())
        if words and not words.startswith("#"):
            if indent <= column:
                break
            length = at
    return length


def _read(file: Path) -> tuple[str, Any]:
    """The file's text, and what it holds; raises AddError where it is no list of models."""
    from ruamel.yaml.error import YAMLError

    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        data = _parsed(text)
    except (YAMLError, OSError, ValueError) as error:
        raise SettingsError(f"Cannot read {file}: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(data, dict) or not isinstance(data.get("models") or {}, dict):
        raise AddError(f"{file} is no list of models; mend it first")
    return text, data


def _parsed(text: str) -> Any:
    return (_yaml().load(text) if text.strip() else None) or {}


def _dumped(data: Any) -> str:
    out = io.StringIO()
    _yaml().dump(data, out)
    return out.getvalue()


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    return yaml


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise AddError(f"Cannot write {file}: {error.strerror or error}") from None


def add_model(
    file: Path, place: str, *, name: str | None = None, engine: str | None = None, adapter: str | None = None
) -> ModelSpec:
    """Look at a path or an address, write it into models.yaml, and say what it is there.

    A model that cannot run is added, and says why; what is no model is refused with AddError. A server is asked for its
    models unless the address names one (`#NAME`).
    """
    called, entry = place, dict[str, Any]()
    if place.startswith(("http://", "https://")):
        if adapter:
            raise AddError(f"{place} is a server's address: an adapter is put over weights that are here")
        called, entry = _served(place)
    else:
        entry["path"] = str(_whole(place))
        over = _whole(adapter) if adapter else None
        found = describe(_whole(place), source=SOURCE, engine=engine, adapter=over)
        if not found.ready and (not found.size_bytes or adapter):
            raise AddError(f"{place} is not added: {found.why}")
    entry |= {"engine": engine} if engine else {}
    entry |= {"adapter": str(_whole(adapter))} if adapter else {}
    name = name or (name_for(called) + (f"+{name_for(adapter)}" if adapter else ""))
    add_entry(file, name, entry)
    return next(spec for spec in read_entries(file) if spec.id == name)


def _served(address: str) -> tuple[str, dict[str, Any]]:
    """The only model at an address: its name, and the entry for it. Raises AddError where there are several."""
    specs = specs_at(address)
    if len(specs) > 1:
        names = [str(spec.engine_options["model"]) for spec in specs]
        listed = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        raise AddError(f"{address} has {listed}; name one: {specs[0].place}#{names[0]}")
    return specs[0].name, {"url": str(specs[0].place), **specs[0].engine_options}


def _whole(place: str) -> Path:
    """A path from the root on, without `..` where that leads to the same place (behind a link it may not)."""
    path = user_path(place).absolute()
    short = Path(os.path.normpath(path))
    try:
        return short if short.samefile(path) else path
    except OSError:
        return path


def remove_model(file: Path, spec: ModelSpec) -> None:
    """Take a model out of models.yaml; raises AddError where it was not written there but found."""
    if spec.source != SOURCE:
        lies = f"it lies at {spec.place}, and is gone from the list when it is gone from there" if spec.place else ""
        raise AddError(f"{spec.id} is no entry of {file.name}: {lies or 'it needs none'}")
    remove_entry(file, spec.id)


def name_for(place: str) -> str:
    """A short name for what lies at a path or an address."""
    last = re.sub(r"\.gguf$", "", place.rstrip("/").rsplit("/", 1)[-1], flags=re.IGNORECASE)
    return re.sub(r"[^\w.+-]+", "-", last).strip("-") or "model"
