"""What runs on a node: an actor that holds a model and answers what it is handed, a moment at a time."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from batch.engines.local.core import LocalCore
from batch.engines.local.worker import find_core
from batch.engines.ray import shipping
from batch.errors import BatchError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions, build_options

LANGUAGE = 1  # what driver and actors say to each other; one more with every change
EXCHANGE_SECONDS = 0.1  # how long answers are gathered before they are sent
PARTIALS = 16  # texts so far that are sent along

Handed = tuple[ItemId, str, Mapping[str, Any] | None, int]  # id, text, extra, priority


class Actor:
    """Holds a core. One call at a time: the driver keeps a second one queued, so that no step waits for the network."""

    def __init__(self) -> None:
        self._core: LocalCore | None = None

    def open(self, load: Mapping[str, Any], language: int, shipped: Any = None) -> dict[str, Any]:
        """Load the model. What cannot be is `fatal`, one sentence, and never an exception: it says on which node."""
        said: dict[str, Any] = {"node": socket.gethostname(), "pid": os.getpid(), "node_id": _node_id()}
        if language != LANGUAGE:
            return {**said, "fatal": "it has another version of ai-router; install the same one on every node"}
        try:
            model = dict(load["model"])
            for key in shipping.PLACES:
                if shipped is not None and key in shipped:
                    model[key] = str(shipping.unpack(shipped[key]))
                elif (path := model.get(key)) and not os.path.exists(path):
                    hint = "put it on a path that every node has, or send it along with --ship-model"
                    return {**said, "fatal": f"the model's path {path} is not there; {hint}"}
            sampling = build_options(SamplingOptions, load["sampling"])
            self._core = find_core(load["engine"])(model, sampling, load["max_batch"])
        except BatchError as error:
            return {**said, "fatal": str(error)}
        except Exception as error:
            return {**said, "fatal": f"the {load['engine']} engine cannot start: {type(error).__name__}: {error}"}
        return {**said, "room": self._core.room, "about": dict(self._core.about)}

    def exchange(
        self, handed: Sequence[Handed], cancelled: Sequence[ItemId] = ()
    ) -> tuple[list[BatchResponse[Answer]], dict[ItemId, str]]:
        """Take items in; after a moment, what is answered by then, and some texts so far."""
        core = self._core
        assert core is not None
        for item_id in cancelled:
            core.cancel(item_id)
        for item_id, text, extra, priority in handed:
            core.submit(BatchItem(item_id, Request(text, extra), priority))
        done: list[BatchResponse[Answer]] = []
        until = time.monotonic() + EXCHANGE_SECONDS
        while core.busy and time.monotonic() < until:
            done += core.step()
        partials = dict(list(core.partial_texts().items())[:PARTIALS]) if core.busy else {}
        return done, partials


def _node_id() -> str:
    ray = importlib.import_module("ray")
    return str(ray.get_runtime_context().get_node_id())
