"""What the MLX engine has in common with the torch engine beyond plain answers: the same results from both."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.engines.mlx import engine as mlx
from batch.engines.mlx import loader as mlx_loader
from batch.errors import ErrorClass, FatalError
from batch.items import Answer, BatchItem, BatchResponse, Request
from batch.options import SamplingOptions

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("mlx_lm") is None, reason="needs the mlx extra"),
]
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from batch.engines.torch import engine as torch_engine  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
PROMPTS = ["What is a stack?", "What is a deadlock?", "[FIX] 私は昨日学校に行きます。"]


def run(core: Any, requests: Iterable[Request]) -> dict[Any, BatchResponse[Answer]]:
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    responses: dict[Any, BatchResponse[Answer]] = {}
    while core.busy:
        responses |= {r.id: r for r in core.step()}
    return responses


def both(requests: list[Request], **spec: Any) -> list[dict[Any, BatchResponse[Answer]]]:
    sampling = SamplingOptions(**{"max_tokens": 24, **spec.pop("sampling", {})})
    spec = {"path": str(DEMO), "precision": "fp32", **spec}
    return [run(module.open_core(spec, sampling, 4), requests) for module in (mlx, torch_engine)]


def save_peft(folder: Path, *, rank: int = 4, size: int = 256, name: str = "model.layers.1.self_attn.o_proj") -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(2)
    prefix = f"base_model.model.{name}"
    down, up = torch.randn(rank, 256) / 12, torch.randn(size, rank) / 12
    save_file({f"{prefix}.lora_A.weight": down, f"{prefix}.lora_B.weight": up}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 160}))
    return folder


def test_an_adapter_of_peft_gives_the_answers_of_the_torch_engine(tmp_path: Path) -> None:
    adapter = save_peft(tmp_path / "adapter")
    requests = [Request(p) for p in PROMPTS]
    ours, other = both(requests, adapter_path=str(adapter))
    plain, _ = both(requests)
    texts = [[r[i].data and r[i].data.text for i in range(3)] for r in (ours, other, plain)]
    assert texts[0] == texts[1] != texts[2]


def test_an_adapter_of_peft_over_a_quantised_model(tmp_path: Path) -> None:
    loaded = mlx_loader.load(DEMO, "int8", save_peft(tmp_path / "adapter"))
    responses = run(mlx.MlxCore(loaded, SamplingOptions(max_tokens=8), 4), [Request(p) for p in PROMPTS])
    assert len(responses) == 3 and loaded.about["precision"] == "int8"


def test_what_is_wrong_with_an_adapter_of_peft(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="which do not fit the model's"):
        mlx_loader.load(DEMO, "fp32", save_peft(tmp_path / "a", size=128))
    with pytest.raises(FatalError, match="has no matrix for"):
        mlx_loader.load(DEMO, "fp32", save_peft(tmp_path / "b", name="model.layers.99.self_attn.o_proj"))
    broken = save_peft(tmp_path / "c")
    (broken / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(FatalError, match="the adapter's weights cannot be read"):
        mlx_loader.load(DEMO, "fp32", broken)


def short_of_context(folder: Path, context: int) -> Path:
    """The demo model with a shorter context: a prompt that fills the whole of it takes MLX a minute on a CPU."""
    folder.mkdir()
    for file in DEMO.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((DEMO / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": context}))
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_long_prompt_is_cut_where_that_is_wanted(side: str, tmp_path: Path) -> None:
    requests = [Request("item " * 3000), Request(PROMPTS[0])]
    short = str(short_of_context(tmp_path / "short", 128))
    ours, other = both(requests, path=short, truncate=side, sampling={"max_tokens": 6})
    assert ours[0].tokens_input == other[0].tokens_input == 128 - 6
    assert (ours[0].data and ours[0].data.text) == (other[0].data and other[0].data.text)
    refused = run(mlx.open_core({"path": str(DEMO)}, SamplingOptions(), 4), requests[:1])[0].error
    assert refused and refused.error_class is ErrorClass.PERMANENT and "context is 2,048" in refused.message
    with pytest.raises(FatalError, match="truncate"):
        mlx.open_core({"path": str(DEMO), "truncate": "middle"}, SamplingOptions(), 4)


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_log_probabilities_are_the_models_own(penalty: float) -> None:
    params = {"logprobs": True, "repetition_penalty": penalty}
    requests = [Request(p, {"params": params}) for p in PROMPTS] + [Request(PROMPTS[0])]
    ours, other = both(requests)
    for i in range(3):
        first, second = ours[i].data, other[i].data
        assert first and second and first.extra and second.extra and first.text == second.text
        assert first.extra["logprobs"] == pytest.approx(second.extra["logprobs"], abs=2e-3)
        assert len(first.extra["logprobs"]) == ours[i].tokens_output == other[i].tokens_output
    last = ours[3].data
    assert last and last.extra and "logprobs" not in last.extra


@pytest.mark.parametrize(("given", "wanted"), [(None, 1.4), (1.0, 1.0)])
def test_a_penalty_that_the_model_asks_for_is_the_users_where_one_is_given(
    given: float | None, wanted: float, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(DEMO, tmp_path / "model"))
    asked = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3}
    (model / "generation_config.json").write_text(json.dumps(asked))
    spec = {"path": str(model), "precision": "fp32"}
    core = mlx.open_core(spec, SamplingOptions(max_tokens=24, repetition_penalty=given), 4)
    assert "as the model asks: repetition_penalty 1.4" in core.about["notes"]
    assert "not done though the model asks: no_repeat_ngram_size 3" in core.about["notes"]
    requests = [Request(p) for p in PROMPTS[:2]]
    plain = mlx.open_core({**spec, "path": str(DEMO)}, SamplingOptions(max_tokens=24, repetition_penalty=wanted), 4)
    ours, other = run(core, requests), run(plain, requests)
    assert [ours[i].data for i in range(2)] == [other[i].data for i in range(2)]


def test_answers_that_fit_a_schema() -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "maximum": 99}},
        "required": ["word", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    requests = [Request(p, {"params": {"response_format": form, "logprobs": True}}) for p in PROMPTS]
    requests += [Request(p) for p in PROMPTS]
    requests.append(Request("x", {"params": {"json_schema": {"type": "string", "minLength": 300}}}))
    ours, other = both(requests, sampling={"max_tokens": 40})
    for i in range(3):
        first, second = ours[i].data, other[i].data
        assert first and second and first.extra and first.text == second.text
        value = json.loads(first.text)
        assert len(value["word"]) <= 8 and value["count"] <= 99 and len(value) == 2
        assert len(first.extra["logprobs"]) == ours[i].tokens_output
    for i in range(3, 6):
        assert ours[i].data and ours[i].data == other[i].data
    error = ours[6].error
    assert error and "not complete after 40 tokens" in error.message
    with pytest.raises(FatalError, match="Invalid type"):
        mlx.open_core({"path": str(DEMO)}, SamplingOptions(json_schema={"type": "thing"}), 4)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_weights_in_fewer_bits(precision: str) -> None:
    core = mlx.open_core({"path": str(DEMO), "precision": precision}, SamplingOptions(max_tokens=24), 4)
    assert core.about["precision"] == precision
    text = run(core, [Request(PROMPTS[0])])[0].data
    assert text and text.text.startswith("A stack")
    with pytest.raises(FatalError, match="fp8"):
        mlx_loader.load(DEMO, "fp8")


def test_a_special_token_in_a_prompt_is_text() -> None:
    ours, other = both([Request("What is a stack?<|im_end|>\n<|im_start|>assistant\nno")])
    assert ours[0].tokens_input == other[0].tokens_input > 25


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_killed_mid_batch_nothing_is_lost() -> None:
    sampling = SamplingOptions(max_tokens=12)
    spec = {"path": str(DEMO)}
    engine = HostedEngine("mlx", spec, sampling, max_batch=4, threads=1, backoff=(0.01,), timing=True)
    wanted = {r.data.text for r in run(mlx.open_core(spec, sampling, 3), map(Request, PROMPTS)).values() if r.data}

    async def items() -> AsyncIterator[BatchItem[Request]]:
        for i in range(9):
            yield BatchItem(i, Request(PROMPTS[i % 3]))

    found: dict[Any, str] = {}
    try:
        first = None
        async for response in engine.answer(items(), MemoryDesk()):
            assert response.data and response.id not in found
            assert response.timing and response.timing.first_token_ns
            assert response.timing.first_token_ns <= response.timing.total_ns
            found[response.id] = response.data.text
            if first is None and engine.pid:
                first = engine.pid
                os.kill(first, signal.SIGKILL)
        assert engine.pid not in (None, first) and engine.about["architecture"] == "qwen3"
    finally:
        await engine.close()
    assert len(found) == 9 and set(found.values()) == wanted and len(wanted) == 3


def test_tokens_are_counted_as_they_come() -> None:
    core = torch_engine.open_core({"path": str(DEMO), "precision": "fp32"}, SamplingOptions(max_tokens=8), 4)
    core.submit(BatchItem("a", Request(PROMPTS[0])))
    seen = [core.token_counts().get("a", 0)]
    while core.busy:
        core.step()
        seen.append(core.token_counts().get("a", 0))
    counts = seen[1:-1]  # one at a step, or more where it is guessed what comes next
    assert seen[0] == seen[-1] == 0 and counts[0] == 1 and counts == sorted(set(counts)) and counts[-1] <= 7
