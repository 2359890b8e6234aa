"""The workspace (where jobs and exports live) and the settings file `ai-router.yaml` in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ai_router.included import default_model
from ai_router.trust import (
    CONFIG_NAME,
    MODELS_NAME,
    allowed,
    claims_in,
    home_folder,
    remember,
    withheld_text,
)
from batch.errors import BatchError
from batch.options import OptionError, nearest, option, options_dict, parse_option
from batch.sources.paths import user_path
from batch.yamlfile import YamlError, YamlMap, as_mapping, as_written, parse_yaml, read_yaml

GUARDED = ("notify_command", "webhook")  # count only in the user's own file, or in one that is trusted


class SettingsError(BatchError):
    """The settings file cannot be read; the text names file, key and what is allowed."""


@dataclass(slots=True)
class Settings:
    """What `ai-router.yaml` may say. Folders are relative to that file."""

    checkpoints: str = option("checkpoints", "folder of the jobs' checkpoints", metavar="DIR")
    outputs: str = option("outputs", "folder of exports", metavar="DIR")
    models_dir: str = option("models", "folder searched for model folders", metavar="DIR")
    model: str = option(default_model(), "model chosen when none is named", metavar="ID")
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
    withheld: tuple[str, ...] = ()  # what its settings file names and is not trusted to do, a sentence each
    named: bool = False  # by `--workspace`, not found from where the user stands

    @property
    def config_file(self) -> Path:
        """`ai-router.yaml`; may not exist yet."""
        return self.root / CONFIG_NAME

    @property
    def checkpoints(self) -> Path:
        """Where jobs live."""
        return self.root / user_path(self.settings.checkpoints)

    @property
    def outputs(self) -> Path:
        """Where exports go."""
        return self.root / user_path(self.settings.outputs)

    @property
    def models_dir(self) -> Path:
        """Where model folders are looked for."""
        return self.root / user_path(self.settings.models_dir)

    @property
    def models_file(self) -> Path:
        """`models.yaml`: models by hand; may not exist."""
        return self.root / MODELS_NAME


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upward with `ai-router.yaml`, else $AI_ROUTER_HOME, else the platform's user-data folder."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder
    return home_folder()


def load_workspace(override: Path | str | None = None) -> Workspace:
    """The workspace named by `--workspace`, or the one `find_root` finds, with its settings."""
    root = user_path(override).absolute() if override else find_root()
    if root.exists() and not root.is_dir():
        raise SettingsError(f"The workspace is not a folder: {root}")
    settings, withheld = guarded_settings(root / CONFIG_NAME)
    return Workspace(root, settings, withheld, named=bool(override))


def overlooked(workspace: Workspace) -> str:
    """A models.yaml in the current folder that is not the workspace's, as a sentence; "" where there is none.

    Whoever named the workspace knows which file is read, and a folder that is gone or closed holds none.
    """
    try:
        here = Path.cwd() / MODELS_NAME
        if workspace.named or not here.is_file():
            return ""
        if workspace.models_file.is_file() and here.samefile(workspace.models_file):
            return ""
    except OSError:
        return ""
    return (
        f"{here} is not read, the workspace is {workspace.root}: give --workspace . or put an {CONFIG_NAME} beside it"
    )


def guarded_settings(path: Path) -> tuple[Settings, tuple[str, ...]]:
    """Settings of a file without the command and the webhook that it is not trusted with, and sentences about these."""
    settings = load_settings(path)
    claims = claims_in({key: getattr(settings, key) for key in GUARDED})
    if allowed(path, claims):
        return settings, ()
    for key in GUARDED:
        setattr(settings, key, None)
    return settings, (withheld_text(path, claims),)


def load_settings(path: Path) -> Settings:
    """Settings of a file, checked; a missing file is all defaults."""
    if not path.is_file():
        return Settings()
    try:
        data = as_mapping(read_yaml(path, what="settings file"), str(path))
    except YamlError as error:
        raise SettingsError(f"Cannot read {error}") from None
    return build_settings(data, path)


def build_settings(data: Mapping[str, Any], path: Path) -> Settings:
    """Settings from plain values; an unknown key names the nearest known one."""
    settings = Settings()
    names = [f.name for f in fields(Settings)]
    lines = data.lines if isinstance(data, YamlMap) else {}
    for name, value in as_written(data, Settings).items():
        where = f"{path}, line {lines[name]}" if name in lines else str(path)
        if name not in names:
            near = nearest(name, names)
            raise SettingsError(f"{where}: unknown key {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        try:
            setattr(settings, name, _value(name, value))
        except OptionError as error:
            raise SettingsError(f"{where}: {error}") from error
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
    if isinstance(value, dict | list):
        raise OptionError(f"{name}: one text is meant")
    if "\0" in str(value):
        raise OptionError(f"{name}: {value!r} holds a null character")
    return parse_option(Settings, name, value)


def save_settings(workspace: Workspace) -> None:
    """Write what differs from the defaults, whole or not at all; comments of a file that is there are kept.

    What the file names and is not trusted with stays as it was; what these settings name, a person has given here, and
    the file is trusted with it.
    """
    from batch.export.atomic import atomic_file

    path, values = workspace.config_file, options_dict(workspace.settings)
    kept = {key: value for key, value in _withheld_values(path).items() if key not in values}
    claims = claims_in({key: values.get(key) for key in GUARDED})
    text = _file_text(path, {**values, **kept})
    try:
        # A webhook's address may be a secret.
        with atomic_file(path, private=bool(claims or kept)) as file:
            file.write(text.encode("utf-8"))
    except BatchError as error:
        raise SettingsError(f"Cannot write {path}: {error}") from error
    if not kept:
        remember(path, claims)


def _file_text(path: Path, values: Mapping[str, Any]) -> str:
    """What the file is to say: as it stands, with the changes; anew where that would be read as something else."""
    import yaml

    from ai_router.settings_file import edited

    anew = yaml.safe_dump(dict(values), allow_unicode=True, sort_keys=False) if values else "{}\n"
    try:
        text = edited(path.read_text(encoding="utf-8-sig"), values, asdict(Settings()))
        same = build_settings(as_mapping(parse_yaml(text, str(path)), str(path)), path) == build_settings(values, path)
    except (OSError, ValueError, BatchError):
        return anew
    return text if same else anew


def _withheld_values(path: Path) -> dict[str, str]:
    try:
        said, withheld = load_settings(path), guarded_settings(path)[1]
    except SettingsError:
        return {}
    return {key: value for key in GUARDED if withheld and (value := getattr(said, key))}
