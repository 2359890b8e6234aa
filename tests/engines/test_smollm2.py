"""A real model: the torch engine's answers are those of transformers, over languages, code, long chats and short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch.items import BatchItem, Request
from batch.options import SamplingOptions
from tests.engines import smollm2 as real

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]
pytest.importorskip("torch")
pytest.importorskip("transformers")

TOKENS = real.TOKENS
TIE = 2e-3  # logits closer than this are one number to two orders of summing in fp32


def answered(core: Any, requests: list[Request]) -> list[str]:
    """The texts that a core answers with."""
    for i, request in enumerate(requests):
        core.submit(BatchItem(i, request))
    found: dict[Any, str] = {}
    while core.busy:
        for response in core.step():
            found[response.id] = response.data.text if response.data else f"failed: {response.error}"
    return [found[i] for i in range(len(requests))]


def same(text: str, tokens: list[int], gaps: list[float], tokenizer: Any) -> bool:
    """Whether an answer is the reference's, or parts from it at a step whose two likeliest tokens are tied."""
    ends = tokenizer.eos_token_id
    tokens = tokens[: tokens.index(ends)] if ends in tokens else tokens
    if text == tokenizer.decode(tokens, skip_special_tokens=True).rstrip("\ufffd"):
        return True
    for at in range(len(tokens) + 1):
        if gaps[min(at, len(gaps) - 1)] < TIE:
            return text.startswith(tokenizer.decode(tokens[:at], skip_special_tokens=True).rstrip("\ufffd"))
    return False


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_the_record_is_what_transformers_generates(smollm2: Path, every: int) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2).eval()
    found = real.generated(model, tokenizer, real.prompts()[::every], TOKENS)
    for (tokens, gaps), (wanted, _) in zip(found, real.recorded()[::every], strict=True):
        text = tokenizer.decode(wanted, skip_special_tokens=True).rstrip("\ufffd")  # half a character, as in `same`
        assert same(text, tokens, gaps, tokenizer)


def test_the_answers_of_transformers(smollm2: Path) -> None:
    import transformers

    from batch.engines.torch.engine import open_core

    chats, wanted = real.prompts(), real.recorded()
    assert len(chats) == 125
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
    core = open_core({"path": str(smollm2), "precision": "fp32"}, SamplingOptions(max_tokens=TOKENS), None)
    assert core.about["batching"] == "together"
    texts = answered(core, [Request(chat[-1]["content"], {"messages": chat}) for chat in chats])
    core.close()
    wrong = [
        (chat[-1]["content"][:60], text, tokenizer.decode(tokens))
        for chat, text, (tokens, gaps) in zip(chats, texts, wanted, strict=True)
        if not same(text, tokens, gaps, tokenizer)
    ]
    assert not wrong


def test_mlx_gives_the_logits_and_answers_of_the_torch_engine(smollm2: Path) -> None:
    """With the config as transformers 5 writes it, which has no `rope_theta` where mlx-lm looks."""
    pytest.importorskip("mlx_lm")
    import json

    import mlx.core as mx
    import torch

    from batch.engines.mlx import engine as mlx
    from batch.engines.mlx.loader import load
    from batch.engines.torch import engine, loader

    assert "rope_theta" not in json.loads((smollm2 / "config.json").read_bytes())
    ids = list(range(1000, 1006))
    ours, theirs = load(smollm2, "fp32"), loader.load(smollm2, "fp32", "cpu")
    logits = torch.tensor(ours.model(mx.array([ids])).tolist())
    with torch.inference_mode():
        torch.testing.assert_close(logits, theirs.model(torch.tensor([ids])).logits, atol=5e-3, rtol=5e-3)
    # Bare texts of a few tokens: on a CPU MLX takes up to a second for each.
    requests = [Request(text, {"endpoint": "completions"}) for text in ("The capital of France is", "def add(a, b):")]
    sampling = SamplingOptions(max_tokens=3)
    wanted = answered(engine.TorchCore(theirs, sampling, 8), requests)
    assert all(wanted) and answered(mlx.MlxCore(ours, sampling, 8), requests) == wanted
