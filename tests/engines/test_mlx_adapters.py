"""Adapters over MLX: the logits of PEFT's own forward pass, and those of the torch engine for mlx-lm's format."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("mlx_lm") is None, reason="needs the mlx extra"),
]
torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from batch.engines.mlx.loader import load  # noqa: E402
from tests.engines.test_adapters import IDS, SOUND, trained, wanted  # noqa: E402

NAMES = [name for name, (kind, _) in SOUND.items() if kind != "gpt2"]


def ours(folder: Path, adapter: Path | None = None, precision: str = "fp32") -> Any:
    import mlx.core as mx

    return torch.tensor(load(folder, precision, adapter).model(mx.array(IDS.tolist())).astype(mx.float32).tolist())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_sound_adapter_gives_the_logits_of_peft(models: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    kind, options = SOUND[name]
    adapter = trained(models(kind), tmp_path / "adapter", **options)
    torch.testing.assert_close(ours(models(kind), adapter), wanted(models(kind), adapter), atol=3e-3, rtol=2e-3)
