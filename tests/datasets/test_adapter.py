"""Whether an adapter fits, said before anything is loaded."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from ai_router.models import DEMO_PATH
from batch.datasets.adapter import AdapterError, check_adapter

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "japanese_gec"
pytestmark = pytest.mark.skipif(not (DEMO_PATH / "model.safetensors").is_file(), reason="the model is not there")


def adapter(folder: Path, **shapes: tuple[int, int]) -> Path:
    """A folder with tensors of these shapes; their names have dots for double underscores."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    header, at = {}, 0
    for name, (rows, columns) in shapes.items():
        size = 2 * rows * columns
        header[name.replace("__", ".")] = {"dtype": "F16", "shape": [rows, columns], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "adapters.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return folder


def test_the_shipped_one_fits_and_is_small() -> None:
    assert check_adapter(EXAMPLE / "adapter", DEMO_PATH) == "LoRA rank 8 on 42 matrices"
    assert sum(file.stat().st_size for file in (EXAMPLE / "adapter").iterdir()) < 500_000


def test_another_shape_names_tensor_and_shapes(tmp_path: Path) -> None:
    made = adapter(
        tmp_path / "a",
        model__layers__0__self_attn__q_proj__lora_a=(256, 4),
        model__layers__0__self_attn__q_proj__lora_b=(4, 512),
    )
    with pytest.raises(AdapterError) as caught:
        check_adapter(made, DEMO_PATH)
    text = str(caught.value)
    assert "tensor model.layers.0.self_attn.q_proj.lora_b has the shape [4, 512]" in text
    assert "model.layers.0.self_attn.q_proj is [256, 256] (out, in)" in text


def test_another_input_size(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", model__layers__0__mlp__down_proj__lora_a=(256, 4))
    with pytest.raises(AdapterError, match=r"lora_a has the shape \[256, 4\].*is \[256, 768\]"):
        check_adapter(made, DEMO_PATH)


def test_a_layer_that_the_model_lacks(tmp_path: Path) -> None:
    made = adapter(tmp_path / "a", model__layers__27__self_attn__q_proj__lora_a=(256, 4))
    with pytest.raises(AdapterError, match=r"model\.layers\.27\.self_attn\.q_proj, which the model does not have"):
        check_adapter(made, DEMO_PATH)


def test_pefts_names_and_order(tmp_path: Path) -> None:
    name = "base_model__model__model__layers__0__mlp__down_proj__"
    good = adapter(tmp_path / "good", **{f"{name}lora_A__weight": (4, 768), f"{name}lora_B__weight": (256, 4)})
    assert check_adapter(good, DEMO_PATH) == "LoRA rank 4 on 1 matrices"
    bad = adapter(tmp_path / "bad", **{f"{name}lora_A__weight": (4, 256)})
    with pytest.raises(AdapterError, match=r"lora_A\.weight has the shape \[4, 256\]"):
        check_adapter(bad, DEMO_PATH)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter folder"):
        check_adapter(tmp_path / "none", DEMO_PATH)
    (tmp_path / "a").mkdir()
    with pytest.raises(AdapterError, match=r"no adapter_config\.json"):
        check_adapter(tmp_path / "a", DEMO_PATH)
    shutil.copy(EXAMPLE / "adapter" / "adapter_config.json", tmp_path / "a")
    with pytest.raises(AdapterError, match="no weights"):
        check_adapter(tmp_path / "a", DEMO_PATH)
    (tmp_path / "a" / "adapters.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(AdapterError, match="no safetensors file"):
        check_adapter(tmp_path / "a", DEMO_PATH)


def test_features_are_judged_before_anything_is_loaded(tmp_path: Path) -> None:
    name = "model__layers__0__self_attn__q_proj__"
    made = adapter(tmp_path / "a", **{f"{name}lora_A__weight": (4, 256), f"{name}lora_B__weight": (256, 4)})
    (made / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "alora_invocation_tokens": [5]}))
    with pytest.raises(AdapterError, match="activated LoRA"):
        check_adapter(made, DEMO_PATH)
    other = adapter(tmp_path / "b", **{f"{name}hada_w1_a": (4, 256)})
    with pytest.raises(AdapterError, match="tensors of LoHa"):
        check_adapter(other, DEMO_PATH)


def test_matrices_that_lie_the_other_way_and_heads_that_are_in_no_file(tmp_path: Path) -> None:
    model = adapter(tmp_path / "model", h__0__attn__c_attn__weight=(16, 48), wte__weight=(90, 16))
    (model / "adapters.safetensors").rename(model / "model.safetensors")
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    sound = {"lora_A__weight": (2, 16), "lora_B__weight": (48, 2)}
    made = adapter(tmp_path / "a", **{f"transformer__h__0__attn__c_attn__{k}": shape for k, shape in sound.items()})
    assert check_adapter(made, model) == "LoRA rank 2 on 1 matrices"
    head = adapter(tmp_path / "b", lm_head__lora_A__weight=(2, 16), lm_head__lora_B__weight=(90, 2))
    assert check_adapter(head, model) == "LoRA rank 2 on 1 matrices"
