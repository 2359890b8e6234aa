"""What the engines are compared on: models with random weights, and chats with a common system prompt."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


@dataclass(frozen=True)
class Size:
    """A model's shape and the work it is measured with. Lengths are tokens."""

    shape: dict[str, int]
    requests: int
    answers: tuple[int, int]


SIZES = {
    "tiny": Size(  # only to see that everything runs
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
        16,
        (4, 16),
    ),
    "27m": Size(
        {
            "vocab_size": 16_384,
            "hidden_size": 512,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 64,
        },
        256,
        (16, 256),
    ),
    "0.6b": Size(
        {
            "vocab_size": 151_936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        48,
        (8, 64),
    ),
}
SIZES["0.6b-gpu"] = replace(SIZES["0.6b"], requests=1024, answers=(16, 256))


def make_model(folder: Path, size: Size) -> Path:
    """A Qwen3 of this shape with random weights and no end token, and a tokenizer of made-up words.

    One of Qwen3's mixtures where the shape has experts.
    """
    import torch
    from tokenizers import Tokenizer
    from tokenizers import models as kinds
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    if (folder / "config.json").exists():
        return folder
    vocabulary = {word: i for i, word in enumerate(SPECIAL)}
    vocabulary |= {f"w{i}": i for i in range(len(SPECIAL), size.shape["vocab_size"])}
    tokenizer = Tokenizer(kinds.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[0], additional_special_tokens=SPECIAL)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    kinds_of = (Qwen3MoeConfig, Qwen3MoeForCausalLM) if "num_experts" in size.shape else (Qwen3Config, Qwen3ForCausalLM)
    config = kinds_of[0](
        **size.shape,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    kinds_of[1](config).save_pretrained(folder)
    config_file = folder / "generation_config.json"
    config_file.write_text(json.dumps({"pad_token_id": 0}))
    return folder


@dataclass(frozen=True)
class Chat:
    """One request: the user's text, and how many tokens to answer with."""

    text: str
    answer: int


def make_work(
    size: Size,
    count: int,
    *,
    prefix: int = 195,
    seed: int = 1,
    answers: Any = None,
    texts: tuple[int, int] = (10, 300),
) -> tuple[str, list[Chat]]:
    """The system prompt and the chats; lengths are fixed by the seed."""
    rng = random.Random(seed)
    least, most = answers or size.answers

    def words(number: int) -> str:
        return " ".join(f"w{rng.randrange(len(SPECIAL), size.shape['vocab_size'])}" for _ in range(number))

    system = words(prefix)
    return system, [Chat(words(rng.randint(*texts)), rng.randint(least, most)) for _ in range(count)]


def work_flops(size: Size, system: str, chats: list[Chat], *, shared: bool) -> float:
    """Multiply-adds, times two, of the model's matrices over this work; `shared`: the system prompt only once."""
    s = size.shape
    heads = s["head_dim"] * (2 * s["num_attention_heads"] + 2 * s["num_key_value_heads"])
    layer = s["hidden_size"] * (heads + 3 * s["intermediate_size"])
    system_tokens = len(system.split()) + 2
    prompts = sum(len(c.text.split()) + 3 for c in chats) + system_tokens * (1 if shared else len(chats))
    answers = sum(c.answer for c in chats)
    body = s["num_hidden_layers"] * layer * (prompts + answers - len(chats))
    return 2.0 * (body + s["hidden_size"] * s["vocab_size"] * answers)
