"""What a folder may make this program do. A folder is data: it chooses models and options, and nothing more.

A command, a webhook and a Python module that a file names count only where the file is the user's own configuration, or
where the user has trusted it. Trust is remembered in the user's data folder by the file's path and by what it names,
with the content of the scripts and modules among it that lie in its folder: another command, or another script under
the same name, is not what was trusted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.errors import BatchError
from batch.yamlfile import YamlMap, as_mapping, read_yaml

CONFIG_NAME = "ai-router.yaml"
MODELS_NAME = "models.yaml"
STORE_NAME = "trust.json"
_LONGEST_SCRIPT = 64 * 2**20
_COMMAND, _WEBHOOK, _MODULE = "runs the command", "calls the address", "imports the Python module"
_KEY, _WRITES = "sends a key", "writes to"
_OUTPUTS = ("output_file", "folder")  # of a job's details: where it puts files of its own
_LOOPBACK = re.compile(r"https?://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/|$)")


class TrustError(BatchError):
    """What is trusted cannot be read or written (the text says where it is kept), or a job wants what it may not do."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing a file wants done: its key, what it would do, with what."""

    key: str
    does: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}: {self.does} {self.value}"


def home_folder() -> Path:
    """Where the user's own configuration and data are: $AI_ROUTER_HOME, else the platform's user-data folder."""
    if home := os.environ.get("AI_ROUTER_HOME"):
        return Path(os.path.expanduser(home)).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("ai-router", appauthor=False))


def is_own(file: Path) -> bool:
    """Whether a file is the user's own configuration, or a job among the user's own."""
    home = _real(home_folder())
    return _real(file).parent in (home, home / "checkpoints")


def claims_in(data: Any) -> list[Claim]:
    """What a settings file, `models.yaml`, a template, a dataset's configuration or a job's details want done."""
    return list(_claims(data)) if isinstance(data, Mapping) else []


def _claims(data: Mapping[str, Any]) -> Iterator[Claim]:
    notify = data.get("notify")
    section = notify if isinstance(notify, Mapping) else {}
    for key, value, does in (
        ("notify_command", _text(data, "notify_command"), _COMMAND),
        ("webhook", _text(data, "webhook"), _WEBHOOK),
        ("notify.command", _text(section, "command"), _COMMAND),
        ("notify.webhook", _text(section, "webhook"), _WEBHOOK),
    ):
        if value:
            yield Claim(key, does, value)
    if is_module(engine := _text(data, "engine")):
        yield Claim("engine", _MODULE, engine)
    models = data.get("models")
    for name, entry in models.items() if isinstance(models, Mapping) else ():
        if isinstance(entry, Mapping):
            yield from _entry_claims(f"models.{name}", entry)


def _entry_claims(name: str, entry: Mapping[str, Any]) -> Iterator[Claim]:
    if is_module(engine := _text(entry, "engine")):
        yield Claim(f"{name}.engine", _MODULE, engine)
    # A key of the user's goes to whom the file names, or past them. Without an address it goes to its provider.
    keys = [_text(entry, key) for key in ("api_key_env", "api_key_keyring", "provider") if entry.get(key)]
    urls = entry.get("base_urls")
    addresses = [_text(entry, key) for key in ("url", "proxy") if entry.get(key)]
    addresses += map(str, urls if isinstance(urls, list) else [])
    if keys and not all(_LOOPBACK.match(address) for address in addresses):
        yield Claim(f"{name}", _KEY, f"({', '.join(keys)}) to {', '.join(addresses)}")
    # What is written into a bucket goes there under the user's own sign-in, and is read by who owns it.
    if bucket := _text(entry, "bucket"):
        yield Claim(f"{name}.bucket", _KEY, f"(your sign-in) to gs://{bucket.removeprefix('gs://')}")


def _text(data: Mapping[str, Any], key: str) -> str:
    """A value as it was written, "" where there is none."""
    value = data.get(key)
    if value is None:
        return ""
    return data.texts.get(key, str(value)) if isinstance(data, YamlMap) else str(value)


def is_module(engine: object) -> bool:
    """Whether an engine's name is that of a Python module."""
    return isinstance(engine, str) and ":" in engine


def claims_of_job(details: Any, file: Path) -> list[Claim]:
    """What a job's details want done: a module, and files outside the folder that its checkpoint lies in or above."""
    return claims_in(details) + writes_in(details, file.parent.parent)


def writes_in(data: Any, folder: Path) -> list[Claim]:
    """Where a file would put files of its own, outside a folder."""
    found = data if isinstance(data, Mapping) else {}
    named = [(key, text) for key in _OUTPUTS if (text := _text(found, key))]
    return [Claim(key, _WRITES, text) for key, text in named if not _lies_in(folder / os.path.expanduser(text), folder)]


def check_writes(details: Any, file: Path) -> None:
    """Raise TrustError where a stored job would put files where it is not trusted to."""
    claims = claims_of_job(details, file)
    places = [claim for claim in claims if claim.does == _WRITES]
    if places and not allowed(file, claims):
        raise TrustError(withheld_text(file, places, folder=False))


def _lies_in(path: Path, folder: Path) -> bool:
    try:
        return _real(path).is_relative_to(_real(folder))
    except (OSError, ValueError):  # a name that no system has
        return False


def claims_of(file: Path) -> list[Claim]:
    """What a file wants done; a job's too. Raises YamlError, and what a checkpoint that cannot be read raises."""
    if file.suffix == ".db":
        from batch.checkpoint import CheckpointStore

        with CheckpointStore(file, "snapshot") as store:
            return claims_of_job(store.job().config.get("details", {}), file)
    data = as_mapping(read_yaml(file), str(file))
    return claims_in(data) + writes_in(data, Path())


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that may want something done without being named."""
    names = (CONFIG_NAME, MODELS_NAME, "config/lora_config.yaml")
    return [folder / name for name in names if (folder / name).is_file()]


def allowed(file: Path, claims: Sequence[Claim]) -> bool:
    """Whether what this file names may be done."""
    if not claims or is_own(file):
        return True
    record = _read().get(str(_real(file)))
    return isinstance(record, dict) and record.get("digest") == digest(file, claims)


def withheld_text(file: Path, claims: Sequence[Claim], folder: bool = True) -> str:
    """The sentence about what is not done until it is trusted."""
    named = "; ".join(map(str, claims))
    return f"{file} is not trusted, so this is left out: {named}. To allow it: {how(file, folder=folder)}"


def how(file: Path, *, folder: bool = True) -> str:
    """The command that trusts a file, or the folder whose configuration it is."""
    import shlex

    return shlex.join(["ai-router", "trust", str(file.parent if folder else file)])


def digest(file: Path, claims: Sequence[Claim]) -> str:
    """What is trusted, as a hash: what is named, and the content of what of it lies in the file's folder."""
    import hashlib

    sha = hashlib.sha256()
    for claim in sorted(claims, key=str):
        sha.update(json.dumps([claim.key, claim.value]).encode())
        for script in _scripts(file.parent, claim):
            sha.update(json.dumps([str(script), _content(script)]).encode())
    return sha.hexdigest()


def remember(file: Path, claims: Sequence[Claim]) -> None:
    """Trust a file to do this; nothing to do where it is nothing, or the file the user's own. Raises TrustError."""
    if allowed(file, claims):
        return
    record = {
        "digest": digest(file, claims),
        "allows": [str(claim) for claim in claims],
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    _write({**_read(), str(_real(file)): record})


def forget(files: Iterable[Path]) -> list[str]:
    """Trust these files, or all in these folders, no longer; what was forgotten."""
    known, places = _read(), [_real(file) for file in files]
    gone = [name for name in known if any(Path(name) == place or place in Path(name).parents for place in places)]
    if gone:
        _write({name: record for name, record in known.items() if name not in gone})
    return gone


def trusted() -> dict[str, list[str]]:
    """All files that are trusted, and what each may do as it was when it was trusted."""
    return {
        name: [str(line) for line in record.get("allows", [])]
        for name, record in _read().items()
        if isinstance(record, dict)
    }


def _scripts(folder: Path, claim: Claim) -> list[Path]:
    """Files of the folder that would be run."""
    if claim.does == _MODULE:
        path = folder.joinpath(*claim.value.partition(":")[0].split("."))
        return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    if claim.does != _COMMAND:
        return []
    import shlex

    try:
        words = shlex.split(claim.value)
    except ValueError:
        return []
    found: list[Path] = []
    for word in words:
        with suppress(OSError, ValueError):
            file = _real(folder / word)
            if file.is_file() and _real(folder) in file.parents:
                found.append(file)
    return found


def _content(file: Path) -> str:
    import hashlib

    try:
        with file.open("rb") as stream:
            return hashlib.sha256(stream.read(_LONGEST_SCRIPT)).hexdigest()
    except OSError:
        return ""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _read() -> dict[str, Any]:
    store = home_folder() / STORE_NAME
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return {}  # then nothing is trusted, and what is trusted next is written anew
    return known if isinstance(known, dict) else {}


def _write(known: Mapping[str, Any]) -> None:
    from batch.export.atomic import atomic_file

    store = home_folder() / STORE_NAME
    try:
        with atomic_file(store, private=True) as file:
            file.write(json.dumps(known, indent=1, ensure_ascii=True).encode())
    except (OSError, BatchError) as error:
        raise TrustError(f"What is trusted cannot be written to {store}: {error}") from None
