"""Models that are named by the place of their folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ai_router.models import DEMO_PATH, Registry, UnknownModelError
from ai_router.settings import Settings, Workspace


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    shutil.copytree(DEMO_PATH, tmp_path / "elsewhere" / "tuned", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(DEMO_PATH, tmp_path / "work" / "models" / "mine", ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Registry(Workspace(tmp_path / "work", Settings()))


def test_a_folder_named_from_here_is_found_again_from_elsewhere(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registry.get("./tuned")
    assert spec.path == tmp_path / "elsewhere" / "tuned"
    monkeypatch.chdir(tmp_path)
    assert registry.get(spec.id) == spec


def test_the_folder_of_a_known_model_is_that_model(registry: Registry, tmp_path: Path) -> None:
    assert registry.get(str(tmp_path / "work" / "models" / "mine")).id == "mine"
    assert registry.get("../work/models/mine").id == "mine"


def test_a_bare_name_is_no_folder(registry: Registry) -> None:
    with pytest.raises(UnknownModelError):
        registry.get("tuned")
