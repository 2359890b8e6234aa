"""Local cores for tests, opened in the worker process by `models.yaml`: `engine: cores:open_core`.

A prompt is an order: "fail TEXT" fails, "slow N" takes N steps, "boom" raises, anything else is answered in capitals,
a character or more a step. The folder's config.json may say {"test": {"step_seconds": S, "load_seconds": S, "refuse":
TEXT, "room": N}}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions

LETTERS = 4  # a step


class Core:
    def __init__(self, test: Mapping[str, Any], sampling: SamplingOptions, room: int | None) -> None:
        time.sleep(test.get("load_seconds", 0))
        if "refuse" in test:
            raise FatalError(test["refuse"])
        self.room = room or 8
        self.about = {"device": "none"}
        self._step_seconds = test.get("step_seconds", 0.002)
        self._sampling = sampling
        self._held: dict[ItemId, tuple[str, int]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._held)

    def submit(self, item: BatchItem[Request]) -> None:
        self._held[item.id] = (item.data.text, 0)

    def cancel(self, item_id: ItemId) -> None:
        self._held.pop(item_id, None)

    def step(self) -> list[BatchResponse[Answer]]:
        time.sleep(self._step_seconds)
        done: list[BatchResponse[Answer]] = []
        for item_id, (text, steps) in list(self._held.items()):
            order, _, rest = text.partition(" ")
            if order == "boom":
                raise RuntimeError(rest)
            if order == "fail":
                done.append(BatchResponse(item_id, None, error=Failure(ErrorClass.PERMANENT, rest)))
                del self._held[item_id]
                continue
            steps += 1
            self._held[item_id] = (text, steps)
            enough = int(rest) if order == "slow" else -(-len(text) // LETTERS)
            if steps >= enough:
                answer = text.upper()[: self._sampling.max_tokens]
                done.append(BatchResponse(item_id, Answer(answer), tokens_input=3, tokens_output=steps))
                del self._held[item_id]
        return done

    def partial_texts(self) -> dict[ItemId, str]:
        return {
            item_id: text.upper()[: min(LETTERS * steps, self._sampling.max_tokens)]
            for item_id, (text, steps) in self._held.items()
        }

    def close(self) -> None:
        self._held.clear()


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> Core:
    config = json.loads((Path(spec["path"]) / "config.json").read_text(encoding="utf-8"))
    return Core(config["test"], sampling, max_batch)
