"""A table of embeddings in the model's file: its rows are those of the whole tensor, which is nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf")

from safetensors.torch import save_file  # noqa: E402

from batch.engines.gguf.header import GgufTensor  # noqa: E402
from batch.engines.gguf.types import TENSOR_TYPES  # noqa: E402
from batch.engines.torch import gguf_file, linear, loader, shelf, stored  # noqa: E402
from batch.engines.torch.lean import table  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
IDS = torch.tensor([[3, 0, 8], [8, 1, 5]])
KINDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}


def alike(one: Any, other: Any) -> bool:
    """To the last bit, what is not a number too."""
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1", "Q4_K", "Q6_K", "IQ4_NL"])
def test_rows_of_a_gguf_file_are_those_of_the_whole_tensor(kind: str, tmp_path: Path) -> None:
    _, size, width = TENSOR_TYPES[KINDS[kind]]
    rows, inputs = 9, 512
    count = rows * inputs // size * width
    raw = numpy.random.default_rng(1).integers(0, 256, count, dtype=numpy.uint8)
    file = tmp_path / "numbers"
    file.write_bytes(bytes(7) + raw.tobytes())
    tensor = GgufTensor(table.GGUF_NAME, (rows, inputs), KINDS[kind], 7, count, file)
    with numpy.errstate(all="ignore"):
        whole = torch.from_numpy(numpy.array(gguf_file.numbers(tensor)))
        embedding = table.FileEmbedding(stored.of_gguf(tensor))
        assert (embedding.num_embeddings, embedding.embedding_dim) == (rows, inputs)
        assert alike(embedding(IDS), whole[IDS])
    with pytest.raises(IndexError):
        embedding(torch.tensor([rows]))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rows_of_safetensors_are_those_of_the_whole_tensor(kind: Any, tmp_path: Path) -> None:
    numbers = torch.randn(9, 12).to(kind)
    save_file({"a": torch.zeros(5), table.NAME: numbers, "z": torch.ones(3)}, tmp_path / "m.safetensors")
    save_file({"a": torch.zeros(5)}, tmp_path / "other.safetensors")
    files = [tmp_path / "other.safetensors", tmp_path / "m.safetensors"]
    assert alike(table.of(None, files)(IDS), numbers.float()[IDS])
    with pytest.raises(LookupError):
        table.of(None, files[:1])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what is mapped is told by /proc")
def test_of_the_file_no_more_stays_mapped_than_was_looked_up_lately(tmp_path: Path) -> None:
    def mapped() -> int:
        text = Path("/proc/self/smaps").read_text().partition(f"{tmp_path}/numbers")[2]
        return int(text.partition("Rss:")[2].split()[0])

    rows = 2**14
    (tmp_path / "numbers").write_bytes(bytes(rows * 2048))  # 32 MB
    tensor = GgufTensor(table.GGUF_NAME, (rows, 512), KINDS["F32"], 0, rows * 2048, tmp_path / "numbers")
    embedding = table.FileEmbedding(stored.of_gguf(tensor))
    most = 0
    for first in range(0, rows, 64):
        assert not bool(embedding(torch.arange(first, first + 64)).any())
        most = max(most, mapped())
    assert 0 < most < 12_000  # kB, of 32,768: the system may map large folios around what is read


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_table_is_in_no_memory_beside_the_head(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "folder", lambda: None)  # nothing is kept of it
    if precision == "int8" and not linear.has_int8():
        pytest.skip("no int8 product here")
    model = loader.load(DEMO, precision).model
    table_size = model.config.vocab_size * model.config.hidden_size
    held = [p for p in model.parameters() if p.numel() == table_size]
    packed = not isinstance(model.lm_head, torch.nn.Linear)
    assert len(held) == (0 if packed else 1) and isinstance(model.get_input_embeddings(), table.FileEmbedding)
