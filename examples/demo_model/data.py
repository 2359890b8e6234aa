"""Training batches of the demo model: the corpora of all skills, tokenised and bucketed by length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import departments
import japanese
import other_topics
import questions
import torch
from build_tokenizer import chat
from tokenizers import Tokenizer

Row = dict[str, Any]
Example = tuple[list[int], int]  # token ids, and how many of them are the prompt


class Batch(NamedTuple):
    """Right-padded token ids, and the label of every supervised position in row order."""

    ids: torch.Tensor
    positions: torch.Tensor  # flat indices into ids whose next token is supervised
    labels: torch.Tensor


def skill_rows(skill: str, seed: int, count: int, invented: float = 0.0) -> list[Row]:
    """Training rows of one skill; "questions" has a share of other topics mixed in."""
    if skill == "questions":
        other = count * 6 // 100
        return questions.rows(seed, count - other) + other_topics.rows(seed, other)
    made = (
        japanese.rows(seed, count, "train") if skill == "japanese" else departments.rows(seed, count, invented=invented)
    )
    rng = random.Random(f"system-{skill}-{seed}")
    for item in made:
        if item["messages"][0]["role"] == "user" and rng.random() < 0.06:
            item["messages"].insert(0, {"role": "system", "content": rng.choice(questions.SYSTEMS)})
    return made


def tokenizer_texts(seed: int, count: int) -> Iterator[str]:
    """The texts the tokenizer is trained on: `count` rows of each skill, prompt and answer."""
    for skill in ("questions", "japanese", "departments"):
        for item in skill_rows(skill, seed, count):
            for message in item["messages"]:
                yield message["content"]


def encode(tokenizer: Tokenizer, rows: list[Row]) -> list[Example]:
    """Token ids and prompt lengths of chat rows."""
    texts = [chat(item["messages"]) for item in rows]
    prompts = tokenizer.encode_batch([head for head, _ in texts], add_special_tokens=False)
    answers = tokenizer.encode_batch([tail for _, tail in texts], add_special_tokens=False)
    return [(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, answers, strict=True)]


def collate(examples: list[Example], pad: int) -> Batch:
    """One right-padded batch; causal attention needs no mask, since padding comes last."""
    width = max(len(ids) for ids, _ in examples) - 1
    rows, positions, labels = [], [], []
    for index, (ids, start) in enumerate(examples):
        rows.append(ids[:-1] + [pad] * (width - len(ids) + 1))
        positions += range(index * width + start - 1, index * width + len(ids) - 1)
        labels += ids[start:]
    return Batch(torch.tensor(rows), torch.tensor(positions), torch.tensor(labels))


class Stream:
    """Endless batches of one skill: fresh rows for every pool, each pool sorted into buckets by length."""

    def __init__(
        self, skill: str, tokenizer: Tokenizer, seed: int, size: int, pool: int = 24_000, invented: float = 0.0
    ) -> None:
        """`size` rows a batch, `pool` rows generated at a time, `invented` the share of invented names."""
        self.skill, self.tokenizer, self.seed, self.size, self.pool = skill, tokenizer, seed, size, pool
        self.invented = invented
        self.pad = tokenizer.token_to_id("<|endoftext|>")

    def __iter__(self) -> Iterator[Batch]:
        """Batches in an order that depends on the seed alone."""
        rng = random.Random(f"stream-{self.skill}-{self.seed}")
        number = 0
        while True:
            rows = skill_rows(self.skill, self.seed * 1000 + number, self.pool, self.invented)
            examples = encode(self.tokenizer, rows)
            number += 1
            rng.shuffle(examples)
            window = self.size * 8
            for begin in range(0, len(examples) - self.size + 1, window):
                part = sorted(examples[begin : begin + window], key=lambda e: len(e[0]))
                groups = [part[i : i + self.size] for i in range(0, len(part) - self.size + 1, self.size)]
                rng.shuffle(groups)
                for group in groups:
                    yield collate(group, self.pad)
