"""LoRA adapters beside their base: each is a line of its own, the base's model with the adapter over its weights."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ai_router.models.discovery.describe import describe, form_of_adapter, look_at_gguf
from ai_router.models.discovery.huggingface import cache_folder, name_on_hub
from ai_router.models.spec import ModelSpec
from ai_router.settings import Workspace
from batch.engines.places import base_of_adapter, form_of

MOST = 200  # entries of one folder that are looked at


def adapters(workspace: Workspace, models: Sequence[ModelSpec]) -> Iterator[ModelSpec]:
    """Adapters in the models folder, inside and beside models, and in the Hugging Face cache.

    One whose base is not here is not ready, and says which model it was made for.
    """
    local = [spec for spec in models if not spec.is_remote and spec.adapter is None]
    known = {_resolved(spec.adapter) for spec in models if spec.adapter is not None}
    ids: set[str] = set()
    for place in _places(workspace, local):
        if (resolved := _resolved(place)) not in known:
            known.add(resolved)
            spec = over(place, local)
            if spec.id in ids:  # two of one name: the folder that each lies in tells them apart
                spec = replace(spec, id=f"{spec.id}@{place.parent.name}")
            ids.add(spec.id)
            yield spec


def over(place: Path, models: Sequence[ModelSpec]) -> ModelSpec:
    """The model that an adapter makes of its base, which is sought among `models`."""
    said, base = _base(place, [spec for spec in models if not spec.is_remote and spec.adapter is None])
    name = place.stem if place.is_file() else name_on_hub(place) or place.name
    if base is None:
        for_ = f"made for {said}, which is not among the models here" if said else "and names no model it was made for"
        why = f"{place} is a LoRA adapter, {for_}: ai-router models add BASE --adapter {place}"
        return replace(describe(place, id=name, name=name, source="found"), ready=False, why=why)
    if base.id.endswith(f"/{name}") or name in ("adapter", "adapters"):
        name = f"{place.parent.name}-{name}" if place.parent != base.place else name
    id_ = f"{base.id}+{name}"
    if not base.ready:
        return replace(base, id=id_, name=id_, adapter=place, source="found")
    engine = "gguf" if place.is_file() else "torch" if base.engine == "gguf" else base.engine
    made = describe(
        base.place,
        id=id_,
        name=f"{base.name} + {name}",
        engine=engine,
        source="found",
        notes=f"the adapter {name} over {base.id}",
        sampling=base.sampling,
        adapter=place,
    )
    return replace(made, also=tuple(f"{other}+{name}" for other in base.also))


def fitting(base: ModelSpec, models: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Of all models, those that are this one with an adapter over it."""
    return [spec for spec in models if spec.adapter is not None and spec.place == base.place]


def _places(workspace: Workspace, models: Sequence[ModelSpec]) -> Iterator[Path]:
    """Where adapters may lie; each place once."""
    inside = {spec.path for spec in models if spec.path.is_dir()}
    beside = {spec.path.parent for spec in models if spec.path.parent.name != "snapshots"}
    folders = {workspace.models_dir, *inside, *beside}
    for folder in sorted(folders):
        for entry in _entries(folder):
            if form_of_adapter(entry):
                yield entry
            elif folder == workspace.models_dir and entry.is_dir():
                yield from (inner for inner in _entries(entry) if form_of_adapter(inner))
    yield from (file.parent for file in sorted(cache_folder().glob("models--*/snapshots/*/adapter_config.json")))


def _entries(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())[:MOST]
    except OSError:
        return []
    return [path for path in found if path.suffix == ".gguf" or (path.is_dir() and not path.name.startswith("."))]


def _base(place: Path, models: Sequence[ModelSpec]) -> tuple[str, ModelSpec | None]:
    """What an adapter says it was made for, and which model that is."""
    if place.is_file():
        return _base_of_gguf(place, models)
    said = base_of_adapter(place)
    wanted = _resolved(place.parent / said) if said else None
    for spec in models:
        if said and (spec.goes_by(said) or _resolved(spec.path) in (wanted, _resolved(Path(said).expanduser()))):
            return said, spec
    short = said.rstrip("/").rsplit("/", 1)[-1].lower()
    named = [spec for spec in models if short and short in (spec.name.lower(), spec.path.name.lower(), *_lasts(spec))]
    inside = [spec for spec in models if _resolved(spec.path) == _resolved(place.parent)]
    # An adapter that lies in its base's own folder needs no name; one that names another base is not put over it.
    return said, next(iter(named or ([] if said else inside)), None)


def _lasts(spec: ModelSpec) -> Iterator[str]:
    return (name.rsplit("/", 1)[-1].lower() for name in spec.also)


def _base_of_gguf(place: Path, models: Sequence[ModelSpec]) -> tuple[str, ModelSpec | None]:
    _, header = look_at_gguf(place)
    if header is None:
        return "", None
    said = header.text("general.base_model.0.name") or header.text("general.architecture")
    files = [spec for spec in models if spec.path.is_file() and form_of(spec.path) == "gguf"]
    alike = [
        spec
        for spec in files
        if (found := look_at_gguf(spec.path)[1]) is not None and found.architecture == header.architecture
    ]
    beside = [spec for spec in alike if spec.path.parent == place.parent]
    if len(beside) == 1:
        return said, beside[0]
    names = {spec.name.lower(): spec for spec in beside or alike}
    near = difflib.get_close_matches(said.lower().replace(" ", "-"), names, n=1, cutoff=0.75)
    return said, names[near[0]] if near else None


def _resolved(place: Path) -> Path:
    try:
        return place.resolve()
    except (OSError, RuntimeError):
        return place


def with_adapters(workspace: Workspace, models: Iterable[ModelSpec], skipped: list[str]) -> list[ModelSpec]:
    """The adapters' models; what cannot be read spoils nothing."""
    try:
        return list(adapters(workspace, list(models)))
    except OSError as error:
        skipped.append(f"adapters cannot be looked for: {error.strerror or error}")
        return []
