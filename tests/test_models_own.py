"""How a model itself wants its tokens picked is the default, and shown: from its files, Ollama's, or beside a GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ai_router.models.discovery import describe, ollama
from ai_router.models.own import own_sampling
from batch.options import SamplingOptions, build_options
from tests.engines.test_gguf_header import written
from tests.test_models_file import entries, model
from tests.test_models_found import home, models, pulled

pytest.importorskip("gguf")
__all__ = ["home"]  # a fixture


def asking(folder: Path, **said: Any) -> None:
    (folder / "generation_config.json").write_text(json.dumps(said))


def test_of_a_folder_and_beside_a_file(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert describe(folder, source="found").sampling == {}
    asking(folder, do_sample=False, temperature=0.6)
    assert describe(folder, source="found").sampling == {}
    asking(folder, do_sample=True, temperature=0.6, top_p=0.95, top_k=7.5, repetition_penalty=1.1)
    wanted = {"temperature": 0.6, "top_p": 0.95}  # 7.5 is no whole number, the penalty is the engine's
    assert describe(folder, source="found").sampling == wanted
    assert describe(folder, source="found", sampling={"temperature": 0.1}).sampling == {**wanted, "temperature": 0.1}
    file = written(folder / "m.gguf")
    assert describe(file, source="found").sampling == wanted
    asking(folder, do_sample=True)
    assert describe(file, source="found").sampling == {"temperature": 1.0}


def test_of_a_header(tmp_path: Path) -> None:
    from dataclasses import replace

    from batch.engines.gguf.header import read_header

    header = read_header(written(tmp_path / "m.gguf"))
    said = {"temp": 0.6000000238418579, "top_k": 20, "penalty_repeat": 1.1, "mirostat": 2, "min_p": 7.0}
    header = replace(header, values={f"general.sampling.{key}": value for key, value in said.items()})
    assert own_sampling(tmp_path / "m.gguf", header) == {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1}
    asking(tmp_path, do_sample=True, temperature=0.9, top_p=0.5)
    found = own_sampling(tmp_path / "m.gguf", header)
    assert (found["temperature"], found["top_p"]) == (0.6, 0.5)  # the file itself knows better than what lies beside
    build_options(SamplingOptions, found)


def test_an_entry_goes_over_it(tmp_path: Path) -> None:
    asking(model(tmp_path / "good"), do_sample=True, temperature=0.6, top_p=0.9)
    spec = entries(tmp_path, "models: {m: {path: good, sampling: {temperature: 0, system: Be short.}}}")["m"]
    assert spec.sampling == {"temperature": 0, "top_p": 0.9, "system": "Be short."}


def test_of_ollama(home: Path) -> None:
    root = home / ".ollama" / "models"
    params = {"temperature": 0.2, "stop": ["<end>"], "repeat_penalty": 1.2, "num_ctx": 4096, "top_p": "much"}
    layers = {"params": json.dumps(params), "system": "You are a pirate."}
    digests = {kind: "sha256:" + kind.encode().hex().ljust(64, "0") for kind in layers}
    pulled(home, "registry.ollama.ai/library/tiny/latest", written(home / "m.gguf"), **digests)
    for kind, text in layers.items():
        (root / "blobs" / digests[kind].replace(":", "-")).write_text(text)
    wanted = {"temperature": 0.2, "stop": ["<end>"], "repetition_penalty": 1.2, "system": "You are a pirate."}
    assert models(home)["ollama/tiny:latest"].sampling == wanted
    (root / "blobs" / digests["params"].replace(":", "-")).write_text("[")
    spec = models(home)["ollama/tiny:latest"]
    assert spec.ready and ollama.PARAMS.endswith("params")


def test_the_engine_does_what_lies_beside_a_file_asks(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from batch.engines.torch.generation import Generation
    from batch.engines.torch.loader import load
    from tests.engines.gguf_files import write

    file = write(tmp_path / "m.gguf", "llama")
    assert load(file, "fp32", "cpu").end_ids == {2}
    asking(tmp_path, eos_token_id=[2, 7], do_sample=True, temperature=0.7, num_beams=4)
    loaded = load(file, "fp32", "cpu")
    assert loaded.end_ids == {2, 7}
    notes = Generation(loaded.model).notes
    assert notes == [
        "not done though the model asks: num_beams 4",
        "the model asks for sampling (temperature 0.7)" + ("; at temperature 0 answers are greedy"),
    ]
    asking(tmp_path, repetition_penalty=1.3, suppress_tokens=[9])
    assert "repetition_penalty 1.3, suppress_tokens" in Generation(load(file, "fp32", "cpu").model).notes[0]


def test_llama_cpp_does_the_penalty_and_says_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("transformers")
    from batch.engines.gguf.engine import open_core
    from batch.items import BatchItem, Request
    from tests.engines.gguf_files import write

    file = write(tmp_path / "m.gguf", "llama")
    asking(tmp_path, repetition_penalty=1.3, suppress_tokens=[9])
    core = open_core({"path": str(file), "context": 64, "slots": 1}, SamplingOptions(), 1)
    assert [note for note in core.about["notes"] if "asks" in note] == [
        "as the model asks: repetition_penalty 1.3",
        "not done though the model asks: suppress_tokens",
    ]
    row = core._row(BatchItem(0, Request("hi")))
    assert row.body["repeat_penalty"] == 1.3
    core.close()
