"""LoRA adapters found beside their base: each a model of its own, ready where base and engine are here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ai_router.included import DEMO_PATH
from ai_router.models import ModelSpec, Registry
from ai_router.models.discovery.adapters import fitting
from ai_router.models.registry import describe
from ai_router.settings import Settings, Workspace
from tests.engines.test_gguf_header import written

pytest.importorskip("gguf")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def registry(home: Path) -> dict[str, ModelSpec]:
    found = Registry(Workspace(home / "work", Settings()))
    assert found.skipped == []
    return {spec.id: spec for spec in found.all()}


def peft(folder: Path, base: str | None) -> Path:
    folder.mkdir(parents=True)
    said: dict[str, Any] = {"peft_type": "LORA", **({"base_model_name_or_path": base} if base else {})}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def gguf_lora(path: Path, base: str = "") -> Path:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    if base:
        writer.add_string("general.base_model.0.name", base)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_folders_by_the_name_the_place_and_the_folder_of_their_base(home: Path) -> None:
    models = home / "work" / "models"
    shutil.copytree(DEMO_PATH, models / "base")
    peft(models / "base" / "inside", None)
    peft(models / "by-path", str(models / "base"))
    peft(models / "by-name", "someone/Base")
    peft(models / "alone", "someone/other-7b")
    peft(home / "hub" / "models--me--tuned" / "snapshots" / "abc", "someone/base")
    found = registry(home)
    base = found["base"]
    assert {spec.adapter.name for spec in fitting(base, list(found.values())) if spec.adapter} == {
        *("inside", "by-path", "by-name", "abc"),
    }
    assert found["base+by-path"].place == base.place and found["base+by-path"].source == "found"
    assert found["base+by-path"].ready == base.ready
    assert not found["alone"].ready
    assert "made for someone/other-7b, which is not among the models here" in found["alone"].why


def test_adapters_of_the_hub_go_by_their_names_there_and_two_of_a_name_by_their_folders(home: Path) -> None:
    models = home / "work" / "models"
    for name in ("base", "twin"):
        shutil.copytree(DEMO_PATH, models / name)
    peft(home / "hub" / "models--me--style" / "snapshots" / "abc", "someone/twin")  # which is listed as base
    for folder in ("one", "two"):
        peft(models / folder / "tuned", str(models / "base"))
    found = registry(home)
    assert {name for name in found if "+" in name} == {"base+me/style", "base+tuned", "base+tuned@two"}
    again = Registry(Workspace(home / "work", Settings()))  # as a job asks for what it began with
    assert again.get("twin+me/style") == found["base+me/style"] and again.get("twin").path == models / "twin"


def test_an_adapter_named_as_a_model_says_what_it_makes_of_its_base(home: Path) -> None:
    models = home / "work" / "models"
    shutil.copytree(DEMO_PATH, models / "base")
    place = peft(models / "tuned", str(models / "base"))
    spec = Registry(Workspace(home / "work", Settings())).get(str(place))
    assert not spec.ready and f"ai-router models add BASE --adapter {place}" in spec.why
    assert spec.why.endswith("; over its base it is base+tuned here")


def test_one_that_names_another_base_is_not_put_over_the_model_it_lies_in(home: Path) -> None:
    models = home / "work" / "models"
    shutil.copytree(DEMO_PATH, models / "base")
    peft(models / "base" / "stray", "someone/else")
    found = registry(home)
    assert "base+stray" not in found and not found["stray"].ready


def test_gguf_files_beside_the_one_of_their_architecture(home: Path) -> None:
    models = home / "work" / "models"
    models.mkdir(parents=True)
    written(models / "tiny.gguf")
    gguf_lora(models / "poet.gguf")
    found = registry(home)
    assert found["tiny+poet"].engine == "gguf" and found["tiny+poet"].adapter == models / "poet.gguf"
    assert "poet" not in found
    # A second of that architecture: which one is meant must be said.
    written(models / "tiny-two.gguf", tokens=9)
    gguf_lora(models / "named.gguf", "Tiny Two")
    found = registry(home)
    assert not found["poet"].ready and found["tiny-two+named"].place == models / "tiny-two.gguf"


def test_an_adapter_of_the_other_engine_says_which(home: Path) -> None:
    home.joinpath("x").mkdir()
    file = written(home / "x" / "tiny.gguf")
    folder = peft(home / "x" / "folder", None)
    lora = gguf_lora(home / "x" / "lora.gguf")
    said = describe(file, source="found", engine="gguf", adapter=folder)
    assert not said.ready and ("engine: torch" in said.why or "gguf" in said.why)
    assert "engine: gguf" in describe(DEMO_PATH, source="found", engine="torch", adapter=lora).why


def test_the_weights_of_an_adapter_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    spec = describe(tmp_path / "adapter_model.safetensors", source="found")
    assert not spec.ready and f"ai-router models add BASE --adapter {tmp_path}" in spec.why
