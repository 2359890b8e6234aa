"""A mixed set with known answers: questions of computer science, Japanese, departments and general facts.

Most of it comes from the held-out sets of the demo model and the test set of the Japanese adapter; the facts are in
prompts/facts.txt. Which rows are taken and which of them are graded for learning is drawn from a seed.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parent
SEED = 7
LEARNED_FROM = 100  # prompts; three models answer each, so there are three times as many graded rows
SIZES = {"questions": 150, "departments": 120, "japanese": 50, "causative and passive": 90}


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, its right answers, and how one is told: `exact` or `contains`."""

    text: str
    answers: tuple[str, ...]
    kind: str
    match: str

    def right(self, answer: str) -> bool:
        """Whether an answer is right."""
        if self.match == "exact":
            return answer.strip() in self.answers
        return any(re.search(rf"(?<!\w){re.escape(one)}", answer, re.IGNORECASE) for one in self.answers)


def rows() -> list[Row]:
    """The whole set, shuffled from the seed."""
    draw = random.Random(SEED)
    held_out = EXAMPLES / "demo_model" / "held_out"
    gec = list(_chats(EXAMPLES / "japanese_gec" / "data" / "test.jsonl", "causative and passive"))
    pools = {
        "questions": [row for row, _ in _chats(held_out / "questions.jsonl", "questions")],
        "departments": [row for row, _ in _chats(held_out / "departments.jsonl", "departments")],
        "japanese": [row for row, _ in _chats(held_out / "japanese.jsonl", "japanese")],
        "causative and passive": [row for row, kind in gec if kind in ("causative", "passive")],
    }
    made = [row for name, size in SIZES.items() for row in draw.sample(pools[name], size)]
    made += list(_facts())
    draw.shuffle(made)
    return made


def halves() -> tuple[list[Row], list[Row]]:
    """What is graded to learn from, and what the figures are about; no prompt is in both."""
    unique = list({row.text: row for row in rows()}.values())
    return unique[:LEARNED_FROM], unique[LEARNED_FROM:]


def _chats(path: Path, kind: str) -> Iterator[tuple[Row, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        *turns, answer = data["messages"]
        yield Row(turns[-1]["content"], (answer["content"],), kind, "exact"), str(data.get("error_type", ""))


def _facts() -> Iterator[Row]:
    for line in (HERE / "prompts" / "facts.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") and line.strip():
            text, _, answers = line.partition(" = ")
            yield Row(text, tuple(answers.split("|")), "facts", "contains")
