"""`models.yaml`: models by hand. A mistake is named with file, line and nearest key, and spoils only its own entry.

    models:
      big:
        path: ~/models/big        # a folder or a file, or for a server  url: http://…
        engine: torch
        precision: int8           # and what else the engine may be told, see `batch.engines.registry`
        sampling: {temperature: 0.7}

An entry has the keys of `COMMON` and those its engine names as its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ai_router.models.apart import read_apart
from ai_router.models.discovery.describe import describe
from ai_router.models.discovery.huggingface import is_hub_id, snapshot_of
from ai_router.models.factory import describe_for_engine
from ai_router.models.spec import ModelSpec
from ai_router.settings import SettingsError
from ai_router.trust import allowed, claims_in, withheld_text
from batch.engines import registry as engines
from batch.engines.places import form_of
from batch.engines.ray.row import check_resources
from batch.engines.registry import EngineOption, EngineRow, Place
from batch.errors import FatalError
from batch.options import OptionError, SamplingOptions, build_options
from batch.sources.paths import user_path
from batch.yamlfile import YamlError, YamlMap, as_mapping, as_written, plain, text_of, unknown_key

SOURCE = "models.yaml"
SECTIONS = ("models", "routes")  # the routes are read by `ai_router.routing.rules`
# What any entry may say; an engine adds its own. `path` or `url` is where the model is.
COMMON: Mapping[str, EngineOption] = {
    "path": EngineOption("the model's folder or file; relative to this file"),
    "url": EngineOption("the address of a server that runs it"),
    "hub": EngineOption("ORG/MODEL of the Hugging Face hub: as it lies in its cache, here and on a cluster's nodes"),
    "engine": EngineOption("what runs it; without it, what suits it best here"),
    "name": EngineOption("what it is called on the screens"),
    "notes": EngineOption("a remark shown with it"),
    "sampling": EngineOption("its own defaults of sampling", dict),
    "adapter": EngineOption("a folder with a LoRA adapter to put over the weights"),
    "fallback": EngineOption("models that answer where this one is down, refuses or has no room, in this order", list),
    "pass_filtered": EngineOption("whether these may have what a content filter of this one holds back", bool),
    "resources": EngineOption(
        "what one copy takes of a cluster's node: cpus, gpus, memory_gb, and the most copies, actors", dict
    ),
    "context": EngineOption(
        "tokens of prompt and answer together, where the model's own figure is not right", int, minimum=1
    ),
}


class EntryError(SettingsError):
    """An entry of models.yaml cannot be used; the text names file, line and key."""


def read_entries(file: Path) -> Iterator[ModelSpec]:
    """The models of a file, those with a mistake not ready.

    Raises SettingsError where nothing of it can be read, and after the models where a section is wrong.
    """
    try:
        data, spoiled = read_apart(file)
        models = as_mapping(data.get("models"), f"{file}, models")
    except FileNotFoundError:
        return
    except YamlError as error:
        raise SettingsError(f"Cannot read {error}") from None
    trusted = allowed(file, claims_in(data))
    for model_id, entry in models.items():
        where = f"{file}, line {models.line_of(model_id)}"
        try:
            yield _spec(file, model_id, entry, where, trusted=trusted)
        except EntryError as error:
            yield _spoiled(model_id, entry, str(error))
    wrong = [one.why for one in spoiled if not one.is_model]
    for one in spoiled:
        if one.is_model:
            yield _spoiled(one.name if one.name not in models else f"{one.name} (line {one.line})", None, one.why)
    wrong += [f"{file}, line {data.line_of(key)}: {unknown_key(key, SECTIONS)}" for key in data if key not in SECTIONS]
    if wrong:
        raise SettingsError(f"Cannot read {'; '.join(wrong)}")


def _spoiled(model_id: str, entry: Any, why: str) -> ModelSpec:
    values = entry if isinstance(entry, YamlMap) else YamlMap()
    url = values.get("url")
    place = url if isinstance(url, str) and url else user_path(str(values.get("path") or model_id))
    engine = values.get("engine")
    return ModelSpec(
        model_id, model_id, engine if isinstance(engine, str) else "—", place, SOURCE, ready=False, why=why
    )


def _spec(file: Path, model_id: str, entry: Any, where: str, *, trusted: bool) -> ModelSpec:
    if not isinstance(entry, YamlMap):
        raise EntryError(f"{where}: {model_id} must hold keys and values, such as path: FOLDER")
    read = _Entry(file, entry, where)
    engine = read.text("engine")
    if not trusted and (claims := claims_in({"models": {model_id: entry}})):
        raise EntryError(f"{where}: {withheld_text(file, claims)}")
    try:
        row = engines.find(engine) if engine else None
    except FatalError as error:
        raise read.error("engine", str(error)) from None
    place = read.place(row)
    row = row or engines.find(engines.default_engine(place))
    if read.text("hub") and "folder" not in row.forms and not row.external:
        raise read.error(
            "hub", f"the {row.name} engine runs no model of the hub by itself: name url, or a file as path"
        )
    options = read.options(row)
    if isinstance(place, str) and (problem := row.check(describe_for_engine(place, options))):
        raise read.error("engine", problem)
    adapter = read.text("adapter")
    made = describe(
        place,
        id=model_id,
        name=read.text("name") or model_id,
        engine=row.name,
        source=SOURCE,
        notes=read.text("notes") or "",
        sampling=read.sampling(),
        adapter=file.parent / user_path(adapter) if adapter else None,
        engine_options=options,
        context=read.value("context", COMMON["context"]),
    )
    fallback = tuple(map(str, read.value("fallback", COMMON["fallback"]) or ()))
    passed = bool(read.value("pass_filtered", COMMON["pass_filtered"]))
    made = replace(made, resources=read.resources(), fallback=fallback, pass_filtered=passed)
    return _of_hub(made, hub) if (hub := read.text("hub")) else made


def _of_hub(spec: ModelSpec, hub: str) -> ModelSpec:
    if spec.ready or form_of(spec.place) != "missing":
        return replace(spec, hub=hub)
    why = f"{hub} is not in the hub's cache here: ai-router models pull {hub}, or --cluster where its nodes fetch it"
    return replace(spec, hub=hub, why=why)


@dataclass(frozen=True, slots=True)
class _Entry:
    file: Path
    values: YamlMap
    where: str

    def error(self, key: str, problem: str) -> EntryError:
        line = self.values.lines.get(key)
        where = self.where if line is None else f"{self.file}, line {line}"
        return EntryError(f"{where}: {problem}")

    def text(self, key: str) -> str | None:
        try:
            return text_of(self.values, key)
        except YamlError as error:
            raise self.error(key, str(error)) from None

    def place(self, row: EngineRow | None) -> Place:
        """Where the model is; "" for an engine that needs neither path nor url (a provider's)."""
        path, url, hub = self.text("path"), self.text("url"), self.text("hub")
        if sum(map(bool, (path, url, hub))) > 1:
            last = "hub" if hub else "url"
            others = " and ".join(name for name, said in (("path", path), ("url", url), ("hub", hub)) if said)
            raise self.error(last, f"{others} are both given; a model is at one place")
        if url:
            return url
        if hub:
            if not is_hub_id(hub):
                raise self.error("hub", f"{hub} names no model of the hub: ORG/MODEL, whose weights are safetensors")
            return snapshot_of(hub)
        if not path and row is not None and not {"path", "url"} & set(row.needs):
            return ""
        if not path and row is not None and "url" in row.needs:
            raise self.error("url", f"the {row.name} engine needs url, which the entry does not say")
        if not path:
            near = [key for key in self.values if key not in COMMON]
            hint = unknown_key(near[0], COMMON) if near else "name the model's folder or file"
            raise self.error(near[0] if near else "path", f"there is no path: {hint}")
        if path.startswith(("http://", "https://")):
            raise self.error("path", f"{path} is an address: give it as url")
        return self.file.parent / user_path(path)

    def options(self, row: EngineRow) -> dict[str, Any]:
        """What the engine is told, each checked."""
        made: dict[str, Any] = {}
        for key in self.values:
            if key in COMMON and key not in row.options:
                continue
            if row.external:  # of it nothing is known
                made[key] = plain(self.values[key])
            elif key not in row.options:
                owners = [other.name for other in engines.rows() if key in other.options]
                if owners:
                    raise self.error(key, f"{key} is nothing the {row.name} engine can be told, but {owners[0]}")
                raise self.error(key, unknown_key(key, [*COMMON, *row.options]))
            elif (value := self.value(key, row.options[key])) is not None:
                made[key] = value
        for key in row.needs:
            if self.values.get(key) is None and not (key == "path" and self.values.get("hub")):
                raise self.error(key, f"the {row.name} engine needs {key}, which the entry does not say")
        return made

    def value(self, key: str, option: EngineOption) -> Any:
        """A value as its option has it; raises EntryError."""
        value = self.values.get(key)
        if value is None:
            return None
        try:
            return check_value(key, value, option, self.values.texts.get(key))
        except OptionError as error:
            raise self.error(key, str(error)) from None

    def resources(self) -> dict[str, Any]:
        """What a cluster's node must have; raises EntryError."""
        said = dict(plain(self.value("resources", COMMON["resources"]) or {}))
        if problem := check_resources(said):
            raise self.error("resources", problem)
        return said

    def sampling(self) -> dict[str, Any]:
        """The entry's defaults. What is out of range is said where they are used, beside a run's own."""
        said = self.values.get("sampling")
        if said is None:
            return {}
        if not isinstance(said, YamlMap):
            raise self.error("sampling", "sampling must hold keys and values")
        values = as_written(said, SamplingOptions)
        for key, value in values.items():
            try:
                build_options(SamplingOptions, {key: value})
            except OptionError as error:
                named = (
                    str(error)
                    if not str(error).startswith("unknown option")
                    else unknown_key(key, _SAMPLING, "sampling.")
                )
                line = said.lines.get(key, said.line)
                raise EntryError(f"{self.file}, line {line}: {named}") from None
        return values


_SAMPLING = tuple(SamplingOptions.__dataclass_fields__)
_TYPES: Mapping[type, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    list: ("a list", lambda value: isinstance(value, list)),
    dict: ("keys and values", lambda value: isinstance(value, dict)),
}


def check_value(key: str, value: Any, option: EngineOption, text: str | None = None) -> Any:
    """The value of an option, as it has it; `text` is how it was written. Raises OptionError."""
    if option.type is str:
        if isinstance(value, dict | list):
            raise OptionError(f"{key}: one text is meant")
        value = text if text is not None else str(value)
    else:
        called, fits = _TYPES[option.type]
        if not fits(value) and not (option.or_text and isinstance(value, str)):
            raise OptionError(f"{key}: {text if text is not None else plain(value)!r} is not {called}")
    if option.choices and value not in option.choices:
        raise OptionError(f"{key}: {value!r} is none of {', '.join(option.choices)}")
    if option.minimum is not None and not value >= option.minimum:
        raise OptionError(f"{key}: {value} is below the least allowed, {option.minimum:g}")
    return plain(value)


def json_schema() -> dict[str, Any]:
    """`models.yaml` as a JSON schema that editors can use, made from the table of engines."""
    from dataclasses import fields

    sampling = {spec.name: _ranged(spec.metadata) for spec in fields(SamplingOptions)}
    known = {"type": "string", "anyOf": [{"enum": engines.names()}, {"pattern": "^[\\w.]+:\\w+$"}]}
    common = {key: _schema(option) for key, option in COMMON.items()}
    common["path"]["not"] = {"pattern": "^https?://"}
    common["engine"] = {**known, "description": COMMON["engine"].help}
    common["sampling"] = {"type": "object", "properties": sampling, "additionalProperties": False}
    own = {key: _schema(option) for row in engines.rows() for key, option in row.options.items()}
    entry: dict[str, Any] = {
        "type": "object",
        "properties": {**own, **common},
        "not": {"anyOf": [{"required": pair} for pair in (["path", "url"], ["path", "hub"], ["url", "hub"])]},
        "if": {"not": {"required": ["engine"]}},
        "then": {"anyOf": [{"required": [key]} for key in ("path", "url", "hub")]},
        "additionalProperties": False,
        "allOf": [_engine_schema(row) for row in engines.rows()],
    }
    # An engine of the user's own may be told anything.
    free = {"type": "object", "properties": {"engine": known["anyOf"][1]}, "required": ["engine"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ai-router models.yaml",
        "type": "object",
        "properties": {
            "models": {"type": "object", "additionalProperties": {"anyOf": [entry, free]}},
            "routes": {"type": "array", "description": "which model answers what; the first that matches wins"},
        },
        "additionalProperties": False,
    }


def _ranged(said: Mapping[str, Any]) -> dict[str, Any]:
    """An option of `batch.options` with its range, which texts that are numbers need not keep."""
    return {"description": said["help"], **{key: said[key] for key in ("minimum", "maximum") if said[key] is not None}}


def _engine_schema(row: EngineRow) -> dict[str, Any]:
    """Where this engine is named, what it does not know is wrong and what it needs is there."""
    named = {"properties": {"engine": {"const": row.name}}, "required": ["engine"]}
    keys = [*COMMON, *row.options]
    needs: dict[str, Any] = {"required": list(row.needs)}
    if "path" in row.needs:
        others = [key for key in row.needs if key != "path"]
        needs = {"anyOf": [{"required": [key, *others]} for key in ("path", "hub")]}
    return {"if": named, "then": {"propertyNames": {"enum": keys}, **needs}}


def _schema(option: EngineOption) -> dict[str, Any]:
    names = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
    kind = names[option.type]
    made: dict[str, Any] = {"type": [kind, "string"] if option.or_text else kind, "description": option.help}
    if option.choices:
        made["enum"] = list(option.choices)
    if option.minimum is not None:
        made["minimum"] = option.minimum
    return made
