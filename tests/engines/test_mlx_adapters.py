"""Adapters over MLX: the logits of PEFT's own forward pass, and those of the torch engine for mlx-lm's format."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("mlx_lm") is None, reason="needs the mlx extra"),
]
torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from batch.engines.mlx.loader import load  # noqa: E402
from tests.engines.test_adapters import IDS, REFUSED, SOUND, changed, trained, wanted  # noqa: E402
from tests.engines.test_adapters import ours as torchs  # noqa: E402

NAMES = list(SOUND)


def published(folder: Path, place: Path) -> Path:
    """A model as it was first published: mlx-lm reads GPT-2 by those names and keys alone."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "gpt2":
        return folder
    shutil.copytree(folder, place)
    (place / "config.json").write_text(json.dumps({**config, "n_ctx": config["n_positions"]}))
    weights = load_file(folder / "model.safetensors")
    held = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(held, place / "model.safetensors", {"format": "pt"})
    return place


def ours(folder: Path, adapter: Path | None = None, precision: str = "fp32") -> Any:
    import mlx.core as mx

    return torch.tensor(load(folder, precision, adapter).model(mx.array(IDS.tolist())).astype(mx.float32).tolist())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_sound_adapter_gives_the_logits_of_peft(models: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    kind, options = SOUND[name]
    model = published(models(kind), tmp_path / "model")
    adapter = trained(model, tmp_path / "adapter", **options)
    torch.testing.assert_close(ours(model, adapter), wanted(model, adapter), atol=3e-3, rtol=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_turned_matrix_that_was_saved_whole_is_turned(models: Callable[[str], Path], tmp_path: Path) -> None:
    model = published(models("gpt2"), tmp_path / "model")
    options = {"target_modules": ["c_fc"], "modules_to_save": ["attn.c_proj", "ln_1"]}
    adapter = trained(model, tmp_path / "adapter", **options)
    torch.testing.assert_close(ours(model, adapter), wanted(model, adapter), atol=3e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["alora", "fast pissa", "replicated", "left out", "rank", "saved"])
def test_what_cannot_be_honoured_is_refused_by_name(models: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    config, words = REFUSED[name]
    plain = trained(models("llama"), tmp_path / "plain", target_modules=["q_proj"])
    with pytest.raises(FatalError, match=words):
        load(models("llama"), "fp32", changed(plain, tmp_path / "adapter", **config))


def test_what_a_quantised_model_cannot_have(models: Callable[[str], Path], tmp_path: Path) -> None:
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    model, config = load_model(models("llama"))
    model, config = quantize_model(model, config, group_size=32, bits=8)
    folder = tmp_path / "q"
    folder.mkdir()
    for file in models("llama").glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    save_model(folder, model)
    save_config(config, folder / "config.json")
    pissa = trained(models("llama"), tmp_path / "p", target_modules=["down_proj"], init_lora_weights="pissa")
    with pytest.raises(FatalError, match="begun by pissa, and the model is quantised"):
        load(folder, "fp32", pissa)


MLX = {
    "lora": {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 3.0, "dropout": 0.0}},
    "dora": {"fine_tune_type": "dora", "lora_parameters": {"rank": 4, "scale": 3.0, "dropout": 0.0}},
    "tied embedding": {
        "fine_tune_type": "lora",
        "lora_parameters": {"rank": 4, "scale": 0.5, "dropout": 0.0, "keys": ["model.embed_tokens"]},
    },
    "tied embedding, dora": {
        "fine_tune_type": "dora",
        "lora_parameters": {"rank": 4, "scale": 0.5, "dropout": 0.0, "keys": ["model.embed_tokens"]},
    },
    "full": {"fine_tune_type": "full"},
}


@pytest.mark.parametrize("name", MLX)
def test_mlx_lms_own_adapters_are_the_same_on_torch(models: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    config = {"num_layers": 2, "batch_size": 4, "seed": 0, **MLX[name]}
    mx.random.seed(1)
    model, _ = load_model(models("qwen3"))
    if name == "full":
        parts = [(key, value) for key, value in tree_flatten(model.parameters()) if "layers.1." in key]
    else:
        model.freeze()
        parameters: Any = config["lora_parameters"]
        linear_to_lora_layers(model, 2, parameters, use_dora=config["fine_tune_type"] == "dora")
        parts = tree_flatten(model.trainable_parameters())
    weights = {key: value + 0.05 * mx.random.normal(value.shape) for key, value in parts}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), weights)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = ours(models("qwen3"), tmp_path)
    torch.testing.assert_close(torchs(models("qwen3"), tmp_path), found, atol=3e-3, rtol=2e-3)
    assert (found - ours(models("qwen3"))).abs().max() > 1e-2
