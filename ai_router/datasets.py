"""From what a person says of a dataset run to a job: the settings and where they come from, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ai_router.jobs import JobPlan
from ai_router.kinds.dataset import KIND
from ai_router.models import ModelSpec, Registry, UnknownModelError, with_choices
from ai_router.settings import Workspace
from ai_router.trust import allowed, claims_of, withheld_text
from batch.datasets.adapter import check_adapter
from batch.datasets.config import DEFAULT_CONFIG, SAMPLING, Config, Setting, settle
from batch.datasets.example import Columns
from batch.datasets.extract import Template
from batch.datasets.source import DatasetSource, open_dataset
from batch.errors import BatchError
from batch.options import OptionError, RunOptions, SamplingOptions, build_options
from batch.sources import Source, user_path

_SHOWN = ("model", "engine", "adapter_path", "test_file", "output_file", "prompt_template", "batch_size", *SAMPLING)
MLX_WEIGHTS = "adapters.safetensors"


class DatasetError(BatchError):
    """A dataset run that cannot begin as it was asked for; the text says what would help."""


@dataclass(slots=True)
class Prepared:
    """All that a dataset run needs, checked as far as it can be before the file is read."""

    settings: dict[str, Setting]
    spec: ModelSpec  # with its adapter and engine
    model: str  # what the job calls the model, so that it is found again
    source: DatasetSource
    sampling: SamplingOptions
    output: Path
    adapter: Path | None
    warnings: list[str]
    about_adapter: str = ""

    def lines(self) -> list[str]:
        """Every setting, and where it comes from."""
        shown = [setting for name in _SHOWN if (setting := self.settings.get(name)) is not None]
        width = max(len(setting.name) for setting in shown)
        return [f"{s.name:<{width}}  {s.origin:<7}  {_shown(s.value)}" for s in shown]

    def plan(self, run: RunOptions, details: Mapping[str, Any] | None = None) -> JobPlan:
        """The job's plan; the source must have been read once, for what was left out."""
        made = dataset_details(self.source)
        made.update(
            output_file=str(self.output.absolute()),
            output_name=str(self.settings["output_file"].value),
            adapter_path=str(self.adapter.absolute()) if self.adapter else None,
            no_adapter=self.adapter is None,
            engine=self.spec.engine,
            settings=[[s.name, s.value, s.origin] for s in self.settings.values()],
            **(details or {}),
        )
        return JobPlan(self.model, self.sampling, run, self.source.name, KIND.name, made)


def dataset_details(source: DatasetSource) -> dict[str, Any]:
    """What a dataset job keeps of its file; the source must have been read once."""
    return {
        "test_file": str(source.file.absolute()),
        "skipped": source.skipped,
        "skipped_rows": [list(problem) for problem in source.problems],
    }


def plan_for(
    source: Source, spec: ModelSpec, sampling: SamplingOptions, run: RunOptions, workspace: Workspace
) -> JobPlan:
    """The plan of a job over any source; a dataset's is scored, and its rows go to the workspace's outputs."""
    if not isinstance(source, DatasetSource):
        kept = getattr(source, "kept", None)  # of a table, so that its answers find their rows
        return JobPlan(spec.id, sampling, run, source.name, table=kept() if kept is not None else None)
    output = free_output(workspace.outputs, source.file.stem)
    details = {**dataset_details(source), "output_file": str(output), "output_name": str(output)}
    if spec.adapter is not None:
        details["adapter_path"] = str(spec.adapter)
    return JobPlan(spec.id, sampling, run, source.name, KIND.name, details)


def free_output(folder: Path, stem: str) -> Path:
    """`<stem>_results.jsonl`, or `<stem>_results-2.jsonl`, … where there is such a file."""
    number = 1
    while True:
        path = folder / (f"{stem}_results" + (f"-{number}" if number > 1 else "") + ".jsonl")
        if not path.exists():
            return path.absolute()
        number += 1


def prepare(
    registry: Registry,
    flags: Mapping[str, Any],
    *,
    config_path: str | None = None,
    adapter: bool = True,
    format: str | None = None,  # noqa: A002 - the field's usual word
    columns: Columns | None = None,
) -> Prepared:
    """Settle everything and find every file. Raises what a person can act on.

    `flags` are those that were given, by the names of the settings; without `adapter` the model runs as it is.
    """
    config = _config(config_path)
    warnings = list(config.warnings())
    name = flags.get("model") or config.get("model")
    spec = _model(registry, name, config, from_flag=flags.get("model") is not None)
    own = {**spec.sampling, **({"adapter_path": str(spec.adapter)} if spec.adapter else {})}
    settings = settle(flags, config, own)
    folder, about = None, ""
    if adapter:
        folder = _adapter(settings["adapter_path"], config, warnings)
    else:
        settings["adapter_path"] = Setting("adapter_path", None, "flag")
    if folder is None:
        spec = replace(spec, adapter=None)
        if settings["adapter_path"].origin == "default":
            settings["adapter_path"] = Setting("adapter_path", None, "default")
    else:
        about = check_adapter(folder, spec.path)
    engine = _text(settings["engine"].value)
    _check_trust(settings, config)
    if engine is None and folder is not None and spec.engine == "mlx" and not (folder / MLX_WEIGHTS).is_file():
        engine = "torch"  # an adapter of PEFT, which mlx-lm does not read
    spec = with_choices(spec, adapter=folder, engine=engine)
    settings["engine"] = Setting("engine", spec.engine, settings["engine"].origin)
    if not spec.ready:
        raise DatasetError(f"Model {spec.id} is not ready: {spec.why}")
    sampling = _sampling(settings, config)
    template = Template.parse(flags["prompt_template"]) if flags.get("prompt_template") else config.template
    if template is not None and template.system and sampling.system is None:
        sampling.system = template.system
    test = _located(settings["test_file"], config)
    try:
        source = open_dataset(test, format=format, columns=columns or config.columns, template=template)
    except FileNotFoundError:
        raise FileNotFoundError(_no_test_file(settings["test_file"])) from None
    source.name = str(settings["test_file"].value)
    if (named := str(settings["output_file"].value)) == "-":
        raise DatasetError("The results go to a file that is mended when a run goes on, so not to stdout; name one")
    output = user_path(named)
    return Prepared(settings, spec, spec.id, source, sampling, output, folder, warnings, about)


def _check_trust(settings: Mapping[str, Setting], config: Config) -> None:
    """Raise DatasetError where the file names a module or a place for the results that it is not trusted with."""
    if config.path is None:
        return
    claims = claims_of(config.path)
    named = [claim for claim in claims if claim.key in settings and settings[claim.key].origin == "file"]
    if named and not allowed(config.path, claims):
        raise DatasetError(withheld_text(config.path, named, folder=False))


def _config(path: str | None) -> Config:
    if path is not None:
        return Config.load(user_path(path))
    default = Path(DEFAULT_CONFIG)
    return Config.load(default) if default.is_file() else Config()


def _model(registry: Registry, name: Any, config: Config, *, from_flag: bool) -> ModelSpec:
    """The model; its id finds it again from anywhere."""
    from batch.datasets.config import DEFAULTS

    wanted = str(name if name is not None else DEFAULTS["model"])
    place = user_path(wanted) if from_flag or name is None else config.locate(wanted)
    try:
        spec = _find(registry, wanted, place)
    except UnknownModelError as error:
        if name is None:
            raise DatasetError(
                f"No model was named, and the default, {wanted}, is not on this machine; name one with --model-path, "
                f"such as --model-path demo"
            ) from None
        raise DatasetError(f"{error}; --model-path takes a name of `ai-router models` or a folder") from None
    return spec


def _find(registry: Registry, name: str, place: Path) -> ModelSpec:
    """A model of that name, else the folder."""
    try:
        return registry.get(name)
    except UnknownModelError:
        if not place.is_dir():
            raise
        return registry.get(str(place.absolute()))


def _adapter(setting: Setting, config: Config, warnings: list[str]) -> Path | None:
    """The adapter's folder: one that was named must be there, the default one need not."""
    if not setting.value:
        return None
    folder = _located(setting, config)
    if folder.is_dir():
        return folder
    if setting.given:
        said = f"{config.path} names" if setting.origin == "file" else "You named"
        raise DatasetError(
            f"There is no adapter folder {setting.value}. {said} it; train it first, name another with "
            "--adapter-path, or run the model without one: --no-adapter"
        )
    warnings.append(f"there is no adapter at {setting.value} (the default); the base model runs without one")
    return None


def _located(setting: Setting, config: Config) -> Path:
    value = str(setting.value)
    return config.locate(value) if setting.origin == "file" else user_path(value)


def _sampling(settings: Mapping[str, Setting], config: Config) -> SamplingOptions:
    values: dict[str, Any] = {}
    for name in SAMPLING:
        if (setting := settings.get(name)) is None or setting.value is None:
            continue
        try:
            values[name] = getattr(build_options(SamplingOptions, {name: setting.value}), name)
        except OptionError as error:
            raise OptionError(f"{config.path}: {error}" if setting.origin == "file" else str(error)) from None
    return build_options(SamplingOptions, values)


def _no_test_file(setting: Setting) -> str:
    if setting.origin == "default":
        return f"No test file was named, and there is none at {setting.value}; name one with --test-file"
    said = ", which the configuration names" if setting.origin == "file" else ""
    return f"Test file not found: {setting.value}{said}"


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "—"
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
