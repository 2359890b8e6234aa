"""A few of the architectures that the script compares with `generate`, one of each runner and the slowest left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import runner  # noqa: E402
from tests.engines import architectures  # noqa: E402

torch.set_num_threads(1)

DOCUMENTED = architectures.documented(Path(__file__).parents[2] / "docs" / "engines.md")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("qwen3_next", "packed with states"),
        ("mamba", "packed with states"),
        ("jamba", "packed with states"),
        ("lfm2", "packed with states"),
        ("falcon_h1", "packed with states"),
        ("deepseek_v3", "packed"),
        ("gpt_oss", "packed"),
        ("gemma2", "packed"),
        ("llama4_text", "packed"),
        ("bloom", "packed"),
        ("falcon", "packed"),
        ("qwen3_moe", "packed"),
        ("mixtral", "packed"),
        ("megatron-bert", "packed"),
        ("git", "packed"),
        ("minimax", "rows with states"),
        ("deepseek_v32", "rectangle"),
        ("roformer", "one by one"),
    ],
)
def test_answers_are_those_of_generate(name: str, way: str) -> None:
    if name not in architectures.names():
        pytest.skip(f"this transformers has no {name}")
    found = architectures.compare(name)
    assert (found.runner.partition(",")[0], found.said) == (way, "equal")


@pytest.mark.parametrize(
    ("name", "said", "loops"),
    [
        ("falcon", {"alibi": True, "num_attention_heads": 6, "hidden_size": 96}, "torch"),  # slopes of no power of two
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, "native"),
        # Layers that attend to what another one keeps.
        pytest.param("gemma3n_text", {"num_kv_shared_layers": 2}, "native", marks=pytest.mark.slow),
        ("deepseek_v2", {"v_head_dim": 8}, "torch"),
        ("mimo_v2_flash", {"v_head_dim": 8, "swa_v_head_dim": 8}, "native"),  # values smaller than keys
        ("gpt_oss", {"sliding_window": 44}, "native"),  # which ends within what the prompts have in common
        ("gpt_oss", {"sliding_window": 44}, "torch"),
    ],
)
def test_variants_answer_as_generate_in_packed_steps(
    name: str, said: dict[str, Any], loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in architectures.names():
        pytest.skip(f"this transformers has no {name}")
    if loops == "torch":
        monkeypatch.setattr(runner, "kernels", lambda: None)
    made = architectures.make
    monkeypatch.setattr(architectures, "make", lambda name: made(name, **said))
    found = architectures.compare(name)
    assert (found.runner.partition(",")[0], found.said) == ("packed", "equal")


def test_a_config_with_a_size_the_table_does_not_name_is_not_made() -> None:
    assert architectures.compare("no-such-architecture").said.startswith("not made")


def test_the_documentation_has_each_architecture() -> None:
    assert len(DOCUMENTED) >= 120
    assert set(architectures.names()) <= set(DOCUMENTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.names())
def test_each_is_what_the_documentation_says(name: str) -> None:
    assert architectures.shown(architectures.compare(name)) == DOCUMENTED[name]
