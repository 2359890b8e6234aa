"""The workspace (where jobs and exports live) and the settings file `ai-router.yaml` in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from batch.errors import BatchError
from batch.options import OptionError, option, options_dict, parse_option

CONFIG_NAME = "ai-router.yaml"


class SettingsError(BatchError):
    """The settings file cannot be read; the text names file, key and what is allowed."""


@dataclass(slots=True)
class Settings:
    """What `ai-router.yaml` may say. Folders are relative to that file."""

    checkpoints: str = option("checkpoints", "folder of the jobs' checkpoints", metavar="DIR")
    outputs: str = option("outputs", "folder of exports", metavar="DIR")
    models_dir: str = option("models", "folder searched for model folders", metavar="DIR")
    model: str = option("demo", "model chosen when none is named", metavar="ID")
    theme: str = option("auto", "colour theme of the screens; auto follows light or dark", metavar="NAME")
    bell: bool = option(True, "ring the terminal's bell when a job ends")
    osc9: bool = option(False, "ask the terminal for a desktop notification when a job ends (OSC 9)")
    notify_command: str | None = option(None, "command run when a job ends", metavar="CMD", advanced=True)
    webhook: str | None = option(None, "address that gets a JSON note when a job ends", metavar="URL", advanced=True)
    keymap: dict[str, str] = field(default_factory=dict, metadata={"help": "keys by action id", "advanced": True})


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with a settings file (or the default for one) and what it says."""

    root: Path
    settings: Settings

    @property
    def config_file(self) -> Path:
        """`ai-router.yaml`; may not exist yet."""
        return self.root / CONFIG_NAME

    @property
    def checkpoints(self) -> Path:
        """Where jobs live."""
        return self.root / Path(self.settings.checkpoints).expanduser()

    @property
    def outputs(self) -> Path:
        """Where exports go."""
        return self.root / Path(self.settings.outputs).expanduser()

    @property
    def models_dir(self) -> Path:
        """Where model folders are looked for."""
        return self.root / Path(self.settings.models_dir).expanduser()

    @property
    def models_file(self) -> Path:
        """`models.yaml`: models by hand; may not exist."""
        return self.root / "models.yaml"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upward with `ai-router.yaml`, else $AI_ROUTER_HOME, else the platform's user-data folder."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder
    if home := os.environ.get("AI_ROUTER_HOME"):
        return Path(home).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("ai-router", appauthor=False))


def load_workspace(override: Path | str | None = None) -> Workspace:
    """The workspace named by `--workspace`, or the one `find_root` finds, with its settings."""
    root = Path(override).expanduser().absolute() if override else find_root()
    if root.exists() and not root.is_dir():
        raise SettingsError(f"The workspace is not a folder: {root}")
    return Workspace(root, load_settings(root / CONFIG_NAME))


def load_settings(path: Path) -> Settings:
    """Settings of a file, checked; a missing file is all defaults."""
    if not path.is_file():
        return Settings()
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"Cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path} must hold keys and values, not a {type(data).__name__}")
    return build_settings(data, path)


def build_settings(data: Mapping[str, Any], path: Path) -> Settings:
    """Settings from plain values; an unknown key names the nearest known one."""
    import difflib

    settings = Settings()
    names = [f.name for f in fields(Settings)]
    for name, value in data.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            raise SettingsError(f"{path}: unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        try:
            setattr(settings, name, _value(name, value))
        except OptionError as error:
            raise SettingsError(f"{path}: {error}") from error
    return settings


def _value(name: str, value: Any) -> Any:
    if name == "keymap":
        if not isinstance(value, dict):
            raise OptionError("keymap: give action ids and keys")
        return {str(k): str(v) for k, v in value.items()}
    if name in ("bell", "osc9"):
        if not isinstance(value, bool):
            raise OptionError(f"{name}: {value!r} is neither true nor false")
        return value
    return parse_option(Settings, name, value)


def _settings_text(workspace: Workspace) -> str:
    """What the file is to say: as it stands, with the changes; anew where that would be read as something else."""
    import yaml

    from ai_router.settings_file import edited

    path, values = workspace.config_file, options_dict(workspace.settings)
    if path.is_file():
        with suppress(ValueError):
            text = edited(path.read_text(encoding="utf-8"), values, asdict(Settings()))
            if build_settings(yaml.safe_load(text), path) == workspace.settings:
                return text
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False) if values else "{}\n"


def save_settings(workspace: Workspace) -> None:
    """Write what differs from the defaults, whole or not at all; comments of a file that is there are kept."""
    path = workspace.config_file
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_settings_text(workspace), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error.strerror}") from error
