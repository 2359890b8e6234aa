"""What is wrong with a model's folder is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch.engine import open_core  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402


def test_loading_errors_are_one_sentence(qwen3: Path, tmp_path: Path) -> None:
    def copy(name: str, **replaced: bytes | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in qwen3.iterdir():
            key = file.name.replace(".", "_")
            data = replaced.get(key, file.read_bytes())
            if data is not None:
                (folder / file.name).write_bytes(data)
        return folder

    weights = (qwen3 / "model.safetensors").read_bytes()
    config = json.loads((qwen3 / "config.json").read_bytes())
    deeper = json.dumps({**config, "num_hidden_layers": 4, "layer_types": ["full_attention"] * 4}).encode()
    strange = json.dumps({"model_type": "strange", "auto_map": {"AutoConfig": "evil.Config"}}).encode()
    cases = [
        (tmp_path / "nowhere", "there is no such model folder"),
        (copy("a", config_json=None), "no config.json"),
        (copy("b", config_json=b"{"), "config.json cannot be read"),
        (copy("c", model_safetensors=None), "no weights"),
        (copy("d", model_safetensors=weights[: len(weights) // 2]), "the weights cannot be read"),
        (copy("e", model_safetensors=b""), "the weights cannot be read"),
        (copy("f", config_json=deeper), "the weights lack"),
        (copy("g", tokenizer_json=b"{", tokenizer_config_json=b"{"), "the tokenizer cannot be loaded"),
        (copy("h", config_json=strange), "tokenizer cannot be loaded|code of its own|not a causal language model"),
    ]
    for folder, words in cases:
        with pytest.raises(FatalError, match=words) as caught:
            load(folder)
        assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
    with pytest.raises(FatalError, match="precision"):
        load(qwen3, "fp8")
    with pytest.raises(FatalError, match="knows"):
        open_core({"path": str(qwen3), "colour": "red"}, SamplingOptions(), None)


def test_a_pickle_that_torch_refuses_is_refused_without_its_advice(qwen3: Path, tmp_path: Path) -> None:
    import torch

    for file in qwen3.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({"model.norm.weight": Path("code")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FatalError, match="holds more than tensors") as caught:
        load(tmp_path, "fp32")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"bits": 4}}, "engine: mlx"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "stored as gptq, which the torch engine cannot"),
        ({"quantization_config": {"quant_method": "awq"}}, "stored as awq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "stored as fp8"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "stored as compressed-tensors"),
    ],
)
def test_weights_in_few_bits_are_refused_by_name(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FatalError, match=says):
        load(tmp_path)
