"""All models of a workspace: the one inside, `models.yaml`, and what is found on this machine."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ai_router.included import CHAT, CHAT_NAME, CHAT_NOTES, DEMO, DEMO_PATH, chat_model
from ai_router.models.discovery import describe, found
from ai_router.models.discovery.adapters import with_adapters
from ai_router.models.discovery.describe import SUFFIXES
from ai_router.models.discovery.huggingface import is_hub_id, snapshot_of
from ai_router.models.entries import SOURCE, read_entries
from ai_router.models.fallbacks import with_fallbacks
from ai_router.models.remote import remote_spec
from ai_router.models.spec import ModelSpec
from ai_router.settings import SettingsError, Workspace
from batch.engines.places import form_of
from batch.errors import BatchError
from batch.sources.paths import user_path


class UnknownModelError(BatchError):
    """No model of that name; the text lists the nearest names."""


class Registry:
    """All models of a workspace, the built-in one first."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.skipped: list[str] = []  # what could not be read, a sentence each
        self._models: dict[str, ModelSpec] = {}
        for spec in self._said():
            self._models.setdefault(spec.id, spec)
        self._twins: dict[str, ModelSpec] = {}  # whose weights are listed already, by the name they were found by
        for spec, same in found(workspace, self.skipped, [spec for spec in self._models.values() if spec.id != DEMO]):
            if not same:
                known = self._models.get(spec.id)
                spec = spec if known is None or known.source == SOURCE else _told_apart(spec, known)
                self._models.setdefault(spec.id, spec)
            elif spec.id not in self._models:
                self._twins.setdefault(spec.id, spec)
                one = self._models[same]
                self._models[same] = replace(one, also=tuple(dict.fromkeys((*one.also, spec.id))))
        for spec in with_adapters(workspace, self._models.values(), self.skipped):
            self._models.setdefault(spec.id, spec)
        self._models = with_fallbacks(self._models)

    def all(self) -> list[ModelSpec]:
        """Every model, ready or not."""
        return list(self._models.values())

    def add(self, specs: Iterable[ModelSpec]) -> None:
        """Take in models that were found later, as those of servers are; what is known already stays."""
        known = {(spec.place, spec.engine_options.get("model")) for spec in self._models.values() if spec.is_remote}
        for spec in specs:
            if (spec.place, spec.engine_options.get("model")) not in known:
                self._models = {**self._models, spec.id: spec}  # others may be reading the old one

    def listed(self, name: str) -> ModelSpec | None:
        """A model that is listed, by id, or by its name without case; never a folder or an address.

        One that is listed by another name goes by its own as well, and is asked as it is there.
        """
        for known in (self._models, self._twins):
            if name in known:
                return known[name]
        named = {name.lower(), f"{name.lower()}:latest"}  # as Ollama has it where no tag is said
        every = (*self._models.values(), *self._twins.values())
        return next((s for s in every if named & {s.id.lower(), s.name.lower()} or s.goes_by(name)), None)

    def get(self, name: str) -> ModelSpec:
        """A model that is listed, or by the path of its folder or file, or by its server's address."""
        if (spec := self.listed(name)) is not None:
            return spec
        if (place := _place(name)) is not None:
            here = next((spec for spec in self._models.values() if _same(spec, place)), None)
            # Its place is its id, by which a job finds it again from wherever it is resumed.
            return here or self._over_its_base(describe(place, id=str(place), source="found"))
        if is_hub_id(name) and (cached := snapshot_of(name)).is_dir():  # what is no chat model is not listed
            return describe(cached, id=name, source="found")
        if (remote := remote_spec(name)) is not None:
            return self._models.get(remote.id, remote)
        near = difflib.get_close_matches(name, self._models, n=3, cutoff=0.4)
        if hint := _path_hint(name):
            raise UnknownModelError(f"Unknown model: {name}; {hint}")
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(self._models)}"
        if is_hub_id(name):
            hint += f"; of the hub: ai-router models pull {name}"
        raise UnknownModelError(f"Unknown model: {name}; {hint}")

    def _over_its_base(self, spec: ModelSpec) -> ModelSpec:
        """An adapter that was named as a model, with the name of the model that it makes of its base here."""
        makes = next((one.id for one in self._models.values() if one.adapter and _same(one, spec.path, "adapter")), "")
        return replace(spec, why=f"{spec.why}; over its base it is {makes} here") if makes and spec.why else spec

    def _said(self) -> Iterable[ModelSpec]:
        if (file := chat_model()) is not None:
            yield describe(file, id=CHAT, name=CHAT_NAME, source="built in", notes=CHAT_NOTES)
        yield describe(DEMO_PATH, id=DEMO, name=DEMO, source="built in", notes="small, for trying things out")
        try:
            if self.workspace.models_file.is_file():
                yield from read_entries(self.workspace.models_file)
        except SettingsError as error:
            self.skipped.append(str(error))


def _told_apart(spec: ModelSpec, other: ModelSpec) -> ModelSpec:
    """A model that has another one's name, with the nearest folder that tells it from that: `NAME@FOLDER`."""
    theirs = {folder.name for folder in Path(other.place).parents}
    own = next((folder.name for folder in spec.path.parents if folder.name not in theirs), "")
    return replace(spec, id=f"{spec.id}@{own}") if own else spec


def _place(name: str) -> Path | None:
    """The folder or file of that name, where it is meant as one and there is one."""
    if "/" not in name and os.sep not in name and not name.lower().endswith(SUFFIXES):
        return None
    try:
        place = user_path(name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return None if form_of(place) == "missing" else place


def _path_hint(name: str) -> str:
    """What is to be said of a name that was perhaps meant as a path; "" where nothing is."""
    if name.startswith(("./", "../", "/", "~", f".{os.sep}", f"..{os.sep}", os.sep)):
        return "there is no such folder or file"
    try:
        there = user_path(name).exists()
    except (OSError, ValueError, RuntimeError):
        return ""
    return f"if you mean what lies here, write .{os.sep}{name}" if there else ""


def _same(spec: ModelSpec, place: Path, what: str = "path") -> bool:
    if spec.is_remote:
        return False
    try:
        return bool(getattr(spec, what).resolve() == place)
    except (OSError, RuntimeError):
        return False
