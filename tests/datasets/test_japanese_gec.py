"""The example folder: its data is what its generator makes, and nothing of the test set was trained on."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from batch.datasets import open_dataset
from batch.datasets.config import Config

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "japanese_gec"


@pytest.fixture
def make_dataset(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator, imported as when it is run."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    return importlib.import_module("make_dataset")


def answers(split: str) -> list[str]:
    source = open_dataset(EXAMPLE / "data" / f"{split}.jsonl")
    return [example.expected for _, example, _ in source.examples() if example is not None]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_data_is_what_the_generator_makes(make_dataset: ModuleType, split: str) -> None:
    lines = (EXAMPLE / "data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == make_dataset.rows(split)


def test_no_correct_sentence_is_in_two_splits() -> None:
    splits = [{text.rstrip("。") for text in answers(name)} for name in ("train", "valid", "test")]
    assert len(answers("test")) == 500
    # A row may be without its full stop; the generator splits by the sentence with it.
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]
    assert not splits[0] & splits[1]


def test_every_input_is_found_in_its_prompt() -> None:
    """The bare sentence, whichever of the ten prompts is around it."""
    for _, example, _ in open_dataset(EXAMPLE / "data" / "test.jsonl").examples():
        assert example is not None
        prompt = example.messages[-1]["content"]
        assert prompt.endswith(example.input)
        assert not any(mark in example.input for mark in "[]:：\n")
        assert len(prompt) > len(example.input)


def test_the_configuration_trained_the_adapter() -> None:
    config = Config.load(EXAMPLE / "config" / "lora_config.yaml")
    adapter = json.loads((EXAMPLE / "adapter" / "adapter_config.json").read_text())
    for key in ("fine_tune_type", "num_layers", "lora_parameters", "iters", "seed"):
        assert adapter[key] == config.values[key]
    assert list(config.warnings()) == []
    assert config.test_file == "examples/japanese_gec/data/test.jsonl"
    assert config.template is not None
