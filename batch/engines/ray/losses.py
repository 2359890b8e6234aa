"""Why an actor is of no use any more, in a word and in a sentence, and whether what it held had to do with it."""

from __future__ import annotations

from batch.engines.ray.crew import Held
from batch.errors import ErrorClass, Failure
from batch.items import Answer, BatchResponse

CRASHED, NODE, KILLED, FULL = "crashed", "with its node", "killed", "no room for its answers"
UNSEEN, UNSTARTED = "out of reach", "before it was ready"
_FULL = ("ObjectStoreFullError", "OutOfDiskError")  # by name: this imports no Ray
_NODE = ("node died", "node has died", "node is dead", "node was", "nodediederror", "owner")


def why_lost(error: Exception) -> str:
    """The word for an error of a call of an actor. Only one that `CRASHED` may have died of what it was handed.

    `UNSEEN` is not known to be dead: Ray says no more for some seconds after a node is gone, and after a crash on a
    machine that is very busy.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ActorUnavailableError" in names or "RpcError" in names:
        return UNSEEN
    text = str(error).lower()
    if is_full(error):
        return FULL
    if "node" in text and any(word in text for word in _NODE):
        return NODE
    if "ray.kill" in text:
        return KILLED
    return CRASHED


def is_full(error: Exception) -> bool:
    """Whether the cluster's object store, or the disk behind it, has no room."""
    return any(kind.__name__ in _FULL for kind in type(error).__mro__) or any(name in str(error) for name in _FULL)


def text_of(error: Exception) -> str:
    """The last line of what Ray says, which is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def given_up(held: Held, error: Exception) -> BatchResponse[Answer]:
    """The response to an item of which actors die."""
    message = f"{held.deaths} actors died while answering this prompt, the last with nothing else: {text_of(error)}"
    return BatchResponse(held.item.id, None, error=Failure(ErrorClass.EXHAUSTED, message))
