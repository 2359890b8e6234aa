"""Models that are not here: of the hub, on a path of a cluster's nodes, for an engine that only they have."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from servers.hub import HubServer

from ai_router.included import DEMO_PATH
from ai_router.models import make_engine
from ai_router.models.entries import read_entries
from ai_router.models.spec import ModelSpec
from batch.engines.ray import shipping
from batch.errors import FatalError
from batch.options import RunOptions, SamplingOptions

ON = RunOptions(cluster="auto")
SHIP = RunOptions(cluster="auto", ship_model=True)


@pytest.fixture(autouse=True)
def with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is installed, as far as one looks before it is used; vLLM is not."""
    monkeypatch.setattr("batch.engines.registry._installed", lambda module: module != "vllm")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


def entries(tmp_path: Path, text: str) -> list[ModelSpec]:
    file = tmp_path / "models.yaml"
    file.write_text(f"models: {{{text}}}")
    return list(read_entries(file))


def told(spec: ModelSpec) -> dict[str, Any]:
    """What the driver of a cluster is told."""
    said: dict[str, Any] = make_engine(spec, SamplingOptions(), workers=None)._load["spec"]  # type: ignore[attr-defined]
    return said


def test_a_model_of_the_hub_lies_in_its_cache_or_is_fetched_by_nodes(tmp_path: Path) -> None:
    (spec,) = entries(tmp_path, "big: {hub: org/big, engine: torch}")
    assert not spec.ready and "ai-router models pull org/big" in spec.why
    assert not spec.configured(SHIP).ready
    assert told(spec.configured(ON))["model"] == {"hub": "org/big"}

    snapshot = tmp_path / "cache" / "models--org--big" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in DEMO_PATH.iterdir():
        if file.is_file():
            shutil.copy(file, snapshot)
    (spec,) = entries(tmp_path, "big: {hub: org/big, engine: torch}")
    assert spec.ready and spec.path == snapshot
    assert told(spec.configured(SHIP))["model"] == {"path": str(snapshot)}
    assert told(spec.configured(ON))["model"] == {"hub": "org/big"}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{hub: big}", "big names no model of the hub: ORG/MODEL"),
        ("{hub: org/big, path: ./big}", "path and hub are both given"),
        ("{hub: org/big, url: 'http://127.0.0.1:1'}", "url and hub are both given"),
        ("{hub: org/big, engine: server, model: m}", "the server engine runs no model of the hub"),
    ],
)
def test_what_is_no_model_of_the_hub(tmp_path: Path, entry: str, sentence: str) -> None:
    (spec,) = entries(tmp_path, f"big: {entry}")
    assert not spec.ready and sentence in spec.why and not spec.configured(ON).ready


def test_what_is_missing_here_may_be_there(tmp_path: Path) -> None:
    """What is wrong with the model itself stays wrong."""
    (tmp_path / "broken").mkdir()
    shared, fast, broken = entries(
        tmp_path, f"s: {{path: /not/here, engine: torch}}, f: {{path: {DEMO_PATH}, engine: vllm}}, b: {{path: broken}}"
    )
    assert not shared.ready and not broken.ready and "ai-router[vllm]" in fast.why
    assert [spec.configured(ON).ready for spec in (shared, fast, broken)] == [True, True, False]
    assert told(shared.configured(ON))["model"] == {"path": "/not/here"}
    assert told(fast.configured(ON))["engine"] == "vllm"


def test_nodes_stand_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec("m", "m", "torch", Path("weights"), "models.yaml", adapter=Path("tuned"))
    there = told(spec.configured(ON))["model"]
    assert there == {"path": str(tmp_path / "weights"), "adapter_path": str(tmp_path / "tuned")}


def test_a_node_fetches_a_model_of_the_hub_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    files = {"config.json": b"{}", "model.safetensors": b"weights", "model.bin": b"pickle", "run.py": b"print()"}
    with HubServer({"org/big": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        place = shipping.from_hub("org/big")
        assert {file.name for file in place.iterdir()} == {"config.json", "model.safetensors"}  # no code, no pickles
        with pytest.raises(FatalError, match=r"org/gone cannot be fetched from the hub \(.+\); put it on a path"):
            shipping.from_hub("org/gone")
        fetched = len(server.requests)
        assert shipping.from_hub("org/big") == place
        assert not any("resolve" in line for line in server.requests[fetched:])
