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

LANGUAGE = 3  # what driver and actors say to each other; one more with every change
NAMESPACE = "ai-router"  # in which actors have their names
PARTIALS = 16  # texts so far that are sent along
LEAVING_SECONDS = 2.0  # between two looks at whether its node is to go

Handed = tuple[ItemId, str, Mapping[str, Any] | None, int]  # id, text, extra, priority


class Actor:
    """Holds a core. One call at a time: the driver keeps a second one queued, so that no step waits for the network."""

    def __init__(self) -> None:
        self._core: LocalCore | None = None
        self._model = ""
        self._held: set[ItemId] = set()
        self._done = 0
        self._looked_at, self._leaves = 0.0, False

    def open(self, load: Mapping[str, Any], language: int, shipped: Any = None) -> dict[str, Any]:
        """Load the model. What cannot be is `fatal`, one sentence, and never an exception: it says on which node."""
        said: dict[str, Any] = {"node": socket.gethostname(), "pid": os.getpid(), "node_id": _node_id()}
        if language != LANGUAGE:
            return {**said, "fatal": "it has another version of ai-router; install the same one on every node"}
        try:
            model = dict(load["model"])
            self._model = str(model.get("hub") or model.get("path") or load["engine"])
            if (hub := model.pop("hub", None)) and not shipped:
                model["path"] = str(shipping.from_hub(str(hub)))
            for key in shipping.PLACES:
                if shipped is not None and key in shipped:
                    model[key] = str(shipping.unpack(shipped[key], _ray().get))
                elif (path := model.get(key)) and not os.path.exists(path):
                    hint = "put it on a path that every node has, name it as of the hub (hub: ORG/MODEL), or send it"
                    return {**said, "fatal": f"the model's path {path} is not there; {hint} along with --ship-model"}
            sampling = build_options(SamplingOptions, load["sampling"])
            self._core = find_core(load["engine"])(model, sampling, load["max_batch"])
        except BatchError as error:
            return {**said, "fatal": str(error)}
        except Exception as error:
            return {**said, "fatal": f"the {load['engine']} engine cannot start: {type(error).__name__}: {error}"}
        return {**said, "room": self._core.room, "about": dict(self._core.about)}

    def exchange(
        self, handed: Sequence[Handed], cancelled: Sequence[ItemId], seconds: float
    ) -> tuple[list[BatchResponse[Answer]], dict[ItemId, str], bool]:
        """Take items in; what is answered `seconds` later, some texts so far, and whether its node is to go."""
        core = self._core
        assert core is not None
        for item_id in cancelled:
            core.cancel(item_id)
            self._held.discard(item_id)
        for item_id, text, extra, priority in handed:
            core.submit(BatchItem(item_id, Request(text, extra), priority))
            self._held.add(item_id)
        done: list[BatchResponse[Answer]] = []
        until = time.monotonic() + seconds
        while core.busy:
            done += core.step()
            if time.monotonic() >= until:
                break
        self._held.difference_update(response.id for response in done)
        self._done += len(done)
        partials = dict(list(core.partial_texts().items())[:PARTIALS]) if core.busy else {}
        return done, partials, self._is_to_leave()

    def said(self) -> dict[str, Any]:
        """What it is doing, for whoever asks of the cluster."""
        state = "loading" if self._core is None else "leaving" if self._leaves else "ready"
        return {
            "model": self._model, "state": state, "pid": os.getpid(), "node_id": _node_id(),
            "held": len(self._held), "done": self._done,
        }  # fmt: skip

    def _is_to_leave(self) -> bool:
        """Whether its node was told to go. The node knows it, a driver that is a client of the cluster does not."""
        now = time.monotonic()
        if now - self._looked_at > LEAVING_SECONDS:
            self._looked_at = now
            self._leaves = self._leaves or _node_id() in _draining()
        return self._leaves


def _ray() -> Any:
    return importlib.import_module("ray")


def _node_id() -> str:
    return str(_ray().get_runtime_context().get_node_id())


def _draining() -> set[str]:
    """The nodes that have been told to go; none where this Ray cannot say."""
    try:
        return set(importlib.import_module("ray._private.state").state.get_draining_nodes())
    except Exception:  # not part of Ray's public interface: it may be absent or renamed
        return set()
