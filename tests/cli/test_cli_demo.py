"""The command line with the model inside."""

from __future__ import annotations

import importlib.util
import json

import pytest
from program import ROOT, Program

from ai_router.models import DEMO_PATH

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not (DEMO_PATH / "model.safetensors").is_file(), reason="the model is not there"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the local extra"),
]


def test_the_example_is_answered_by_the_model_inside(program: Program) -> None:
    examples = ROOT / "examples" / "batch_prompts.txt"
    words = ["--model", "demo", "--max-tokens", "48", "--output", "-", "--format", "jsonl"]
    process = program.start("run", examples, *words)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["prompt_index"] for answer in answers] == list(range(25))
    assert all(answer["response_text"].strip() and answer["tokens_output"] for answer in answers)
    assert "100.0% (25/25)" in err
