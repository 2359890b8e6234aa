"""Models of other programs, found where they lie: Ollama, LM Studio, llama.cpp, the Hugging Face cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ai_router.included import DEMO_PATH
from ai_router.models import Registry
from ai_router.models.discovery import SECONDS, ollama
from ai_router.models.registry import UnknownModelError
from ai_router.models.spec import ModelSpec
from ai_router.settings import Settings, Workspace, load_workspace, overlooked
from tests.engines.test_gguf_header import written

pytest.importorskip("gguf")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def models(home: Path) -> dict[str, ModelSpec]:
    registry = Registry(Workspace(home / "work", Settings()))
    assert registry.skipped == []
    return {spec.id: spec for spec in registry.all()}


def pulled(home: Path, name: str, weights: Path | None, **layers: str) -> Path:
    """A model as Ollama keeps it."""
    root = home / ".ollama" / "models"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else "0" * 64
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    if weights:
        shutil.copy(weights, root / "blobs" / f"sha256-{digest}")
    manifest = root / "manifests" / name
    manifest.parent.mkdir(parents=True)
    more = [{"mediaType": f"application/vnd.ollama.image.{kind}", "digest": said} for kind, said in layers.items()]
    manifest.write_text(json.dumps({"layers": [{"mediaType": ollama.MODEL, "digest": f"sha256:{digest}"}, *more]}))
    return manifest


def test_each_place_and_the_same_weights_once(home: Path) -> None:
    one = written(home / "one.gguf")
    other = written(home / "other.gguf", tokens=9)
    pulled(home, "registry.ollama.ai/library/tiny/latest", one)
    pulled(home, "hf.co/someone/model-GGUF/Q8_0", other)
    studio = home / ".lmstudio" / "models" / "maker" / "model"
    studio.mkdir(parents=True)
    shutil.copy(one, studio / "copy-of-one.gguf")
    written(studio / "mmproj-model.gguf", "clip")
    (home / ".cache" / "llama.cpp").mkdir(parents=True)
    written(home / ".cache" / "llama.cpp" / "third.gguf", tokens=10)
    snapshot = home / "hub" / "models--org--repo" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    written(snapshot / "fourth.gguf", tokens=11)
    found = models(home)
    assert set(found) == {"demo", "ollama/tiny:latest", "ollama/someone/model-GGUF:Q8_0", "llama.cpp/third"} | {
        "org/repo/fourth"
    }
    tiny = found["ollama/tiny:latest"]
    assert (tiny.context, tiny.license, tiny.quantisation, tiny.source) == (512, "mit", "F32", "Ollama")
    assert tiny.ready and tiny.memory(4) and tiny.memory(8) > tiny.memory(4)


def test_weights_that_lie_twice_go_by_each_of_their_names(home: Path) -> None:
    one = written(home / "one.gguf")
    pulled(home, "registry.ollama.ai/library/tiny/latest", one)
    system = "sha256:" + "5" * 64
    (home / ".ollama" / "models" / "blobs" / system.replace(":", "-")).write_text("You are a pirate.")
    pulled(home, "registry.ollama.ai/library/pirate/latest", one, system=system)
    work = home / "work"
    work.mkdir()
    (work / "models.yaml").write_text(
        f"models: {{mine: {{path: {one}}}, wrong: {{path: {one}, colour: red}}, over: {{path: {one}, adapter: x}}}}"
    )
    registry = Registry(Workspace(work, Settings()))
    found = {spec.id: spec for spec in registry.all()}
    # Another system prompt is another model; what cannot run hides nothing.
    assert set(found) == {"demo", "mine", "wrong", "over", "ollama/pirate:latest"}
    assert found["mine"].also == ("ollama/tiny:latest",) and found["mine"].goes_by("ollama/tiny:latest")
    assert (listed := registry.listed("ollama/tiny:latest")) is not None and listed.ready  # as a route names it
    theirs = registry.get("OLLAMA/tiny:latest")
    assert theirs.ready and theirs.id == "ollama/tiny:latest" and theirs.source == "Ollama"
    (work / "models.yaml").write_text(f"models: {{wrong: {{path: {one}, colour: red}}}}")
    assert "ollama/tiny:latest" in models(home)


def test_a_copy_of_a_folder_is_one_line_unless_its_config_says_otherwise(home: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(DEMO_PATH, home / "work" / "models" / name)
    config = home / "work" / "models" / "c" / "config.json"
    config.write_text(config.read_text().replace("2048", "4096"))
    found = models(home)
    assert set(found) == {"demo", "a", "c"} and found["a"].also == ("b",)


def test_weights_tuned_in_one_matrix_are_another_model(home: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(DEMO_PATH, home / "work" / "models" / name)
    weights = home / "work" / "models" / "b" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    half, some = len(data) // 2, len(data) // 100
    data[half : half + some] = bytes(byte ^ 1 for byte in data[half : half + some])
    weights.write_bytes(data)
    assert set(models(home)) == {"demo", "a", "b"}


def test_other_weights_of_a_name_are_a_line_of_their_own(home: Path) -> None:
    for maker, tokens in (("first", 8), ("second", 9)):
        studio = home / ".lmstudio" / "models" / maker / "model-GGUF"
        studio.mkdir(parents=True)
        written(studio / "m.gguf", tokens=tokens)
    found = models(home)
    assert set(found) == {"demo", "lmstudio/m", "lmstudio/m@second"}
    assert "second" in str(found["lmstudio/m@second"].path)


def test_of_several_snapshots_the_main_branch_has_the_model(home: Path) -> None:
    repo = home / "hub" / "models--org--repo"
    for revision in ("a" * 40, "b" * 40):
        shutil.copytree(DEMO_PATH, repo / "snapshots" / revision)
    config = repo / "snapshots" / ("b" * 40) / "config.json"
    config.write_text(config.read_text().replace("2048", "4096"))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("b" * 40)
    (repo / "snapshots" / ("a" * 40) / "only-here.gguf").write_bytes(written(home / "m.gguf").read_bytes())
    found = models(home)
    assert set(found) == {"demo", "org/repo", "org/repo/only-here"} and found["org/repo"].context == 4096


def test_names_as_ollama_and_the_hub_have_them(home: Path) -> None:
    pulled(home, "registry.ollama.ai/library/tiny/latest", written(home / "one.gguf"))
    bert = home / "hub" / "models--org--embedder" / "snapshots" / "abc"
    bert.mkdir(parents=True)
    (bert / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    registry = Registry(Workspace(home / "work", Settings()))
    assert registry.get("ollama/tiny").id == registry.get("tiny").id == "ollama/tiny:latest"
    assert "org/embedder" not in {spec.id for spec in registry.all()}
    assert not registry.get("org/embedder").ready and "BertModel" in registry.get("org/embedder").why
    with pytest.raises(UnknownModelError, match="of the hub: ai-router models pull org/other"):
        registry.get("org/other")


def test_a_manifest_whose_blob_is_gone_and_others_that_are_none(home: Path) -> None:
    pulled(home, "registry.ollama.ai/library/gone/1b", None)
    pulled(home, "registry.ollama.ai/library/tuned/1b", written(home / "m.gguf"), adapter="sha256:" + "1" * 64)
    for name, text in {"cut": '{"layers": [', "odd": "[]", "away": json.dumps({"layers": [{"digest": 3}, 7]})}.items():
        pulled(home, f"registry.ollama.ai/library/{name}/1b", None).write_text(text)
    outside = {"layers": [{"mediaType": ollama.MODEL, "digest": "sha256:../../../../etc/passwd"}]}
    pulled(home, "registry.ollama.ai/library/out/1b", None).write_text(json.dumps(outside))
    found = models(home)
    assert "ollama pull gone:1b" in found["ollama/gone:1b"].why
    assert "adapter" in found["ollama/tuned:1b"].why
    llama = home / ".cache" / "llama.cpp"
    llama.mkdir(parents=True)
    (llama / "short.gguf").write_bytes(written(home / "m2.gguf").read_bytes()[:60])
    short = models(home)["llama.cpp/short"]
    assert short.engine == "gguf" and not short.ready and "cannot be read" in short.why
    for name in ("cut", "odd", "away", "out"):
        spec = found[f"ollama/{name}:1b"]
        assert not spec.ready and "cannot be read" in spec.why


def test_a_place_that_takes_too_long_holds_nobody_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECONDS < 10
    monkeypatch.setattr("ai_router.models.discovery.SECONDS", 0.05)
    done = []

    def sleepy(workspace: Workspace) -> list[ModelSpec]:
        while not done:
            time.sleep(0.01)
        return []

    monkeypatch.setattr("ai_router.models.discovery.FINDERS", (("a sleeping disk", sleepy),))
    registry = Registry(Workspace(home / "work", Settings()))
    done.append(True)
    assert "a sleeping disk took longer" in registry.skipped[0] and registry.get("demo").ready


def test_larger_than_memory_says_both_numbers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.engines.local.memory.total", lambda: 1000)
    (home / "work" / "models").mkdir(parents=True)
    written(home / "work" / "models" / "big.gguf")
    assert "this machine has 0.0 GB" in models(home)["big"].why


def test_the_chat_model_is_the_default_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_router import included

    monkeypatch.setenv(included.VARIABLE, str(written(home / "chat.gguf")))
    assert included.default_model() == included.CHAT
    assert next(iter(models(home).values())).id == included.CHAT
    monkeypatch.setenv(included.VARIABLE, "off")
    assert included.default_model() == included.DEMO and included.CHAT not in models(home)
    monkeypatch.setattr(included.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv(included.VARIABLE)
    assert included.chat_model() is None


def test_a_models_file_beside_the_user_that_is_not_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("AI_ROUTER_HOME", str(tmp_path / "home"))
    assert overlooked(load_workspace()) == ""
    (here / "models.yaml").write_text("models: {}\n")
    assert "is not read, the workspace is" in overlooked(load_workspace())
    assert overlooked(load_workspace(here)) == overlooked(load_workspace(tmp_path / "home")) == ""
    (here / "ai-router.yaml").touch()
    assert overlooked(load_workspace()) == ""


def test_a_folder_that_is_gone_overlooks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    workspace = load_workspace(tmp_path / "home")
    gone.rmdir()
    assert overlooked(workspace) == overlooked(replace(workspace, named=False)) == ""
