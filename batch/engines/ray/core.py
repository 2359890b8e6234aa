"""The driver: a `LocalCore` whose steps are made by actors on a cluster. Nothing it is handed is lost with one of them.

An item is in the queue or with one living actor; what a dead one held goes back to the queue's front. An answer to an
item that is not held (one that ran twice, or was cancelled) counts for nothing. Durability is the job's store's, as for
any engine: an item is given out again by the next driver unless its answer was committed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batch.engines.local import notices
from batch.engines.ray import cluster, shipping
from batch.engines.ray.actor import LANGUAGE, Actor
from batch.engines.ray.crew import ALONE, CALLS, SUSPECT, Held, Member, Queue
from batch.errors import ErrorClass, Failure, FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions, options_dict

WAIT_SECONDS = 0.05  # for an actor to have something to say
LOOK_SECONDS = 1.0  # between two looks at nodes, and two reports
STORE_BYTES = 80_000_000  # of a cluster that is started here: answers seldom go through it
IN_A_ROW = 6  # actors that may die without an answer in between


class RayCore:
    """Actors on a cluster, as one core. `about` has a line for each of them, and for each node."""

    def __init__(self, ray: Any, load: Mapping[str, Any], asked: Mapping[str, float], count: int, shipped: Any) -> None:
        self._ray, self._load, self._asked, self._shipped = ray, load, asked, shipped
        self._queue = Queue()
        self._members: list[Member] = []
        self._calls: dict[Any, tuple[Member, bool]] = {}  # reference -> whose, and whether it is the loading
        self._finished: list[BatchResponse[Answer]] = []
        self._deaths: Counter[str] = Counter()
        self._in_a_row = self._duplicates = self._number = 0
        self._notes: list[str] = []
        self._count = count
        self._looked_at = 0.0
        self._model: Mapping[str, Any] = {}
        self.about: Mapping[str, Any] = {}
        for _ in range(count):
            self._hire()

    # -- as a core ----------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """What all actors should hold; those that are still to come counted as the first one."""
        ready = [member for member in self._members if member.state == "ready"]
        known = ready[0].room if ready else 1
        return sum(member.target if member.state == "ready" else known for member in self._members) or 1

    @property
    def busy(self) -> bool:
        """Whether something is unanswered."""
        return bool(self._finished or self._queue or any(member.held for member in self._members))

    def submit(self, item: BatchItem[Request]) -> None:
        """Take an item."""
        self._queue.add(item)

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item, wherever it is."""
        if self._queue.remove(item_id):
            return
        for member in self._members:
            if member.held.pop(item_id, None) is not None:
                member.cancelled.append(item_id)
                member.partials.pop(item_id, None)

    def step(self) -> list[BatchResponse[Answer]]:
        """Hand out, wait a moment, take in. Raises FatalError where no actor can be had any more."""
        self._look()
        for member in list(self._members):
            self._hand(member)
        self._hear(WAIT_SECONDS)
        if not self._members:
            raise FatalError("; ".join(self._notes) or "the cluster has no actor left")
        finished, self._finished = self._finished, []
        return finished

    def partial_texts(self) -> dict[ItemId, str]:
        """The texts so far that actors sent along."""
        return {key: text for member in self._members for key, text in member.partials.items() if key in member.held}

    def close(self) -> None:
        """Let the actors go."""
        self._ray.shutdown()

    # -- actors -------------------------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Wait until every actor that has a place is loaded; FatalError with the first one's reason that cannot be."""
        there = cluster.nodes(self._ray)
        placed = max(1, min(self._count, cluster.fitting(self._asked, there)))
        while (ready := sum(member.state == "ready" for member in self._members)) < placed:
            waiting = f"starting actors ({ready}/{placed})"
            notices.say(waiting if cluster.fitting(self._asked, there) else f"{waiting}, waiting for a node")
            self._hear(1.0, starting=True)
        self._report(there)

    def _hire(self) -> None:
        asked = dict(self._asked)
        memory = asked.pop("memory", None)
        handle = (
            self._ray.remote(Actor)
            .options(
                num_cpus=asked.pop("CPU", 0), num_gpus=asked.pop("GPU", 0), memory=memory and int(memory),
                resources=asked or None, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD",
            )
            .remote()
        )  # fmt: skip
        self._number += 1
        member = Member(self._number, handle)
        self._members.append(member)
        self._calls[handle.open.remote(self._load, LANGUAGE, self._shipped)] = (member, True)

    def _hand(self, member: Member) -> None:
        """Keep an actor at work: two calls under way while it holds something."""
        if member.state == "starting" or member.calls >= CALLS:
            return
        taken = self._queue.take(member) if member.state == "ready" else []
        if not taken and not member.held and not member.cancelled:
            return
        handed = [(h.item.id, h.item.data.text, h.item.data.extra, h.item.priority) for h in taken]
        cancelled, member.cancelled = member.cancelled, []
        member.held.update((held.item.id, held) for held in taken)
        try:
            reference = member.handle.exchange.remote(handed, cancelled)
        except Exception as error:  # the object store is full, or the actor is gone already
            self._lost(member, error)
            return
        member.calls += 1
        self._calls[reference] = (member, False)

    def _hear(self, seconds: float, *, starting: bool = False) -> None:
        if not self._calls:
            return
        references = list(self._calls)
        ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
        if ready and len(references) > 1:
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            member, loading = self._calls.pop(reference, (None, False))
            if member is None:  # it died a moment ago
                continue
            try:
                said = self._ray.get(reference)
            except Exception as error:  # an actor's death, and whatever its core raised
                self._lost(member, error)
                continue
            if loading:
                self._loaded(member, said, starting=starting)
            else:
                self._took(member, *said)

    def _loaded(self, member: Member, said: Mapping[str, Any], *, starting: bool) -> None:
        member.node, member.node_id = str(said["node"]), str(said["node_id"])
        if "fatal" in said:
            text = f"node {member.node}: {said['fatal']}"
            if starting:
                raise FatalError(text)
            self._notes.append(text)
            self._dismiss(member)
            return
        member.room, member.state = int(said["room"]), "ready"
        self._model = self._model or said["about"]

    def _took(self, member: Member, done: Sequence[BatchResponse[Answer]], partials: Mapping[ItemId, str]) -> None:
        member.calls -= 1
        fresh = [response for response in done if member.held.pop(response.id, None) is not None]
        self._duplicates += len(done) - len(fresh)
        member.partials = dict(partials)
        member.answered(len(fresh))
        if fresh:
            self._in_a_row = 0
        self._finished += fresh

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _lost(self, member: Member, error: Exception) -> None:
        """An actor is of no use any more: what it held runs again, and another one is hired."""
        why = _why_dead(error)
        self._deaths[why] += 1
        alone, again = len(member.held) == 1, []
        for held in member.held.values():
            if why == "crashed":
                held.deaths += 1
                held.alone += alone and held.deaths > SUSPECT
            if held.alone >= ALONE:
                self._finished.append(_given_up(held, error))
            else:
                again.append(held)
        self._queue.back(again)
        self._dismiss(member)
        self._in_a_row += why == "crashed"
        if self._in_a_row > IN_A_ROW:
            raise FatalError(f"{self._in_a_row} actors died in a row without an answer; the last: {_text(error)}")
        self._hire()

    def _dismiss(self, member: Member) -> None:
        member.held.clear()
        self._members.remove(member)
        self._calls = {reference: call for reference, call in self._calls.items() if call[0] is not member}
        self._ray.kill(member.handle)

    def _look(self) -> None:
        """Now and then: which nodes there are, which are about to go, and a report."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        leaving = _draining(self._ray)
        for member in self._members:
            if member.state == "ready" and member.node_id in leaving:
                member.state = "leaving"
                member.cancelled += member.held
                self._queue.back(member.held.values())
                member.held.clear()
        for member in [m for m in self._members if m.state == "leaving" and not m.calls and not m.cancelled]:
            self._deaths["drained"] += 1
            self._dismiss(member)
            self._hire()
        self._report(cluster.nodes(self._ray))

    def _report(self, there: Sequence[cluster.Node]) -> None:
        ready = [member for member in self._members if member.state == "ready"]
        self.about = {
            **self._model,
            "cluster": {
                "nodes": [node.text for node in there],
                "actors": [member.said() for member in self._members],
                "died": dict(self._deaths),
                "duplicates": self._duplicates,
            },
            "notes": [*self._model.get("notes", ()), *self._notes],
        }
        parts = [f"{len(there)} node{'s' if len(there) != 1 else ''}", f"{len(ready)} of {len(self._members)} actors"]
        parts.append(f"{sum(member.rate for member in ready):.1f} items/s")
        if self._deaths:
            parts.append("lost: " + ", ".join(f"{count} {why}" for why, count in self._deaths.items()))
        if not ready:
            parts.append("waiting for a node")
        notices.say(" · ".join(parts))


def _why_dead(error: Exception) -> str:
    text = str(error).lower()
    if "node" in text and any(word in text for word in ("node died", "node has died", "node is dead", "node was")):
        return "with its node"
    if "ray.kill" in text:
        return "killed"
    return "crashed"


def _text(error: Exception) -> str:
    """The last line of what Ray says, which is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _given_up(held: Held, error: Exception) -> BatchResponse[Answer]:
    message = f"{held.deaths} actors died while answering this prompt, the last with nothing else: {_text(error)}"
    return BatchResponse(held.item.id, None, error=Failure(ErrorClass.EXHAUSTED, message))


def _draining(ray: Any) -> set[str]:
    """The nodes that have been told to go; none where this Ray cannot say, as through a client."""
    try:
        return set(ray._private.state.state.get_draining_nodes())
    except Exception:  # not part of Ray's public interface: it may be absent, renamed, or not connected
        return set()


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> RayCore:
    """Connect, check what is asked for against what is there, and load the model on every actor that has a place."""
    if "cluster" not in spec:
        raise FatalError("the ray engine is asked for with --cluster; a model's entry names the engine of its actors")
    notices.say("reaching the cluster…")
    model = dict(spec["model"])
    place, resources = model.get("path"), spec.get("resources") or {}
    store = STORE_BYTES + (3 * cluster.weight_bytes(Path(place)) if spec.get("ship") and place else 0)
    ray = cluster.connect(spec["cluster"], store_bytes=store, cpus=spec.get("local_cpus"))
    try:
        there = cluster.nodes(ray)
        asked = cluster.demand(resources, there)
        if not resources.get("autoscale"):
            cluster.check_fits(asked, there, Path(place) if place else None)
        there_too = {key: Path(model[key]) for key in shipping.PLACES if model.get(key)}
        shipped = ray.put({key: shipping.pack(path) for key, path in there_too.items()}) if spec.get("ship") else None
        load = {
            "engine": spec["engine"], "model": model, "sampling": options_dict(sampling),
            "max_batch": max_batch,
        }  # fmt: skip
        count = int(resources.get("actors") or max(1, cluster.fitting(asked, there)))
        core = RayCore(ray, load, asked, count, shipped)
        core.gather()
        return core
    except BaseException:
        ray.shutdown()
        raise
