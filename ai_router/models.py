"""The registry of models: the one inside, `models.yaml`, and folders found on this machine."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ai_router.settings import SettingsError, Workspace
from batch.engines.base import Engine
from batch.engines.kinds import default_kind
from batch.errors import BatchError
from batch.items import Answer, Request
from batch.options import RunOptions, SamplingOptions

DEMO_PATH = Path(__file__).parent / "demo"
ENGINES = ("torch", "mlx")
ENGINE_OPTIONS = ("precision", "device", "truncate", "order", "cache_gb", "share_prefixes")  # as the engines name them
LEAST_ROOM = 32  # items at once that every local engine takes


class UnknownModelError(BatchError):
    """No model of that name; the text lists the nearest names."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that may be chosen. `ready` says whether it can run here; `why` says why not."""

    id: str
    name: str
    engine: str
    path: Path
    source: str  # "built in", "models.yaml" or "found"
    parameters: int | None = None
    size_bytes: int | None = None
    context: int | None = None
    notes: str = ""
    ready: bool = True
    why: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)  # defaults of this model
    adapter: Path | None = None  # a folder with an adapter to put over the weights
    engine_options: Mapping[str, Any] = field(default_factory=dict)  # of ENGINE_OPTIONS, what models.yaml says

    @property
    def parameters_text(self) -> str:
        """`4.7 M`, `0.6 B`, or `—`."""
        if not self.parameters:
            return "—"
        millions = self.parameters / 1e6
        return f"{millions / 1000:.1f} B" if millions >= 500 else f"{millions:.1f} M"

    def configured(self, run: RunOptions) -> ModelSpec:
        """This model with a run's own precision and truncation, where it says any."""
        said = {"precision": run.precision, "truncate": run.truncate}
        plain = {"precision": RunOptions().precision, "truncate": RunOptions().truncate}
        changes = {name: value for name, value in said.items() if value != plain[name]}
        return replace(self, engine_options={**self.engine_options, **changes}) if changes else self


class Registry:
    """All models of a workspace, the built-in one first."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.skipped: list[str] = []  # what could not be read, a sentence each
        self._models: dict[str, ModelSpec] = {}
        for spec in self._discover():
            self._models.setdefault(spec.id, spec)

    def all(self) -> list[ModelSpec]:
        """Every model, ready or not."""
        return list(self._models.values())

    def get(self, name: str) -> ModelSpec:
        """A model by id, by name without case, or by the path of its folder."""
        if name in self._models:
            return self._models[name]
        for spec in self._models.values():
            if name.lower() in (spec.id.lower(), spec.name.lower()):
                return spec
        if ("/" in name or os.sep in name) and (folder := Path(name).expanduser().resolve()).is_dir():
            known = next((spec for spec in self._models.values() if spec.path.resolve() == folder), None)
            # Its place is its id, by which a job finds it again from wherever it is resumed.
            return known or describe_folder(folder, id=str(folder), source="found")
        near = difflib.get_close_matches(name, self._models, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(self._models)}"
        raise UnknownModelError(f"Unknown model: {name}; {hint}")

    def _discover(self) -> Iterable[ModelSpec]:
        yield describe_folder(
            DEMO_PATH, id="demo", name="demo", source="built in", notes="small, for trying things out"
        )
        try:
            yield from self._from_file()
        except SettingsError as error:
            self.skipped.append(str(error))
        yield from _found(self.workspace.models_dir)

    def _from_file(self) -> Iterable[ModelSpec]:
        path = self.workspace.models_file
        if not path.is_file():
            return
        import yaml

        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            models = data["models"]
            for model_id, entry in models.items():
                folder = self.workspace.root / Path(str(entry["path"])).expanduser()
                adapter = entry.get("adapter")
                yield describe_folder(
                    folder,
                    id=str(model_id),
                    name=str(entry.get("name", model_id)),
                    engine=str(entry["engine"]) if "engine" in entry else None,
                    source="models.yaml",
                    notes=str(entry.get("notes", "")),
                    sampling=dict(entry.get("sampling", {})),
                    adapter=self.workspace.root / Path(str(adapter)).expanduser() if adapter else None,
                    engine_options={name: entry[name] for name in ENGINE_OPTIONS if entry.get(name) is not None},
                )
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"Cannot read {path}: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error


def _found(models_dir: Path) -> Iterable[ModelSpec]:
    """Folders of `models_dir`, and causal language models in the Hugging Face cache."""
    for config in sorted(models_dir.glob("*/config.json")):
        yield describe_folder(config.parent, source="found")
    cache = Path(os.environ.get("HF_HUB_CACHE", Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub")))
    for config in sorted(cache.expanduser().glob("models--*/snapshots/*/config.json")):
        name = config.parents[2].name.removeprefix("models--").replace("--", "/")
        spec = describe_folder(config.parent, id=name, name=name.split("/")[-1], source="found")
        if "causal" not in spec.why:
            yield spec


def describe_folder(
    folder: Path,
    *,
    id: str | None = None,  # noqa: A002 - the field's own name
    name: str | None = None,
    engine: str | None = None,
    source: str,
    notes: str = "",
    sampling: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
    engine_options: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """What can be said of a Hugging Face model folder without loading it. No engine: the best one for this machine."""
    why, config = _read_config(folder)
    engine = engine or default_kind(folder)
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not why and not weights:
        why = f"no weights (*.safetensors) in {folder}"
    if not why and adapter is not None and not adapter.is_dir():
        why = f"no such adapter folder: {adapter}"
    return ModelSpec(
        id=id or folder.name,
        name=name or folder.name,
        engine=engine,
        path=folder,
        source=source,
        parameters=_count_parameters(weights),
        size_bytes=sum(file.stat().st_size for file in weights) or None,
        context=config.get("max_position_embeddings") or config.get("n_positions"),
        notes=notes,
        ready=not (why := why or _missing_engine(engine)),
        why=why,
        sampling=sampling or {},
        adapter=adapter,
        engine_options=engine_options or {},
    )


def with_choices(spec: ModelSpec, *, adapter: str | Path | None = None, engine: str | None = None) -> ModelSpec:
    """A model with another adapter over its weights, or on another engine, where these are given."""
    if adapter:
        spec = replace(spec, adapter=Path(adapter))
    if engine and engine != spec.engine:
        missing = _missing_engine(engine)
        spec = replace(spec, engine=engine, ready=not missing, why=missing)
    return spec


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return (f"no config.json in {folder}" if folder.is_dir() else f"no such folder: {folder}"), {}
    except (OSError, ValueError) as error:
        return f"cannot read {folder / 'config.json'}: {error}", {}
    if not isinstance(config, dict):
        return f"{folder / 'config.json'} is not a model's config", {}
    architectures = config.get("architectures") or []
    if architectures and not any("CausalLM" in a or "LMHead" in a for a in architectures):
        return f"not a causal language model ({architectures[0]})", config
    return "", config


def _missing_engine(engine: str) -> str:
    if ":" in engine:  # package.module:name, which opens an engine of the user's own in the worker
        try:
            found = importlib.util.find_spec(engine.partition(":")[0]) is not None
        except (ImportError, ValueError):
            found = False
        return "" if found else f"there is no module {engine.partition(':')[0]!r} to take the engine from"
    if engine not in ENGINES:
        return f"unknown engine {engine!r}; known: {', '.join(ENGINES)}"
    if engine == "torch" and not all(importlib.util.find_spec(m) for m in ("torch", "transformers")):
        return 'needs torch: pip install "ai-router[local]"'
    if engine == "mlx" and importlib.util.find_spec("mlx_lm") is None:
        return 'needs mlx: pip install "ai-router[mlx]"'
    return ""


def _count_parameters(weights: list[Path]) -> int | None:
    """Elements of all tensors, from the safetensors headers (8 bytes of length, then JSON)."""
    total = 0
    for file in weights:
        if file.suffix != ".safetensors":
            return None
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100_000_000)))
            for name, tensor in header.items():
                if name != "__metadata__":
                    size = 1
                    for dimension in tensor["shape"]:
                        size *= dimension
                    total += size
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None
    return total or None


def make_engine(
    spec: ModelSpec, sampling: SamplingOptions, *, workers: int | None, timeout: float | None = None
) -> Engine[Request, Answer]:
    """The engine of a model, not yet loaded; raises the model's `why` when it is not ready.

    `workers` is how many items it should have room for at once; with fewer there is still room to raise it later, and
    without it the engine finds out what is best here.
    """
    from batch.engines.local.host import HostedEngine
    from batch.errors import FatalError

    if not spec.ready:
        raise FatalError(f"Model {spec.id} is not ready: {spec.why}")
    described: dict[str, Any] = {"path": str(spec.path), **spec.engine_options}
    if spec.adapter is not None:
        described["adapter_path"] = str(spec.adapter)
    room = None if workers is None else max(workers, LEAST_ROOM)
    return HostedEngine(spec.engine, described, sampling=sampling, max_batch=room, timeout=timeout)


def token_counter(spec: ModelSpec) -> Callable[[str], int] | None:
    """`count(text) -> int` through the model's own tokenizer, or None where that is not installed."""
    file = spec.path / "tokenizer.json"
    if not file.is_file() or importlib.util.find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises bare Exception on a bad file; loading the model will say what is wrong
        return None
    return lambda text: len(tokenizer.encode(text).ids)
