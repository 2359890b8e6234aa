"""`models.yaml`: models by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ai_router.models.discovery import describe
from ai_router.models.spec import ModelSpec
from ai_router.settings import SettingsError
from batch.engines import registry as engines


def read_entries(file: Path) -> Iterator[ModelSpec]:
    """The models of a file; folders in it are relative to it. Raises SettingsError."""
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for model_id, entry in data["models"].items():
            adapter = entry.get("adapter")
            yield describe(
                file.parent / Path(str(entry["path"])).expanduser(),
                id=str(model_id),
                name=str(entry.get("name", model_id)),
                engine=str(entry["engine"]) if "engine" in entry else None,
                source="models.yaml",
                notes=str(entry.get("notes", "")),
                sampling=dict(entry.get("sampling", {})),
                adapter=file.parent / Path(str(adapter)).expanduser() if adapter else None,
                engine_options={name: entry[name] for name in engines.option_names() if entry.get(name) is not None},
            )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"Cannot read {file}: {type(error).__name__}: {' '.join(str(error).split())}") from error
