"""Prompts are counted before a run as the engine counts them in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai_router import jobs
from ai_router.models import DEMO_PATH, describe_folder, prompt_counter, token_counter
from batch.items import Request
from batch.options import SamplingOptions
from batch.sources import from_prompts

pytest.importorskip("tokenizers")
CHAT = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "学校"},
]
REQUESTS = [
    Request("What is a stack?"),
    Request("word " * 3000),
    Request("学校に行きます 👩‍👩‍👧‍👦\n\n"),
    Request("Why?", extra={"messages": CHAT}),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_as_transformers_makes_them(request_: Request, system: str | None) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(DEMO_PATH)
    turns = [{"role": "system", "content": system}] * bool(system) + request_.messages
    text = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    wanted = theirs(text, add_special_tokens=False)["input_ids"]
    assert prompt_counter(describe_folder(DEMO_PATH, source="built in"))(request_, system) == len(wanted)


def test_a_check_says_the_number_that_a_failure_says() -> None:
    spec = describe_folder(DEMO_PATH, source="built in")
    assert spec.context is not None
    count = prompt_counter(spec)
    frame = (count(Request("word"), None) or 0) - 1
    fits, full = (" ".join(["word"] * (spec.context - frame - less)) for less in (1, 0))
    assert count(Request(full), None) == spec.context
    plan = jobs.JobPlan("demo", sampling=SamplingOptions())
    report = jobs.check(from_prompts([fits, full]), spec, plan)
    assert report.too_long_at == [(2, spec.context)]  # an engine that has its context full has no room for an answer


def test_what_cannot_be_counted_without_the_model_is_not(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    spec = describe_folder(tmp_path, source="found")
    assert token_counter(spec) is None and prompt_counter(spec)(Request("a"), None) is None
    (tmp_path / "tokenizer.json").write_text("{")
    assert token_counter(spec) is None
