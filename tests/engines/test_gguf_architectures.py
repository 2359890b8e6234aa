"""GGUF files of every architecture that the torch engine takes, and of every way to split text."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
pytest.importorskip("numpy")

from batch.engines.gguf import known  # noqa: E402
from batch.engines.gguf.splits import BEGINS, SPLITS  # noqa: E402
from batch.errors import FatalError  # noqa: E402
from tests.engines import gguf_own  # noqa: E402
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
    if (lean := weights.open_gguf(header)) is not None:
        found.append(lean.whole())
    with torch.inference_mode():
        wanted = model(ids, use_cache=False).logits
        for ours in found:
            assert torch.allclose(ours(ids, use_cache=False).logits, wanted, rtol=1e-4, atol=1e-4), type(ours)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"attention.sliding_window_pattern": [False, True] * 3}, "its last layer has a window"),
        ({"attention.head_count_kv": [2, 2, 1, 2, 2, 2]}, "its layers of one kind differ in their heads"),
        ({"feed_forward_length": [96, 96, 96, 64, 96, 96]}, "its layers are of sizes that are not known"),
        ({"rope.dimension_count_swa": 8}, "it turns a part of a head's dimensions"),
        ({"attention.shared_kv_layers": 2, "attention.sliding_window_pattern": [True, False]}, "is of 2 layers"),
    ],
)
def test_a_gemma_4_that_is_otherwise_is_left_to_llama_cpp(
    said: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch.engines.torch import gguf_file

    usual = gguf_own.values
    monkeypatch.setattr(gguf_own, "values", lambda arch, config: usual(arch, config) | said)
    file = write(tmp_path / "m.gguf", "gemma4-moe")
    with pytest.raises(FatalError, match=f"{problem}.*engine: gguf"):
        gguf_file.load_model(file, gguf_file.open_header(file), torch.float32, "cpu", int8=False)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gemma4-moe", "gemma4.attention.sliding_window"),
        ("gemma4-moe", "gemma4.attention.layer_norm_rms_epsilon"),
        ("gemma4-e", "gemma4.rope.freq_base_swa"),
        ("gpt-oss", "gpt-oss.attention.layer_norm_rms_epsilon"),
        ("gpt-oss", "gpt-oss.block_count"),
    ],
)
def test_a_file_without_a_key_that_is_needed_is_refused_by_it(name: str, key: str, tmp_path: Path) -> None:
    from batch.engines.torch import gguf_file

    file = write(tmp_path / "m.gguf", name)
    header = gguf_file.open_header(file)
    header = replace(header, values={other: value for other, value in header.values.items() if other != key})
    with pytest.raises(FatalError) as refused:
        gguf_file.load_model(file, header, torch.float32, "cpu", int8=False)
    assert str(refused.value) == f"{file} has no {key}, which its architecture needs"


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


def test_gemma_4_is_read_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    from batch.engines.torch import gguf_file
    from batch.engines.torch.gguf_tokenizer import load_tokenizer
    from tests.engines.test_gguf_torch import llama_cpp_tokens

    pytest.importorskip("xllamacpp")
    model = model_of("gemma4-e")
    file = write(tmp_path / "m.gguf", "gemma4-e", model, split="gemma4")
    header = gguf_file.open_header(file)
    assert not known.unknown(header)
    tokenizer = load_tokenizer(file, header)
    texts = [*TEXTS, " ", "  one", "a\n\n\nb \n c", "<s>after a special token</s> and another"]
    for text, ids in zip(texts, llama_cpp_tokens(file, texts), strict=True):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found == ids, (text, tokenizer.convert_ids_to_tokens(found), tokenizer.convert_ids_to_tokens(ids))
        assert "<s>" in text or tokenizer.decode(found, clean_up_tokenization_spaces=False) == text
    assert tokenizer("a")["input_ids"][0] != 1  # its template writes the token that begins a text
    prompt = [1, *(300 + (i * i * 7) % 290 for i in range(30))]
    wanted = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert llama_cpp_answer(file, prompt, 12) == wanted[0, len(prompt) :].tolist()


def llama_cpp_answer(file: Path, prompt: list[int], tokens: int) -> list[int]:
    """The greedy continuation of these tokens by llama.cpp."""
    from batch.engines.gguf.engine import open_core
    from batch.options import SamplingOptions

    core = open_core({"path": str(file), "context": 512, "slots": 1, "threads": 1}, SamplingOptions(), 1)
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    request = urllib.request.Request(
        f"{core._server.listening_address}/completion",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {core._key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[int] = json.load(answer)["tokens"]
    core.close()
    return found


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
