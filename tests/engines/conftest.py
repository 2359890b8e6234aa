"""Tiny random models, made once a session: small enough to run in milliseconds, real enough to go wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # busy cores and spinning threads do not go together

SENTENCES = [
    "A stack is last in, first out; a queue is first in, first out.",
    "Binary search halves a sorted list at every step until it finds the item.",
    "The quick brown fox jumps over the lazy dog, again and again.",
    "def search(items, x): return next((i for i, y in enumerate(items) if x == y), None)",
    "日本語の文を直す。 Grüße aus Köln 🙂🙃",
]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tokenizer(folder: Path, *, chat: bool) -> Any:
    """A byte-level BPE of a few hundred tokens, so that one character often spans several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    end = "<|im_end|>" if chat else "<|endoftext|>"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token="<|endoftext|>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return fast


def tiny_config(kind: str, vocabulary: int, end: int) -> Any:
    import transformers as t

    common = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": end, "pad_token_id": 0}
    shape = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 160,
        # Random weights this large make answers differ from prompt to prompt instead of falling into one token.
        "initializer_range": 0.25,
    }
    if kind == "qwen3":
        return t.Qwen3Config(**common, **shape, head_dim=12, tie_word_embeddings=True)
    if kind == "qwen3-wide":  # heads as wide as the native kernel's tiles
        return t.Qwen3Config(**common, **shape, head_dim=32, tie_word_embeddings=True)
    if kind == "llama":
        return t.LlamaConfig(**common, **shape)
    if kind == "mistral":  # every layer sees a short window only
        return t.MistralConfig(**common, **shape, sliding_window=8)
    if kind == "gpt2":  # absolute positions
        return t.GPT2Config(**common, n_embd=48, n_layer=3, n_head=4, n_positions=160, initializer_range=0.25)
    if kind == "bloom":  # no positions at all: a bias by distance
        return t.BloomConfig(**common, hidden_size=48, n_layer=2, n_head=4, initializer_range=0.25)
    if kind == "mamba":  # no keys and values either
        return t.MambaConfig(**common, hidden_size=48, num_hidden_layers=2, state_size=8, initializer_range=0.25)
    raise ValueError(kind)


def save_model(folder: Path, kind: str, *, chat: bool) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(sum(kind.encode()))
    tokenizer = save_tokenizer(folder, chat=chat)
    model = AutoModelForCausalLM.from_config(tiny_config(kind, len(tokenizer), tokenizer.eos_token_id))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`models("qwen3")` is the folder of a tiny model; qwen3 has a chat template, the others have none."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_model(tmp_path_factory.mktemp(kind), kind, chat=kind == "qwen3")
        return made[kind]

    return get


@pytest.fixture(scope="session")
def qwen3(models: Any) -> Path:
    return models("qwen3")


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Opens the runner for GPUs on the CPU, with such steps; the trial beside single rows stays."""

    from batch.engines.torch import runner
    from batch.engines.torch.graphs import PlainSteps
    from batch.engines.torch.static import StaticRunner

    def use(steps: Callable[[], Any] = PlainSteps, **attributes: Any) -> None:
        def opened(model: Any, max_batch: int, *, share: bool = True, cache_dtype: Any = None, **said: Any) -> Any:
            found = StaticRunner(model, max_batch, share=share, steps=steps())
            for name, value in attributes.items():
                setattr(found, name, value)
            assert runner.Trial(model).agrees(found, 1e-3)
            return found

        monkeypatch.setattr(runner, "open_runner", opened)

    return use
