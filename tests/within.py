"""Local engines without a process of their own, for tests that are not about it: its start costs seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batch.engines.local.core import ThreadedEngine
from batch.engines.local.worker import find_core
from batch.options import SamplingOptions


class WithinEngine(ThreadedEngine):
    """Made as a `HostedEngine` is, and told what it would be told through the pipe."""

    def __init__(
        self,
        engine: str,
        spec: Mapping[str, Any],
        sampling: SamplingOptions | None = None,
        max_batch: int | None = None,
        *,
        timing: bool = False,
        **of_the_process: Any,
    ) -> None:
        told = json.loads(json.dumps(dict(spec), default=str))
        super().__init__(
            engine, lambda: find_core(engine)(told, sampling or SamplingOptions(), max_batch), timing=timing
        )
