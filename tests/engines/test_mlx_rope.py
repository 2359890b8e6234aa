"""Positions on MLX: configs as transformers 5 writes them give the logits of transformers, or are refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("mlx_lm") is None, reason="needs the mlx extra"),
]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.mlx import rope  # noqa: E402
from batch.engines.mlx.loader import load  # noqa: E402
from tests.engines.conftest import save_tokenizer  # noqa: E402

IDS = torch.arange(3, 43).view(1, -1)
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    "yarn, mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "mscale": 0.7,
        "mscale_all_dim": 0.4,
        "beta_fast": 20.0,
        "beta_slow": 2.0,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
        "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        "original_max_position_embeddings": 64,
    },
}


def saved(folder: Path, kind: str, said: dict[str, Any], **options: Any) -> Any:
    """A tiny model with such positions, as transformers writes it."""
    import transformers as t

    torch.manual_seed(5)
    tokenizer = save_tokenizer(folder, chat=True)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 256,
        "initializer_range": 0.25,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_theta": 50_000.0, **said},
        **options,
    }
    if kind == "phi3":
        shape["original_max_position_embeddings"] = 64
    config = {"llama": t.LlamaConfig, "qwen3": t.Qwen3Config, "qwen2": t.Qwen2Config, "phi3": t.Phi3Config}[kind]
    model = t.AutoModelForCausalLM.from_config(config(**shape)).eval()
    model.save_pretrained(folder)
    return model


def logits(folder: Path) -> Any:
    import mlx.core as mx

    return torch.tensor(load(folder, "fp32").model(mx.array(IDS.tolist())).tolist())


@pytest.mark.parametrize("model", ["llama", "qwen3", "phi3"])
@pytest.mark.parametrize("name", KINDS)
def test_the_logits_of_transformers(tmp_path: Path, model: str, name: str) -> None:
    if model == "phi3" and name not in ("default", "longrope"):
        pytest.skip("transformers has these for it, mlx-lm's file has not: refused, below")
    reference = saved(tmp_path / "m", model, KINDS[name])
    with torch.inference_mode():
        expected = reference(IDS).logits
    torch.testing.assert_close(logits(tmp_path / "m"), expected, atol=2e-3, rtol=2e-3)
    assert load(tmp_path / "m").context == (64 if name == "longrope" else 256)


@pytest.mark.parametrize(
    "said",
    [
        {**KINDS["yarn"], "attention_factor": 3.0},
        {**KINDS["yarn"], "truncate": False},
        {**KINDS["longrope"], "attention_factor": 5.0},
    ],
)
def test_what_mlx_cannot_be_told_is_refused(tmp_path: Path, said: dict[str, Any]) -> None:
    saved(tmp_path / "m", "llama", said)
    with pytest.raises(FatalError, match="the torch engine can run it"):
        load(tmp_path / "m")


def test_a_model_that_turns_otherwise_is_found_out(tmp_path: Path) -> None:
    """As mlx-lm loads it by itself: the base of its own file, and not the config's."""
    from mlx_lm.utils import load_model

    reference = saved(tmp_path / "m", "llama", KINDS["default"])
    model, _ = load_model(tmp_path / "m")
    with pytest.raises(FatalError, match="turns positions otherwise"):
        rope.check(model, reference.config)


def test_layers_of_two_kinds() -> None:
    said = {
        "model_type": "gemma3_text",
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    found, limit = rope.translate(said, {"rope_theta", "rope_scaling", "rope_local_base_freq"})
    assert limit is None and found["rope_theta"] == 1e6 and found["rope_local_base_freq"] == 1e4
    assert found["rope_scaling"] == {"rope_type": "linear", "type": "linear", "factor": 8.0}
    with pytest.raises(FatalError, match="one RoPE for all layers"):
        rope.translate(said, {"rope_theta", "rope_scaling"})


def test_what_an_older_config_says_stays() -> None:
    said = {"rope_theta": 5e5, "rope_scaling": None, "rope_parameters": {"rope_theta": 1.0, "rope_type": "default"}}
    assert rope.translate(said, {"rope_theta", "rope_scaling"}) == ({}, None)
    other = {"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}
    with pytest.raises(FatalError, match="no spiral RoPE"):
        rope.translate(other, {"rope_theta", "rope_scaling"})
