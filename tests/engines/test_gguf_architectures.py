"""GGUF files of every architecture that the torch engine takes, and of every way to split text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
pytest.importorskip("numpy")

from batch.engines.gguf import known  # noqa: E402
from batch.engines.gguf.splits import BEGINS, SPLITS  # noqa: E402
from tests.engines import smollm2 as real  # noqa: E402
from tests.engines.gguf_files import ARCHITECTURES, model_of, write  # noqa: E402


@pytest.fixture(scope="module")
def llama() -> Any:
    return model_of("llama")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_file_of_a_model_is_the_model(name: str, tmp_path: Path) -> None:
    from batch.engines.torch import gguf_file
    from batch.engines.torch.lean import weights

    model = model_of(name)
    file = write(tmp_path / f"{name}.gguf", name, model)
    header = gguf_file.open_header(file)
    assert not known.unknown(header)
    ids = torch.tensor([[5, 9, 300, 41, 7, 100, 3, 3, 64, 256, 11, 12, 13, 14, 15, 16]])
    found = [gguf_file.load_model(file, header, torch.float32, "cpu", int8=False)]
    if (lean := weights.open_gguf(header, gguf_file.numbers)) is not None:
        found.append(lean.whole())
    with torch.inference_mode():
        wanted = model(ids, use_cache=False).logits
        for ours in found:
            assert torch.allclose(ours(ids, use_cache=False).logits, wanted, rtol=1e-4, atol=1e-4), type(ours)


def test_every_architecture_that_is_taken_is_tried() -> None:
    assert {arch for arch, _, _ in ARCHITECTURES.values()} == set(known.ARCHITECTURES)


TEXTS = [
    *real.LANGUAGES,
    *real.CODE,
    "1234567890 3.14159 v1.2.3 a1b22c333 2024-01-31",
    "  two leading, and trailing   ",
    "don't I'LL we've  spaces   three\n\n\n\ttab\r\n x",
    "a zyzzyva, zyzzyva",
    "👩‍👩‍👧‍👦 🏳️‍🌈 <tool>x</tool>",
    "ELSEif HTTPServer camelCase $5+3=8 a^b ~~ `code`",
]


EACH = {expressions: name for name, expressions in reversed(SPLITS.items())}.values()  # one of each kind


@pytest.mark.parametrize(
    "split", [name if name in EACH else pytest.param(name, marks=pytest.mark.slow) for name in sorted(SPLITS)]
)
def test_text_is_split_as_llama_cpp_splits_it(split: str, llama: Any, tmp_path: Path) -> None:
    from batch.engines.torch.gguf_file import open_header
    from batch.engines.torch.gguf_tokenizer import load_tokenizer
    from tests.engines.test_gguf_torch import llama_cpp_tokens

    pytest.importorskip("xllamacpp")
    file = write(tmp_path / "m.gguf", "llama", llama, split=split)
    tokenizer = load_tokenizer(file, open_header(file))
    for text, ids in zip(TEXTS, llama_cpp_tokens(file, TEXTS), strict=True):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found == ids, (text, tokenizer.convert_ids_to_tokens(found), tokenizer.convert_ids_to_tokens(ids))
        assert tokenizer.decode(found, clean_up_tokenization_spaces=False) == text
    begins = tokenizer("a")["input_ids"][0] == 1
    assert begins == (split in BEGINS)


@pytest.mark.parametrize("space", [True, False])
def test_sentencepiece_puts_a_space_in_front_as_the_file_says(space: bool, llama: Any, tmp_path: Path) -> None:
    from batch.engines.torch.gguf_file import open_header
    from batch.engines.torch.gguf_tokenizer import load_tokenizer
    from tests.engines.test_gguf_torch import llama_cpp_tokens

    pytest.importorskip("xllamacpp")
    file = write(tmp_path / "m.gguf", "llama", llama, space=space)
    tokenizer = load_tokenizer(file, open_header(file))
    texts = [*TEXTS, " ", "  one", "<s>after a special token</s> and another"]
    for text, ids in zip(texts, llama_cpp_tokens(file, texts), strict=True):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found == ids, (text, tokenizer.convert_ids_to_tokens(found), tokenizer.convert_ids_to_tokens(ids))
        assert "<s>" in text or tokenizer.decode(found, clean_up_tokenization_spaces=False) == text
    assert tokenizer("a")["input_ids"][0] == 1
