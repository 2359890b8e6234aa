"""Options that are remembered: as they were last time, for each model, and named ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_router.memory import Memory
from ai_router.trust import CONFIG_NAME, MODELS_NAME
from batch.errors import BatchError
from batch.jobfile import load_jobfile
from batch.options import OptionError, RunOptions, SamplingOptions, build_options, options_dict

LAST_SAMPLING = "options.sampling:"  # and the model's id
LAST_RUN = "options.run:"  # likewise: a lane or a budget is of the model it was meant for
PRESET = "preset:"
LONGEST_NAME = 60
TEMPLATES, ENDINGS = "templates", ("*.yaml", "*.yml")
MOST_FILES = 50  # that are looked into


@dataclass(frozen=True, slots=True)
class Preset:
    """Sampling and run options, by name, of those that are not as they come."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def built(self) -> tuple[SamplingOptions, RunOptions]:
        """As options; raises OptionError where a version before this one knew others."""
        return build_options(SamplingOptions, self.sampling), build_options(RunOptions, self.run)


def preset_of(sampling: SamplingOptions, run: RunOptions) -> Preset:
    """Options as they are remembered."""
    return Preset(options_dict(sampling), options_dict(run))


def last_time(memory: Memory, model: str) -> Preset | None:
    """The options that this model was run with last."""
    sampling, run = memory.recall(f"{LAST_SAMPLING}{model}"), memory.recall(f"{LAST_RUN}{model}")
    if sampling is None and run is None:
        return None
    return _checked(Preset(sampling or {}, run or {}))


def keep_last(memory: Memory, model: str, preset: Preset) -> None:
    """Remember them."""
    memory.keep(f"{LAST_SAMPLING}{model}", dict(preset.sampling))
    memory.keep(f"{LAST_RUN}{model}", dict(preset.run))


def presets(memory: Memory) -> dict[str, Preset]:
    """The named ones that this version can read."""
    found = {}
    for name, value in memory.named(PRESET).items():
        if isinstance(value, dict):
            preset = _checked(Preset(value.get("sampling") or {}, value.get("run") or {}))
            if preset is not None:
                found[name] = preset
    return found


def templates(root: Path) -> dict[str, Preset]:
    """The options in a workspace's templates of jobs (`NAME.yaml`, there or in `templates/`), by the file's name.

    What is no template, or cannot be read, is not among them.
    """
    found = {}
    files = [file for folder in (root, root / TEMPLATES) for ending in ENDINGS for file in sorted(folder.glob(ending))]
    for file in [file for file in files if file.name not in (CONFIG_NAME, MODELS_NAME)][:MOST_FILES]:
        try:
            jobfile = load_jobfile(file)
        except (BatchError, OSError, ValueError):
            continue
        found[file.name] = preset_of(jobfile.sampling, jobfile.run)
    return found


def keep_preset(memory: Memory, name: str, preset: Preset | None) -> str:
    """Remember options by a name; None forgets them. Returns the name as it is kept; ValueError without one."""
    name = " ".join(name.split())[:LONGEST_NAME]
    if not name:
        raise ValueError("A preset needs a name")
    value = None if preset is None else {"sampling": dict(preset.sampling), "run": dict(preset.run)}
    memory.keep(PRESET + name, value)
    return name


def _checked(preset: Preset) -> Preset | None:
    try:
        preset.built()
    except (OptionError, TypeError, AttributeError):
        return None
    return preset
