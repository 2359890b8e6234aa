"""Adapters beside PEFT's own forward pass: each kind is right, or refused by the name of its feature."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from batch.engines.adapters import settings as keys
from batch.errors import FatalError

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
torch.set_num_threads(1)

from batch.engines.torch.loader import load  # noqa: E402

IDS = torch.arange(3, 27).view(1, -1)
Q = ["q_proj", "v_proj"]


def base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def trained(folder: Path, out: Path, *, seed: int = 0, **options: Any) -> Path:
    """An adapter as PEFT saves one, every number of it moved as training would."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 12, **options})
    model = peft.get_peft_model(base(folder), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "magnitude" in name:
                parameter += 0.15 * torch.randn_like(parameter) * (parameter.abs().mean() + 0.3)
    model.save_pretrained(out)
    return out


def wanted(folder: Path, adapter: Path) -> Any:
    """The logits of PEFT's own forward, unmerged."""
    torch.manual_seed(9)
    model = peft.PeftModel.from_pretrained(base(folder), adapter).eval()
    with torch.inference_mode():
        return model(IDS).logits


def ours(folder: Path, adapter: Path) -> Any:
    with torch.inference_mode():
        return load(folder, "fp32", "cpu", adapter).model(IDS).logits


def same(folder: Path, adapter: Path) -> None:
    expected = wanted(folder, adapter)
    with torch.inference_mode():
        plain = base(folder)(IDS).logits
    assert (expected - plain).abs().max() > 1e-2  # the adapter does something
    torch.testing.assert_close(ours(folder, adapter), expected, atol=2e-3, rtol=1e-3)


# name -> the model it is for, and what of LoraConfig it is about
SOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": Q}),
    "rslora": ("llama", {"target_modules": Q, "use_rslora": True}),
    "gaussian": ("llama", {"target_modules": Q, "init_lora_weights": "gaussian"}),
    "orthogonal": ("llama", {"target_modules": Q, "init_lora_weights": "orthogonal"}),
    "mica": ("llama", {"target_modules": Q, "init_lora_weights": "mica"}),
    "pissa": ("llama", {"target_modules": Q, "init_lora_weights": "pissa"}),
    "olora": ("llama", {"target_modules": [*Q, "down_proj"], "init_lora_weights": "olora"}),
    "pissa, head": ("llama", {"target_modules": ["q_proj", "lm_head"], "init_lora_weights": "pissa"}),
    "olora, head": ("llama", {"target_modules": ["q_proj", "lm_head"], "init_lora_weights": "olora"}),
    "dora": ("llama", {"target_modules": [*Q, "up_proj"], "use_dora": True}),
    "dora, rslora": ("qwen3", {"target_modules": Q, "use_dora": True, "use_rslora": True}),
    "all-linear": ("qwen3", {"target_modules": "all-linear"}),
    "regex": ("qwen3", {"target_modules": r".*layers\.[01]\..*(q|down)_proj"}),
    "excluded": ("qwen3", {"target_modules": Q, "exclude_modules": ["layers.1.self_attn.q_proj"]}),
    "patterns": (
        "llama",
        {
            "target_modules": Q,
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 3},
            "alpha_pattern": {"v_proj": 5, r"layers.\d.self_attn.v_proj": 40, r"^model.layers.2.*q_proj": 7},
        },
    ),
    "some layers": ("llama", {"target_modules": Q, "layers_to_transform": [0, 2]}),
    "one layer": ("llama", {"target_modules": Q, "layers_to_transform": 1, "layers_pattern": "layers"}),
    "saved head": ("llama", {"target_modules": Q, "modules_to_save": ["lm_head"]}),
    "saved, tied": ("qwen3", {"target_modules": Q, "modules_to_save": ["lm_head"]}),
    "saved embedding, tied": ("qwen3", {"target_modules": Q, "modules_to_save": ["embed_tokens"]}),
    "saved both, tied": ("qwen3", {"target_modules": Q, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "saved norms": ("qwen3", {"target_modules": Q, "modules_to_save": ["input_layernorm", "q_norm"]}),
    "head, tied": ("qwen3", {"target_modules": [*Q, "lm_head"]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding, tied": ("qwen3", {"target_modules": ["embed_tokens"]}),
    "embedding, tied, together": ("qwen3", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    "embedding, dora": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "tokens": ("llama", {"target_modules": Q, "trainable_token_indices": [3, 9, 20]}),
    "tokens, tied": ("qwen3", {"target_modules": Q, "trainable_token_indices": {"embed_tokens": [3, 9, 20]}}),
    "conv": ("gpt2", {"target_modules": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]}),
    "conv, said": ("gpt2", {"target_modules": ["attn.c_proj"], "fan_in_fan_out": True}),
    "conv, dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "conv, pissa": (
        "gpt2",
        {"target_modules": ["c_attn", "c_proj"], "init_lora_weights": "pissa", "fan_in_fan_out": True},
    ),
    "conv, biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "all"}),
    "conv, its biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "lora bias": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "lora_bias": True}),
    "lora bias where none was": ("llama", {"target_modules": ["q_proj", "up_proj", "o_proj"], "lora_bias": True}),
    "backward only": ("llama", {"target_modules": Q, "velora_config": {}}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_adapter_gives_the_logits_of_peft(models: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    kind, options = SOUND[name]
    same(models(kind), trained(models(kind), tmp_path / "adapter", **options))


def test_every_key_of_peft_is_judged() -> None:
    assert {field.name for field in fields(peft.LoraConfig)} <= keys.KEYS.keys()


def test_every_beginning_that_peft_knows_is_judged() -> None:
    named = {"eva", "olora", "pissa", "pissa_niter_4", "corda", "loftq", "orthogonal", "mica", "gaussian", "lora_ga"}
    judged = {*keys.PLAIN_INITS, *keys.RESIDUAL_INITS}
    assert all(name in judged or any(name.startswith(r) for r in keys.REFUSED_INITS) for name in named)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "alora": ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
    "arrow": ({"arrow_config": {"top_k": 2}}, "Arrow routing"),
    "kasa": ({"kasa_config": {"beta": 1}}, "KaSA"),
    "replicated": ({"layer_replication": [[0, 2], [1, 3]]}, "layer replication"),
    "parameters": ({"target_parameters": ["experts.gate_up_proj"]}, "bare parameters"),
    "block-diagonal": ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
    "qalora": ({"use_qalora": True}, "QALoRA"),
    "monteclora": ({"monteclora_config": {"n": 2}}, "MonteCLoRA"),
    "megatron": ({"megatron_config": {"tp": 2}}, "Megatron"),
    "parts": ({"enable_lora": [True, False, True]}, "enable_lora"),
    "fast pissa": ({"init_lora_weights": "pissa_niter_4"}, "fast PiSSA"),
    "corda": ({"init_lora_weights": "corda"}, "CorDA"),
    "loftq": ({"init_lora_weights": "loftq"}, "LoftQ"),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
    "another beginning": ({"init_lora_weights": "magic"}, "magic"),
    "a key of tomorrow": ({"use_tomorrow": {"x": 1}}, "use_tomorrow"),
    "bias": ({"bias": "some"}, "bias"),
    "kind": ({"peft_type": "LOHA"}, "LOHA"),
    "dora that is none": ({"use_dora": True}, "no magnitudes"),
    "rank": ({"r": 8}, "rank 8"),
    "left out": ({"target_modules": ["v_proj"]}, r"q_proj.*leave out \(target_modules\)"),
    "excluded": ({"exclude_modules": ["q_proj"]}, "exclude_modules"),
    "layers": ({"layers_to_transform": [0]}, "layers_to_transform"),
    "saved": ({"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head"),
    "scale": ({"lora_alpha": "much"}, "scale cannot be read"),
}


@pytest.fixture(scope="module")
def plain(models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(models("llama"), tmp_path_factory.mktemp("plain") / "adapter", target_modules=["q_proj"])


def changed(adapter: Path, out: Path, **config: Any) -> Path:
    """A copy of an adapter with other settings."""
    out.mkdir()
    (out / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    said = json.loads((adapter / "adapter_config.json").read_bytes())
    (out / "adapter_config.json").write_text(json.dumps({**said, **config}))
    return out


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(
    models: Callable[[str], Path], plain: Path, tmp_path: Path, name: str
) -> None:
    config, words = REFUSED[name]
    with pytest.raises(FatalError, match=words) as caught:
        ours(models("llama"), changed(plain, tmp_path / "adapter", **config))
    assert "\n" not in str(caught.value)


def test_keys_of_tomorrow_that_are_off_do_no_harm(models: Callable[[str], Path], plain: Path, tmp_path: Path) -> None:
    adapter = changed(plain, tmp_path / "a", use_tomorrow=False, tomorrow_config=None, list_of_tomorrow=[])
    torch.testing.assert_close(ours(models("llama"), adapter), ours(models("llama"), plain))


OTHER_TENSORS = {
    "lora_E": "AdaLoRA",
    "lora_diag": "KaSA",
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "ia3_l": "IA3",
    "vera_lambda_b": "VeRA",
    "oft_R.weight": "OFT",
    "lora_new.weight": "not known here",
}


@pytest.mark.parametrize("part", OTHER_TENSORS)
def test_tensors_of_another_kind_are_refused_by_its_name(
    models: Callable[[str], Path], plain: Path, tmp_path: Path, part: str
) -> None:
    from safetensors.torch import load_file, save_file

    adapter = changed(plain, tmp_path / "a")
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[f"base_model.model.model.layers.0.self_attn.q_proj.{part}"] = torch.ones(4)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(FatalError, match=OTHER_TENSORS[part]):
        ours(models("llama"), adapter)


def test_a_pickle_of_tensors_is_read_and_one_of_code_is_not(
    models: Callable[[str], Path], plain: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    adapter = changed(plain, tmp_path / "a")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    torch.testing.assert_close(ours(models("llama"), adapter), ours(models("llama"), plain))
    torch.save({"a": Path("x")}, adapter / "adapter_model.bin")
    with pytest.raises(FatalError, match="holds more than tensors") as caught:
        ours(models("llama"), adapter)
    assert "weights_only" not in str(caught.value)
    (adapter / "adapter_model.bin").write_bytes(b"nonsense")
    with pytest.raises(FatalError, match="it is damaged"):
        ours(models("llama"), adapter)


def test_another_vocabulary_is_named(models: Callable[[str], Path], plain: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = changed(plain, tmp_path / "a")
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.model.embed_tokens.weight"] = torch.ones(5, 48)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(FatalError, match="a vocabulary of 5 tokens"):
        ours(models("llama"), adapter)
