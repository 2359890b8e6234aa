"""A core for actors of a test's cluster.

"die" ends its process, "die once FILE" only if FILE is not there yet, "where" answers the model's path, "slow N" takes
N steps of 20 ms (or of the spec's `pause`), anything else is answered in capitals at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions


class Core:
    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.room = int(spec.get("room", 4))
        self.about = {"device": "none"}
        self._path = str(spec.get("path", ""))
        self._pause = float(spec.get("pause", 0.02))
        self._held: dict[ItemId, tuple[str, int]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._held)

    def submit(self, item: BatchItem[Request]) -> None:
        text = item.data.text
        self._held[item.id] = (text, int(text.split()[1]) if text.startswith("slow ") else 1)

    def cancel(self, item_id: ItemId) -> None:
        self._held.pop(item_id, None)

    def step(self) -> list[BatchResponse[Answer]]:
        if any(text.startswith("slow") for text, _ in self._held.values()):
            time.sleep(self._pause)
        done = []
        for item_id, (text, steps) in list(self._held.items()):
            if text.startswith("die"):
                self._die(text)
            if steps > 1:
                self._held[item_id] = (text, steps - 1)
                continue
            del self._held[item_id]
            done.append(BatchResponse(item_id, Answer(self._path if text == "where" else text.upper())))
        return done

    def _die(self, text: str) -> None:
        if text.startswith("die once "):
            try:
                Path(text.removeprefix("die once ")).touch(exist_ok=False)
            except FileExistsError:
                return
        os._exit(7)

    def partial_texts(self) -> dict[ItemId, str]:
        return dict.fromkeys(self._held, "…")

    def close(self) -> None:
        self._held.clear()


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> Core:
    return Core(spec)
