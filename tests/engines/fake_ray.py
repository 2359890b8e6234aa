"""A double of the part of Ray that a driver uses: actors that run here, and that fail as one asks for.

The exceptions have the names and texts of those of Ray 2.60.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from batch.engines.ray.actor import Actor

GIB = 2**30


class RayError(Exception):
    pass


class ActorUnavailableError(RayError):
    def __init__(self) -> None:
        super().__init__(
            "The actor a6de8b76a79560da11211ff101000000 is unavailable: The actor is temporarily unavailable: "
            "RpcError: RPC error: recvmsg:Connection reset by peer rpc_code: 14. The task may or may not have been run."
        )


class ActorDiedError(RayError):
    def __init__(self, of_node: bool = False) -> None:
        why = "The actor died because its node has died. Node Id: 59b55fce" if of_node else (
            "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
        )  # fmt: skip
        super().__init__(f"The actor died unexpectedly before finishing this task.\n\tclass_name: Actor\n{why}")


class ObjectStoreFullError(RayError):
    def __init__(self) -> None:
        super().__init__("The local object store is full of objects that are still in scope and cannot be evicted.")


class Handle:
    """An actor's. What `failing` holds is raised by its calls, one after the other; with `hanging` they never end."""

    def __init__(self, ray: FakeRay, options: dict[str, Any]) -> None:
        self.ray, self.options = ray, options
        self.actor = Actor()
        self.failing: deque[Exception] = deque()
        self.refusing: deque[Exception] = deque()  # raised where the call is made
        self.hanging = False
        self.killed = False
        self.handed: list[int] = []
        self.gathers: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": staticmethod(lambda *args: self._call(name, args))})

    def _call(self, name: str, args: tuple[Any, ...]) -> int:
        if name == "exchange" and self.refusing:
            raise self.refusing.popleft()
        self.ray.number += 1
        if name == "exchange":
            self.handed.append(len(args[0]))
            self.gathers.append(args[2])
        self.ray.calls[self.ray.number] = (self, name, args)
        return self.ray.number


class FakeRay:
    """`ray` itself, as far as a driver goes. `places` is how many actors its nodes hold."""

    def __init__(self, places: int = 2) -> None:
        self.places = places
        self.number = 0
        self.calls: dict[int, tuple[Handle, str, tuple[Any, ...]]] = {}
        self.handles: list[Handle] = []
        self.put_fails: Exception | None = None
        self.over = False

    # -- as ray -------------------------------------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": float(self.places), "memory": 8.0 * GIB}
        return [{"NodeID": "n1", "NodeManagerHostname": "big", "Alive": True, "Resources": resources}]

    def remote(self, kind: type) -> Any:
        def options(**said: Any) -> Any:
            return type("Maker", (), {"remote": staticmethod(lambda: self._made(said))})

        return type("Remote", (), {"options": staticmethod(options)})

    def _made(self, said: dict[str, Any]) -> Handle:
        handle = Handle(self, said)
        self.handles.append(handle)
        return handle

    def wait(self, references: Sequence[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        placed = [handle for handle in self.handles if not handle.killed][: self.places]
        ready = [r for r in references if (h := self.calls[r][0]) in placed and not h.hanging]
        return ready[:num_returns], [r for r in references if r not in ready[:num_returns]]

    def get(self, reference: int) -> Any:
        handle, name, args = self.calls.pop(reference)
        if handle.failing:
            raise handle.failing.popleft()
        return getattr(handle.actor, name)(*args)

    def kill(self, handle: Handle) -> None:
        handle.killed = True

    def put(self, value: Any) -> Any:
        if self.put_fails is not None:
            raise self.put_fails
        return value

    def shutdown(self) -> None:
        self.over = True

    # -- for tests ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.killed]


def until(step: Callable[[], Any], condition: Callable[[], bool], most: int = 2000) -> None:
    """Steps until the condition holds."""
    for _ in range(most):
        if condition():
            return
        step()
    raise AssertionError("it never comes to that")
