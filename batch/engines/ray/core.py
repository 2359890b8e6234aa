"""The driver: a `LocalCore` whose steps are made by actors on a cluster. Nothing it is handed is lost with one of them.

An item is in the queue or with one living actor; what a dead one held goes back to the queue's front. An answer to an
item that is not held (one that ran twice, or was cancelled) counts for nothing. Durability is the job's store's, as for
any engine: an item is given out again by the next driver unless its answer was committed.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batch.engines.local import notices
from batch.engines.ray import cluster, losses, shipping
from batch.engines.ray.actor import LANGUAGE, NAMESPACE, Actor
from batch.engines.ray.crew import ALONE, CALLS, MOST_HELD, SUSPECT, Member, Queue
from batch.engines.ray.losses import CRASHED, FULL, UNSEEN, UNSTARTED
from batch.errors import FatalError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions, options_dict

WAIT_SECONDS = 0.05  # for an actor to have something to say
EXCHANGE_SECONDS, MOST_EXCHANGE_SECONDS = 0.1, 1.0  # for which an actor gathers answers before it sends them
CALLS_A_SECOND = 1000  # that all actors together answer at most, while they gather for less than the most
LOOK_SECONDS = 1.0  # between two looks at nodes, and two reports
STORE_BYTES = 80_000_000  # of a cluster that is started here: answers seldom go through it
GATHER_SECONDS = 120.0  # for all actors that have a place to load; from then on one is enough to begin
IN_A_ROW = 6  # actors that may die without an answer in between
FULL_SECONDS = 300.0  # for which the object store may have no room
AGAIN_SECONDS = 600.0  # for which a driver that follows another one waits for the cluster's head


class RayCore:
    """Actors on a cluster, as one core. `about` has a line for each of them, and for each node."""

    def __init__(
        self, ray: Any, load: Mapping[str, Any], asked: Mapping[str, float], resources: Mapping[str, Any], shipped: Any
    ) -> None:
        self._ray, self._load, self._asked, self._shipped = ray, load, asked, shipped
        self._most, self._scales = int(resources.get("actors") or 0), bool(resources.get("autoscale"))
        self._name = secrets.token_hex(4)
        self._queue = Queue()
        self._members: list[Member] = []
        self._calls: dict[Any, tuple[Member, bool]] = {}  # reference -> whose, and whether it is the loading
        self._finished: list[BatchResponse[Answer]] = []
        self._deaths: Counter[str] = Counter()
        self._in_a_row = self._duplicates = self._number = 0
        self._notes: list[str] = []
        self._looked_at = 0.0
        self._full_since: float | None = None
        self._full_at = 0.0
        self._gather = EXCHANGE_SECONDS
        self._model: Mapping[str, Any] = {}
        self.about: Mapping[str, Any] = {}
        for _ in range(self._most or max(1, cluster.fitting(asked, cluster.nodes(ray)))):
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
        # Where there are fewer items than all could hold, none is without while another has many.
        hungry = sum(member.state == "ready" and len(member.held) < member.target for member in self._members)
        share = -(-len(self._queue) // (hungry or 1))
        # As many actors as there are, no more of them are heard in a second than one driver can hear.
        self._gather = min(max(EXCHANGE_SECONDS, len(self._members) / CALLS_A_SECOND), MOST_EXCHANGE_SECONDS)
        for member in sorted(self._members, key=lambda member: member.load):
            self._hand(member, share)
        self._look()
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
        placed = max(1, min(len(self._members), cluster.fitting(self._asked, there)))
        until = time.monotonic() + GATHER_SECONDS
        while (ready := sum(member.state == "ready" for member in self._members)) < placed:
            if ready and time.monotonic() > until:  # others have the places, or load for longer
                break
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
                name=f"{self._name}-{self._number + 1}", namespace=NAMESPACE,
            )
            .remote()
        )  # fmt: skip
        self._number += 1
        member = Member(self._number, handle)
        self._members.append(member)
        self._calls[handle.open.remote(self._load, LANGUAGE, self._shipped)] = (member, True)

    def _hand(self, member: Member, share: int) -> None:
        """Keep an actor at work: two calls under way while it holds something."""
        if member.state == "starting" or member.calls >= (CALLS if member.state != "unseen" else 1):
            return
        full = self._full_since is not None and time.monotonic() - self._full_at < LOOK_SECONDS
        taken = self._queue.take(member, share) if member.state == "ready" and not full else []
        if not taken and not member.held and not member.cancelled and member.state != "unseen":
            return
        handed = [(h.item.id, h.item.data.text, h.item.data.extra, h.item.priority) for h in taken]
        cancelled, member.cancelled = member.cancelled, []
        try:
            reference = member.handle.exchange.remote(handed, cancelled, self._gather)
        except Exception as error:
            self._queue.back(taken)
            member.cancelled = cancelled
            if losses.is_full(error):
                self._no_room(member, len(taken), error)
            else:  # the actor is gone already
                self._lost(member, error)
            return
        if taken:
            self._full_since = None
            member.most = min(2 * member.most, MOST_HELD)
        member.held.update((held.item.id, held) for held in taken)
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

    def _took(
        self, member: Member, done: Sequence[BatchResponse[Answer]], partials: Mapping[ItemId, str], leaves: bool
    ) -> None:
        member.calls -= 1
        fresh = [response for response in done if member.held.pop(response.id, None) is not None]
        self._duplicates += len(done) - len(fresh)
        member.partials = dict(partials)
        member.answered(len(fresh))
        if fresh:
            self._in_a_row = 0
        self._finished += fresh
        if member.state == "unseen":
            self._is_back(member)
        if leaves and member.state == "ready":
            self._take_back(member)

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _lost(self, member: Member, error: Exception) -> None:
        """An actor is of no use any more: what it held runs again, and another one is hired."""
        why = losses.why_lost(error)
        if why == UNSEEN and member.state != "starting":
            self._out_of_reach(member)
            return
        if why == UNSEEN:
            why = UNSTARTED
        replaced = member.state == "unseen"
        self._deaths[why] += 1
        if why == CRASHED:
            self._blame(member, error)
        self._queue.back(member.held.values())
        self._dismiss(member)
        self._in_a_row += why in (CRASHED, FULL, UNSTARTED)
        if self._in_a_row > IN_A_ROW:
            text = losses.text_of(error)
            raise FatalError(f"{self._in_a_row} actors died in a row without an answer; the last: {text}")
        if not replaced:
            self._hire()

    def _blame(self, member: Member, error: Exception) -> None:
        """It died while it had these: each is more suspect, and given up once it was that alone, and again."""
        had = [*member.held.values(), *member.blamed]
        for held in had:
            held.deaths += 1
            held.alone += len(had) == 1 and held.deaths > SUSPECT
            if held.alone < ALONE:
                continue
            here = member.held.pop(held.item.id, None) is not None
            if here or self._queue.remove(held.item.id):  # else it is with another actor by now, or answered
                self._finished.append(losses.given_up(held, error))

    def _out_of_reach(self, member: Member) -> None:
        """It may be dead, which Ray finds out in a while: what it held runs elsewhere, and it is asked again."""
        if member.state != "unseen":
            member.blamed = list(member.held.values())
            self._take_back(member)
            self._hire()
        member.state = "unseen"
        self._calls = {reference: call for reference, call in self._calls.items() if call[0] is not member}
        member.calls = 0

    def _is_back(self, member: Member) -> None:
        """It was only out of reach; who was hired for it and has no place yet is not needed."""
        member.state, member.blamed = "ready", []
        spare = next((other for other in reversed(self._members) if other.state == "starting"), None)
        if spare is not None:
            self._dismiss(spare)

    def _take_back(self, member: Member) -> None:
        """What it holds is for others; should it go on all the same, its answers count for nothing."""
        member.state = "leaving"
        member.cancelled += member.held
        self._queue.back(member.held.values())
        member.held.clear()

    def _no_room(self, member: Member, count: int, error: Exception) -> None:
        """The object store is full: a smaller helping, in a while. Raises FatalError where it stays so."""
        now = time.monotonic()
        self._full_at = now
        self._full_since = self._full_since or now
        member.most = max(1, count // 2)
        notices.say("the cluster's object store is full; waiting for room")
        if now - self._full_since > FULL_SECONDS:
            raise FatalError(
                f"the cluster's object store has had no room for {FULL_SECONDS / 60:.0f} minutes, nor the disk behind "
                f"it ({losses.text_of(error)}); start its nodes with a larger --object-store-memory"
            )

    def _dismiss(self, member: Member) -> None:
        member.held.clear()
        self._members.remove(member)
        self._calls = {reference: call for reference, call in self._calls.items() if call[0] is not member}
        self._ray.kill(member.handle)

    def _look(self) -> None:
        """Now and then: which nodes there are, which actors go or may come, and a report."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for member in [m for m in self._members if m.state == "leaving" and not m.calls and not m.cancelled]:
            self._deaths["drained"] += 1
            self._dismiss(member)
            self._hire()
        there = cluster.nodes(self._ray)
        self._grow(there)
        self._report(there)

    def _grow(self, there: Sequence[cluster.Node]) -> None:
        """Hire for nodes that have come, and for one that is not there yet where the cluster adds some by itself."""
        if self._most:  # all that are wanted wait already for a node, which is what the autoscaler acts on
            return
        wanted = cluster.fitting(self._asked, there)
        ready = [member for member in self._members if member.state == "ready"]
        # Whoever hands items on keeps no more waiting here than actors take, so that those are looked at as well.
        more = bool(self._queue) or (bool(ready) and all(member.full for member in ready))
        if self._scales and more and not any(member.state == "starting" for member in self._members):
            wanted = max(wanted, len(self._members) + max(1, len(ready)))
        for _ in range(wanted - sum(member.state != "unseen" for member in self._members)):
            self._hire()

    def _report(self, there: Sequence[cluster.Node]) -> None:
        states = Counter(member.state for member in self._members)
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
        # No rates, which change with every look: whoever keeps a log of this writes down what happens.
        nodes, actors = cluster.counted(len(there), "node"), cluster.counted(len(self._members), "actor")
        parts = [nodes, f"{states['ready']} of {actors}"]
        if states["unseen"]:
            parts.append(f"{states['unseen']} {UNSEEN}")
        if self._deaths:
            parts.append("lost: " + ", ".join(f"{count} {why}" for why, count in self._deaths.items()))
        if not states["ready"] and not cluster.fitting(self._asked, there):
            parts.append("waiting for a node")
        elif not states["ready"] and states["starting"]:
            parts.append(f"starting {cluster.counted(states['starting'], 'actor')}")
        notices.say(" · ".join(parts))


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> RayCore:
    """Connect, check what is asked for against what is there, and load the model on every actor that has a place."""
    if "cluster" not in spec:
        raise FatalError("the ray engine is asked for with --cluster; a model's entry names the engine of its actors")
    notices.say("reaching the cluster…")
    model = dict(spec["model"])
    place, resources = model.get("path"), spec.get("resources") or {}
    store = STORE_BYTES + (3 * cluster.weight_bytes(Path(place)) if spec.get("ship") and place else 0)
    patience = AGAIN_SECONDS if spec.get("again") else 0.0
    ray = cluster.connect(spec["cluster"], store_bytes=store, cpus=spec.get("local_cpus"), patience=patience)
    try:
        there = cluster.nodes(ray)
        asked = cluster.demand(resources, there)
        if not resources.get("autoscale"):
            cluster.check_fits(asked, there, Path(place) if place else None)
        there_too = {key: Path(model[key]) for key in shipping.PLACES if model.get(key)}
        shipped = _put(ray, there_too) if spec.get("ship") else None
        load = {
            "engine": spec["engine"], "model": model, "sampling": options_dict(sampling),
            "max_batch": max_batch,
        }  # fmt: skip
        core = RayCore(ray, load, asked, resources, shipped)
        core.gather()
        return core
    except BaseException:
        ray.shutdown()
        raise


def _put(ray: Any, places: Mapping[str, Path]) -> Any:
    """The model's folders in the object store. Raises FatalError where they find no room."""
    try:
        return {key: shipping.pack(path, ray.put) for key, path in places.items()}
    except Exception as error:
        if not losses.is_full(error):
            raise
        size = sum(map(shipping.size_of, places.values())) / cluster.GIB
        hint = "put it on a path that every node has, or start them with a larger --object-store-memory"
        raise FatalError(f"the model ({size:.1f} GiB) finds no room in the cluster's object store; {hint}") from None
