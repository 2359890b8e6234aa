"""A core without a model, for tests of the process around it. A prompt is an order.

"die": SIGKILL at the first step. "die once PATH": the same, unless PATH exists, which it makes. "raise TEXT".
"print TEXT": stray output on every way to stdout. "slow N": N steps. "fail TEXT": a failed response. Anything else is
answered with itself, a word a step. `spec` {"refuse": TEXT} fails to load, {"load_seconds": N} loads slowly,
{"die_loading": true} dies of it, {"die_with_kernels": true} only where native kernels are not switched off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batch.engines.local.process import KERNELS
from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions


class Fake:
    def __init__(self, spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> None:
        if spec.get("refuse"):
            raise FatalError(spec["refuse"])
        if spec.get("die_loading"):
            print("loading goes wrong", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if spec.get("die_with_kernels") and KERNELS not in os.environ:
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(spec.get("load_seconds", 0))
        self.room = max_batch or 4
        self.about = {
            "device": "none",
            "temperature": sampling.temperature,
            "omp": os.environ["OMP_NUM_THREADS"],
            "cancelled": 0,
            "kernels": os.environ.get(KERNELS, "on"),
        }
        self.step_seconds = spec.get("step_seconds", 0.002)
        self.rows: dict[ItemId, tuple[str, int]] = {}
        self.cancelled: list[ItemId] = []

    @property
    def busy(self) -> bool:
        return bool(self.rows)

    def submit(self, item: BatchItem[Request]) -> None:
        self.rows[item.id] = (item.data.text, 0)

    def cancel(self, item_id: ItemId) -> None:
        self.rows.pop(item_id, None)
        self.cancelled.append(item_id)

    def step(self) -> list[BatchResponse[Answer]]:
        time.sleep(self.step_seconds)
        done = []
        for item_id, (text, steps) in list(self.rows.items()):
            self.rows[item_id] = (text, steps + 1)
            order, _, rest = text.partition(" ")
            self._obey(order, rest)
            words = int(rest) if order == "slow" else len(text.split())
            if order == "fail":
                del self.rows[item_id]
                done.append(BatchResponse(item_id, None, error=Failure(ErrorClass.PERMANENT, rest)))
            elif steps + 1 >= words:
                del self.rows[item_id]
                extra = {"cancelled": len(self.cancelled), "rows": len(self.rows)}
                done.append(BatchResponse(item_id, Answer(text, extra), tokens_input=1, tokens_output=words))
        return done

    def _obey(self, order: str, rest: str) -> None:
        if order == "die":
            marker = Path(rest.removeprefix("once ")) if rest else None
            if marker is None or not marker.exists():
                if marker:
                    marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif order == "raise":
            raise RuntimeError(rest)
        elif order == "print":
            print(rest)
            os.write(1, b"raw bytes\n")
            subprocess.run([sys.executable, "-c", "print('from a grandchild')"], check=True)
            assert sys.stdin.read() == ""

    def partial_texts(self) -> dict[ItemId, str]:
        return {n: " ".join(["word"] * steps) for n, (_, steps) in self.rows.items()}

    def close(self) -> None:
        self.rows.clear()
