"""The demo model: its files, its corpus generators, and a few held-out prompts answered greedily."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "ai_router" / "demo"
SOURCE = ROOT / "examples" / "demo_model"
sys.path.insert(0, str(SOURCE))

import departments  # noqa: E402
import japanese  # noqa: E402
import make_held_out  # noqa: E402
import questions  # noqa: E402


def held_out(name: str) -> list[dict[str, Any]]:
    """The stored held-out rows of one skill."""
    lines = (SOURCE / "held_out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def header() -> dict[str, Any]:
    """The header of the safetensors file."""
    with (MODEL / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found: dict[str, Any] = json.loads(file.read(length))
    found.pop("__metadata__", None)
    return found


def test_file_size_and_parameter_count() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 16 * 1024 * 1024
    tensors = header()
    assert {entry["dtype"] for entry in tensors.values()} == {"F16"}
    count = 0
    for entry in tensors.values():
        size = 1
        for length in entry["shape"]:
            size *= length
        count += size
    assert 4_000_000 <= count <= 8_000_000


def test_config_names_the_architecture() -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert json.loads((MODEL / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == 2


def test_generators_are_deterministic() -> None:
    loaded = questions.load()
    assert len(loaded) >= 300
    assert questions.rows(5, 200, loaded) == questions.rows(5, 200, loaded)
    assert japanese.rows(5, 200, "train") == japanese.rows(5, 200, "train")
    assert japanese.rows(5, 200, "train") != japanese.rows(6, 200, "train")
    assert departments.rows(5, 200) == departments.rows(5, 200)


def test_stored_held_out_sets_are_those_of_the_generators() -> None:
    for name, rows in make_held_out.held_out().items():
        assert held_out(name) == rows


def test_held_out_questions_are_not_trained_on() -> None:
    held = {row["messages"][-2]["content"].lower() for row in held_out("questions")}
    trained = {row["messages"][-2]["content"].lower() for row in questions.rows(0, 8000)}
    assert not held & trained
    assert len(held) >= 300


def test_held_out_japanese_sentences_are_not_trained_on() -> None:
    held = {row["messages"][-1]["content"] for row in held_out("japanese")}
    trained = {row["messages"][-1]["content"] for row in japanese.rows(0, 8000, "train")}
    valid = {row["messages"][-1]["content"] for row in japanese.rows(0, 2000, "valid")}
    assert not held & trained
    assert not held & valid
    assert not valid & trained


def test_held_out_names_are_not_trained_on() -> None:
    import department_words as words

    assert not set(words.HELD_FIRST) & set(words.FIRST)
    assert not set(words.HELD_LAST) & set(words.LAST)
    assert not set(words.HELD_MENTIONS) & set(words.MENTIONS)
    assert not set(words.HELD_OTHERS) & set(words.OTHERS)


def test_japanese_rows_name_their_error_and_can_be_filtered() -> None:
    rows = japanese.rows(1, 50, "train", error_type="counter")
    assert {row["error_type"] for row in rows} == {"counter"}
    unchanged = japanese.rows(1, 5, "train", error_type="none")
    for row in unchanged:
        prompt, answer = (message["content"] for message in row["messages"][-2:])  # type: ignore[index]
        assert prompt.endswith(answer)


def test_chat_template() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "ドアを開けます。"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nドアを開けます。<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.eos_token_id == 2 and tokenizer.pad_token_id == 0


def test_a_handful_of_held_out_prompts() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import evaluate

    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    least = {"questions": 8, "japanese": 7, "departments": 9}
    for name, floor in least.items():
        rows = held_out(name)[::47][:12]
        answers = evaluate.generate(model, tokenizer, rows)
        right = sum(answer == row["messages"][-1]["content"] for row, answer in zip(rows, answers, strict=True))
        assert right >= floor, name
    rows = evaluate.example_rows()
    answers = evaluate.generate(model, tokenizer, rows)
    assert sum(a == r["messages"][-1]["content"] for r, a in zip(rows, answers, strict=True)) >= 22


def test_mlx_gives_the_same_answer() -> None:
    mlx_lm = pytest.importorskip("mlx_lm")
    import evaluate

    model, tokenizer = mlx_lm.load(str(MODEL))[:2]
    row = evaluate.example_rows()[0]
    prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, enable_thinking=False)
    text = mlx_lm.generate(model, tokenizer, prompt=prompt, max_tokens=96)
    assert text == row["messages"][-1]["content"]
