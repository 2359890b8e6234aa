"""Reaching a cluster, what its nodes have, and whether what an actor asks for fits one of them."""

from __future__ import annotations

import importlib
import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.engines.local import notices
from batch.engines.local.process import worker_env
from batch.errors import FatalError, MissingExtraError
from batch.options import parse_cluster

CONNECT_SECONDS = 5.0
CONNECT_TRIES = 3  # of what a head breaks off
AGAIN_SECONDS = 2.0  # between two tries to reach one that is awaited
GIB = 2**30
NONE_HERE = "no cluster runs on this machine; start one with: ray start --head"
_TO_NODES = ("PYTHONPATH", "PYTHONUTF8", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_VERBOSITY")


class ElsewhereError(FatalError):
    """What stands there is no cluster for us, and waiting would change nothing."""


@dataclass(frozen=True, slots=True)
class Node:
    """A living machine of the cluster. `resources` are all it has, by Ray's names; memory is in bytes."""

    id: str
    name: str
    address: str
    resources: Mapping[str, float]

    @property
    def text(self) -> str:
        """`head: 8 CPUs, 1 GPU, 31 GiB`."""
        parts = [counted(self.resources.get("CPU", 0), "CPU")]
        if gpus := self.resources.get("GPU"):
            parts.append(counted(gpus, "GPU"))
        parts.append(f"{self.resources.get('memory', 0) / GIB:.1f} GiB")
        return f"{self.name}: {', '.join(parts)}"


def counted(number: float, what: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def ray_module() -> Any:
    """Ray itself; MissingExtraError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError("cluster", "A cluster") from None


def connect(address: str, *, store_bytes: int | None = None, cpus: int | None = None, patience: float = 0.0) -> Any:
    """Ray, connected: `local` starts a cluster of this machine alone, `auto` finds one that runs here, else an address.

    Raises FatalError with one sentence where it cannot be reached for `patience` seconds, or is of another version of
    Python or Ray.
    """
    ray = ray_module()
    until = time.monotonic() + patience
    tries = 0
    while True:
        try:
            return _connect(ray, address, store_bytes, cpus)
        except ElsewhereError:
            raise
        except FatalError as error:
            tries += 1
            # A client's server on a head that is very busy may die before it can be talked to.
            broken_off = isinstance(error.__cause__, ConnectionAbortedError) and tries < CONNECT_TRIES
            if time.monotonic() > until and not broken_off:
                raise
            if not broken_off:
                notices.say(f"the cluster's head is gone; waiting for it for {patience / 60:.0f} minutes at most")
            ray.shutdown()
            time.sleep(AGAIN_SECONDS)


def _connect(ray: Any, address: str, store_bytes: int | None, cpus: int | None) -> Any:
    _knock(address)
    env = worker_env(None)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "error",
        "runtime_env": {"env_vars": {name: env[name] for name in _TO_NODES if name in env}},
    }
    if address == "local":
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": store_bytes}
    try:
        ray.init(address, **options)
    except Exception as error:  # Ray raises whatever its parts do
        raise _why(address, error, str(ray.__version__)) from error
    return ray


def _knock(address: str) -> None:
    """Raise where nobody listens: Ray itself would try for half a minute."""
    try:
        parse_cluster(address)
    except ValueError as error:
        raise ElsewhereError(f"--cluster: {error}") from None
    place = _noted() if address == "auto" else address
    if place in ("", "auto", "local"):
        return
    host, _, port = place.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        if address == "auto":
            raise FatalError(f"{NONE_HERE}; the last one was at {place}") from None
        raise FatalError(f"there is no cluster at {address}: {error.strerror or error}") from None


def _noted() -> str:
    """Where `auto` leads, `HOST:PORT`: what is in the environment, or was started last. "" where Ray does not say.

    FatalError where no cluster runs here.
    """
    try:
        services = importlib.import_module("ray._private.services")
        return parse_cluster(services.get_ray_address_from_environment("auto", None))
    except ConnectionError:
        raise FatalError(NONE_HERE) from None
    except Exception:  # no part of Ray's public interface
        return ""


def _why(address: str, error: Exception, version: str) -> FatalError:
    text = " ".join(str(error).split())
    lowered = text.lower()
    other = "mismatch" in lowered or "incompatible" in lowered
    if other and "version" in lowered and ("python" in lowered or "ray" in lowered):
        here = f"Ray {version} and Python {platform.python_version()}"
        return ElsewhereError(f"the cluster at {address} is of another version than here ({here}): {text[:400]}")
    if isinstance(error, ConnectionError) and address == "auto" and "any running" in lowered:
        return FatalError(NONE_HERE)
    token = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH where it is not in ~/.ray/auth_token"
    if _asks_for_token(error):
        return FatalError(f"the cluster at {address} asks for a token, and has got none or another one; {token}")
    hint = ""
    if isinstance(error, ConnectionError):
        port = (
            ""
            if isinstance(error, ConnectionAbortedError)
            else "; a head is HOST:6379, a client server ray://HOST:10001"
        )
        hint = f"{port}; where it asks for a token, {token}"
    return FatalError(f"the cluster at {address} cannot be used: {type(error).__name__}: {text[:400]}{hint}")


def _asks_for_token(error: BaseException | None) -> bool:
    """Whether that is the reason, or the reason of the reason: Ray says first that it failed to connect."""
    while error is not None:
        if type(error).__name__ == "AuthenticationError" or "InvalidAuthToken" in str(error):
            return True
        error = error.__cause__
    return False


def nodes(ray: Any) -> list[Node]:
    """The nodes that are alive."""
    return [
        Node(
            str(row["NodeID"]),
            str(row.get("NodeManagerHostname") or row.get("NodeName") or row["NodeID"][:8]),
            str(row.get("NodeManagerAddress", "")),
            dict(row.get("Resources", {})),
        )
        for row in ray.nodes()
        if row.get("Alive")
    ]


def demand(resources: Mapping[str, Any], there: Sequence[Node]) -> dict[str, float]:
    """What an actor asks for, by Ray's names. Nothing said: a GPU where there are some, else a whole node's CPUs."""
    asked: dict[str, float] = {}
    names = {"cpus": "CPU", "gpus": "GPU"}
    for name, value in resources.items():
        if name == "memory_gb":
            asked["memory"] = float(int(value * GIB))
        elif name not in ("actors", "autoscale"):
            asked[names.get(name, name)] = float(value)
    gpus = any(node.resources.get("GPU") for node in there)
    if gpus and "GPU" not in asked and "CPU" not in asked:
        asked["GPU"] = 1.0
    if "CPU" not in asked:
        counts = [node.resources["CPU"] for node in there if node.resources.get("CPU")]
        asked["CPU"] = 1.0 if asked.get("GPU") or not counts else min(counts)
    return asked


def fitting(asked: Mapping[str, float], there: Sequence[Node]) -> int:
    """How many actors the nodes hold, as if nothing else ran there."""
    total = 0
    for node in there:
        counts = [int(node.resources.get(name, 0) / value + 1e-9) for name, value in asked.items() if value]
        total += min(counts) if counts else 1
    return total


def check_fits(asked: Mapping[str, float], there: Sequence[Node], model: Path | None) -> None:
    """Raise FatalError, with what there is, where no node could ever hold an actor, or the model's weights."""
    listed = "; ".join(node.text for node in there[:8]) + ("; …" if len(there) > 8 else "")
    if not fitting(asked, there):
        wants = ", ".join(
            f"{value / GIB:g} GiB of memory"
            if name == "memory"
            else counted(value, name)
            if name in ("CPU", "GPU")
            else f"{value:g} {name}"
            for name, value in asked.items()
            if value
        )
        raise FatalError(f"no node has what an actor asks for ({wants}); there is {listed or 'no node'}")
    size = weight_bytes(model) if model is not None else 0
    if not asked.get("GPU") and not any(node.resources.get("memory", size) >= size for node in there):
        raise FatalError(f"the model's weights ({size / GIB:.1f} GiB) fit the memory of no node; there is {listed}")


def weight_bytes(place: Path) -> int:
    """The size of a model's weights, as far as they can be seen from here."""
    try:
        files = [place] if place.is_file() else [p for p in place.iterdir() if p.suffix in (".safetensors", ".gguf")]
        return sum(path.stat().st_size for path in files)
    except OSError:
        return 0
