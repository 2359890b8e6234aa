"""vLLM as an engine: the contract, and what it is told, over a double; the library needs a machine of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import fake_vllm

from batch.engines.local.core import ThreadedEngine
from batch.engines.vllm.engine import open_core
from batch.errors import ErrorClass, FatalError, MissingExtraError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions
from tests.engines.contract import asked
from tests.engines.test_contract import DEMO, OfModels

pytest.importorskip("transformers")
SPEC: dict[str, Any] = {"path": str(DEMO)}


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm)
    monkeypatch.setattr(fake_vllm.LLMEngine, "says", "")
    monkeypatch.setattr(fake_vllm.LLMEngine, "ends", "")
    yield fake_vllm.LLMEngine


class TestVllm(OfModels):
    def load(self) -> Any:
        return ThreadedEngine("vllm", lambda: open_core(SPEC, self.sampling, 3))


def test_what_vllm_is_told_of_the_model() -> None:
    core = open_core({**SPEC, "precision": "fp32", "context": 128, "memory_share": 0.5}, SamplingOptions(), 5)
    args = core._engine.args
    assert (args.dtype, args.max_model_len, args.gpu_memory_utilization, args.max_num_seqs) == ("float32", 128, 0.5, 5)
    assert (args.load_format, args.trust_remote_code, args.distributed_executor_backend) == (
        "safetensors",
        False,
        "uni",
    )
    assert (core.room, core.about["context"], core.about["precision"]) == (5, 128, "float32")
    spread = open_core({**SPEC, "tensor_parallel": 2}, SamplingOptions(), None)
    assert (spread._engine.args.tensor_parallel_size, spread._engine.args.distributed_executor_backend) == (2, "mp")


def test_what_vllm_is_told_of_an_item() -> None:
    core = open_core(SPEC, SamplingOptions(max_tokens=4), None)
    schema = {"type": "object"}
    params = {"temperature": 0.7, "top_k": 5, "top_p": 0, "stop": ["x"], "seed": 7, "nonsense": 1}
    _, made, _ = asked(
        core,
        Request("Hi"),
        Request("Hi", {"params": {**params, "logprobs": True}}),
        Request("Hi", {"params": {"json_schema": schema, "repetition_penalty": 1.5}}),
    )
    plain, sampled, shaped = core._engine.seen
    # The likeliest token, and the penalty that the model's own configuration asks for, but not its top_p.
    assert (plain.temperature, plain.top_k, plain.top_p, plain.repetition_penalty, plain.seed) == (0, -1, 1, 1.1, None)
    assert 1 in plain.stop_token_ids and plain.logprobs is None
    assert (sampled.temperature, sampled.top_k, sampled.stop, sampled.seed) == (0.7, 5, ["x"], 7)
    assert 0 < sampled.top_p < 1e-6
    assert shaped.structured_outputs.json == schema and shaped.repetition_penalty == 1.5
    assert made.data.extra["ignored_params"] == ["nonsense"] and made.data.extra["logprobs"] == [-0.5] * 4
    assert made.data.extra["logprob_tokens"][0].startswith("t") and made.tokens_cached > 0 and made.tokens_output == 4


def test_what_is_no_answer(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = open_core({**SPEC, "context": 64}, SamplingOptions(max_tokens=4), None)
    (long,) = asked(core, Request("word " * 200))
    assert "the prompt is too long" in long.error.message
    shaped = Request("Hi", {"params": {"json_schema": {"type": "object"}}})
    for says, ends, request, sentence, kind in (
        ("  ", "", Request("Hi"), "empty answer", ErrorClass.PERMANENT),
        ('{"a": ', "", shaped, "within its JSON", ErrorClass.PERMANENT),
        ("half", "abort", Request("Hi"), "vLLM ended it: abort", ErrorClass.TRANSIENT),
    ):
        monkeypatch.setattr(vllm, "says", says)
        monkeypatch.setattr(vllm, "ends", ends)
        (failed,) = asked(core, request)
        assert sentence in failed.error.message and failed.error.error_class is kind
    monkeypatch.setattr(vllm, "ends", "")
    monkeypatch.setattr(vllm, "says", '{"a": 1}')
    assert asked(core, shaped)[0].data.text == '{"a": 1}'


def test_a_request_that_vllm_does_not_take_is_a_failure_and_no_end(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = open_core(SPEC, SamplingOptions(max_tokens=4), None)
    for error in (ValueError("no such\ngrammar"), fake_vllm.VLLMValidationError("no such grammar")):
        monkeypatch.setattr(vllm, "refuses", error)
        (failed,) = asked(core, Request("Hi"))
        assert failed.error.message == "vLLM does not take it: no such grammar"
        assert failed.error.error_class is ErrorClass.PERMANENT
    monkeypatch.setattr(vllm, "refuses", RuntimeError("the GPU is gone"))
    with pytest.raises(RuntimeError):
        asked(core, Request("Hi"))


def test_an_item_that_was_taken_back_may_come_again() -> None:
    """As from a node that was to go: vLLM knows its requests by names of their own."""
    core = open_core(SPEC, SamplingOptions(max_tokens=4), None)
    core.submit(BatchItem(1, Request("Hi")))
    core.step()
    assert core.partial_texts()[1] and core.token_counts() == {1: 1}
    core.cancel(1)
    core.cancel(1)
    assert core._engine.aborted == ["0"] and not core.busy
    (again,) = asked(core, Request("Hi"))
    assert again.data is not None and again.tokens_output == 4


def test_what_it_cannot_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for said, sentence in (
        ({"adapter_path": "/a"}, "needs a path and knows"),
        ({"truncate": "up"}, "none of never, left, right"),
        ({"precision": "int4"}, "int4 weights are a checkpoint's own"),
        ({"path": str(tmp_path)}, "vLLM cannot load"),
    ):
        with pytest.raises(FatalError, match=sentence):
            open_core({**SPEC, **said}, SamplingOptions(), None)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"ai-router\[vllm\]"):
        open_core(SPEC, SamplingOptions(), None)
