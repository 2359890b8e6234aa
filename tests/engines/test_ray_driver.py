"""The driver of a cluster, over a double of Ray: what is handed to whom, and what becomes of it when parts fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engines.fake_ray import ActorDiedError, ActorUnavailableError, FakeRay, ObjectStoreFullError, until

from batch.engines.local.core import ThreadedEngine
from batch.engines.ray import actor, cluster, core, losses
from batch.engines.ray.core import RayCore, open_core
from batch.errors import ErrorClass, FatalError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions, options_dict
from tests.engines.test_contract import OfTexts

LOAD = {
    "engine": "engines.ray_core:open_core", "model": {"room": 4, "pause": 0.0},
    "sampling": options_dict(SamplingOptions()), "max_batch": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def nodes(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The nodes that are to go. Nothing waits for a second to pass, and an actor goes one step at a time."""
    leaving: set[str] = set()
    monkeypatch.setattr(actor, "_node_id", lambda: "n1")
    monkeypatch.setattr(actor, "_draining", lambda: leaving)
    monkeypatch.setattr(actor, "LEAVING_SECONDS", -1.0)
    monkeypatch.setattr(core, "EXCHANGE_SECONDS", 0.0)
    monkeypatch.setattr(core, "MOST_EXCHANGE_SECONDS", 0.0)
    monkeypatch.setattr(core, "LOOK_SECONDS", -1.0)
    return leaving


class TestDriver(OfTexts):
    """The contract of every engine, with two actors and with one that is out of reach now and then."""

    def make(self, folder: Path) -> Any:
        def opened() -> RayCore:
            ray = FakeRay(places=2)
            made = RayCore(ray, LOAD, {"CPU": 1.0}, {}, None)
            made.gather()
            ray.handles[0].failing.extend([ActorUnavailableError()] * 2)
            return made

        return ThreadedEngine("ray", opened)


class Driven:
    """A driver, and all that it answered."""

    def __init__(self, ray: FakeRay, **resources: Any) -> None:
        self.ray = ray
        self.core = RayCore(ray, LOAD, {"CPU": 1.0}, resources, None)
        self.core.gather()
        self.got: list[Any] = []

    def submit(self, *texts: str) -> None:
        for text in texts:
            self.core.submit(BatchItem(len(self.got) + self.waiting, Request(text)))

    @property
    def waiting(self) -> int:
        return len(self.core._queue) + sum(len(member.held) for member in self.core._members)

    def step(self) -> None:
        self.got += self.core.step()

    def finish(self) -> list[str | None]:
        until(self.step, lambda: not self.core.busy)
        assert sorted(r.id for r in self.got) == list(range(len(self.got))), "lost or doubled"
        return [r.data.text if r.data else None for r in sorted(self.got, key=lambda r: r.id)]

    @property
    def died(self) -> dict[str, int]:
        self.step()
        return dict(self.core.about["cluster"]["died"])

    def states(self) -> list[str]:
        return [member.state for member in self.core._members]


def hold(driven: Driven) -> Any:
    """An actor that holds something, as the driver sees it."""
    until(driven.step, lambda: any(member.held for member in driven.core._members))
    return next(member for member in driven.core._members if member.held)


def test_a_node_that_dies_casts_no_suspicion_on_what_ran_there() -> None:
    """Ray first says only that an actor is out of reach, for as long as half a minute."""
    driven = Driven(FakeRay(places=2))
    driven.submit(*(f"slow {n % 3 + 60}" for n in range(12)))
    for _ in range(4):  # more often than would make them suspects
        member = hold(driven)
        had = list(member.held.values())
        member.handle.failing.extend([ActorUnavailableError()] * 6)
        member.handle.failing.extend([ActorDiedError(of_node=True)] * 2)
        until(driven.step, lambda member=member: member.handle.killed)  # type: ignore[misc]
        assert had and not any(held.deaths for held in had)
    assert driven.finish() == [f"SLOW {n % 3 + 60}" for n in range(12)]
    assert driven.died == {losses.NODE: 4} and len(driven.ray.alive) == 2


def test_an_actor_that_was_only_out_of_reach_is_taken_back_and_its_answers_are_not_counted_twice() -> None:
    driven = Driven(FakeRay(places=2))
    driven.submit(*(f"slow {n % 3 + 2}" for n in range(10)))
    member = hold(driven)
    member.handle.failing.append(ActorUnavailableError())
    until(driven.step, lambda: member.state == "unseen")
    assert not member.held and len(driven.core._members) == 3  # another one is on its way
    until(driven.step, lambda: member.state == "ready")
    assert driven.states() == ["ready", "ready"]  # and is not needed
    assert driven.finish() == [f"SLOW {n % 3 + 2}" for n in range(10)]
    assert driven.died == {}


@pytest.mark.parametrize("unseen", [0, 1])
def test_an_item_that_kills_its_actors_is_given_up_and_no_other(unseen: int) -> None:
    """Also where a busy machine tells of each death only after a while."""
    driven = Driven(FakeRay(places=1))
    driven.submit("slow 4", "slow 5", "bad", "slow 4")
    real = driven.ray.get

    def get(reference: int) -> Any:
        handle, name, args = driven.ray.calls[reference]
        if name == "exchange" and any(text == "bad" for _, text, _, _ in args[0]):
            handle.failing.extend([ActorUnavailableError()] * unseen + [ActorDiedError()] * 3)
        return real(reference)

    driven.ray.get = get  # type: ignore[method-assign]
    assert driven.finish() == ["SLOW 4", "SLOW 5", None, "SLOW 4"]
    failure = next(r for r in driven.got if r.error).error
    assert failure.error_class is ErrorClass.EXHAUSTED and "4 actors died while answering" in failure.message


def test_what_dies_again_and_again_without_an_answer_ends_the_run() -> None:
    driven = Driven(FakeRay(places=1))
    driven.submit(*["slow 9"] * 8)
    with pytest.raises(FatalError, match=r"7 actors died in a row without an answer; the last: The actor is dead"):
        for _ in range(100):
            driven.step()
            for handle in driven.ray.alive:
                if handle.actor._core is not None:
                    handle.failing.append(ActorDiedError())


def test_a_node_that_is_to_go_hands_its_items_back(nodes: set[str]) -> None:
    driven = Driven(FakeRay(places=1))
    driven.submit(*(f"slow {n + 20}" for n in range(4)))
    member = hold(driven)
    nodes.add("n1")
    until(driven.step, lambda: member.state == "leaving")
    assert not member.held and len(driven.core._queue) == 4
    until(driven.step, lambda: member.handle.killed)
    nodes.clear()
    assert driven.finish() == [f"SLOW {n + 20}" for n in range(4)]
    assert driven.died == {"drained": 1}


def test_a_full_object_store_is_waited_for_with_smaller_helpings(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(core.notices, "say", said.append)
    driven = Driven(FakeRay(places=1))
    (handle,) = driven.ray.alive
    handle.refusing.extend([ObjectStoreFullError(), ObjectStoreFullError()])
    driven.submit(*(f"slow {n % 3 + 2}" for n in range(4)))
    assert driven.finish() == [f"SLOW {n % 3 + 2}" for n in range(4)]
    assert next(count for count in handle.handed if count) == 1 and driven.ray.alive == [handle]
    assert "the cluster's object store is full; waiting for room" in said and driven.died == {}
    for _ in range(8):  # once there is room, helpings are as large as ever
        driven.submit("slow 2")
        driven.finish()
    driven.submit(*["slow 9"] * 5)
    driven.step()
    assert handle.handed[-1] == 5
    driven.finish()
    monkeypatch.setattr(core, "FULL_SECONDS", -1.0)
    handle.refusing.append(ObjectStoreFullError())
    driven.submit("slow 2")
    with pytest.raises(FatalError, match=r"has had no room .*; start its nodes with a larger --object-store-memory"):
        driven.finish()


def test_nodes_that_come_are_used_and_asked_for_where_the_cluster_adds_them() -> None:
    driven = Driven(FakeRay(places=1))
    assert driven.states() == ["ready"]
    driven.ray.places = 3
    until(driven.step, lambda: driven.states() == ["ready"] * 3)
    driven.ray.places = 2  # one of them is busy with other people's work: no more is asked for
    driven.step()
    assert len(driven.core._members) == 3

    driven = Driven(FakeRay(places=1), actors=2)  # never more than that
    driven.ray.places = 5
    until(driven.step, lambda: driven.states() == ["ready"] * 2)
    driven.step()
    assert len(driven.ray.handles) == 2

    driven = Driven(FakeRay(places=1), autoscale=True)
    driven.submit(*(f"slow {n + 20}" for n in range(30)))
    driven.step()
    assert driven.states() == ["ready", "starting"]  # what the autoscaler goes by
    driven.step()
    assert driven.states() == ["ready", "starting"]  # as many again as there are
    driven.ray.places = 2
    until(driven.step, lambda: driven.states()[:2] == ["ready", "ready"])
    driven.core.cancel(29)
    driven.finish()


def test_more_nodes_are_asked_for_where_whoever_hands_items_on_keeps_none_waiting() -> None:
    """As the process of a run does: it takes no more than the actors hold, of a job that may have millions left."""
    driven = Driven(FakeRay(places=1), autoscale=True)
    driven.submit(*["slow 5"] * 4)
    driven.step()
    assert driven.states() == ["ready"]  # one is enough
    driven.submit("slow 5")
    driven.step()
    assert len(driven.core._queue) == 0 and driven.states() == ["ready", "starting"]
    assert driven.finish() == ["SLOW 5"] * 5


@pytest.mark.parametrize(("actors", "seconds"), [(2, 0.1), (400, 0.4), (5000, 1.0)])
def test_the_more_actors_there_are_the_longer_each_gathers_its_answers(
    actors: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a thousand actors would make ten thousand calls a second, more than one driver hears."""
    monkeypatch.undo()
    monkeypatch.setattr(actor, "_node_id", lambda: "n1")
    monkeypatch.setattr(cluster, "fitting", lambda *args: 1)
    driven = Driven(FakeRay(places=1), actors=actors)
    driven.submit("slow 1000")
    driven.step()
    assert driven.ray.handles[0].gathers == [seconds]


def test_what_a_log_keeps_of_a_cluster_changes_when_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(core.notices, "say", said.append)
    driven = Driven(FakeRay(places=1))
    driven.submit(*["slow 3"] * 40)
    hold(driven).handle.failing.append(ActorDiedError(of_node=True))
    driven.finish()
    lines = list(dict.fromkeys(said))
    assert lines == [
        "starting actors (0/1)",
        "1 node · 1 of 1 actor",
        "1 node · 0 of 1 actor · lost: 1 with its node · starting 1 actor",
        "1 node · 1 of 1 actor · lost: 1 with its node",
    ]


def test_few_items_are_shared_by_all_actors() -> None:
    """As at the end of a job, and where fewer are allowed at once than all actors could hold."""
    driven = Driven(FakeRay(places=3))
    for _ in range(3):
        driven.submit("slow 30", "slow 30")
        driven.step()
    assert [len(member.held) for member in driven.core._members] == [2, 2, 2]
    driven.core._members[0].room = 100  # of another kind than the others
    driven.submit(*["slow 9"] * 30)
    driven.step()
    assert max(len(member.held) for member in driven.core._members[1:]) > 2
    assert len(driven.finish()) == 36


def test_what_an_actor_does_is_told() -> None:
    driven = Driven(FakeRay(places=1))
    driven.submit("slow 30", "slow 31")
    member = hold(driven)
    driven.step()
    (line,) = driven.core.about["cluster"]["actors"]
    assert line["on"] == "slow 30" and line["state"] == "ready" and line["held"] == 2
    said = member.handle.actor.said()
    assert said["state"] == "ready" and said["held"] == 2 and said["model"] == LOAD["engine"]
    driven.finish()
    assert member.handle.actor.said()["done"] == 2


def test_a_model_that_finds_no_room_in_the_object_store_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    ray = FakeRay()
    ray.put_fails = ObjectStoreFullError()
    monkeypatch.setattr(cluster, "connect", lambda *args, **kwargs: ray)
    spec = {**LOAD, "cluster": "h:1", "model": {"path": str(tmp_path)}, "ship": True}
    with pytest.raises(FatalError, match=r"the model \(0.0 GiB\) finds no room in the cluster's object store; put it"):
        open_core(spec, SamplingOptions(), None)
    assert ray.over


def test_a_driver_that_follows_another_waits_for_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def knock(address: str) -> None:
        tries.append(address)
        if len(tries) < 3:
            raise FatalError(f"there is no cluster at {address}: refused")

    monkeypatch.setattr(cluster, "ray_module", lambda: starting(lambda *a, **k: None))
    monkeypatch.setattr(cluster, "_knock", knock)
    monkeypatch.setattr(cluster, "AGAIN_SECONDS", 0.0)
    with pytest.raises(FatalError, match="there is no cluster"):
        cluster.connect("head:6379")  # the first one does not
    cluster.connect("head:6379", patience=60.0)
    assert len(tries) == 3


def starting(init: Any) -> Any:
    """Ray, as far as reaching a cluster goes."""
    return type("Ray", (), {"init": staticmethod(init), "shutdown": staticmethod(lambda: None), "__version__": "2.60"})


@pytest.mark.parametrize("times", [1, cluster.CONNECT_TRIES])
def test_what_a_busy_head_breaks_off_is_tried_again(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [ConnectionAbortedError("Initialization failure from server: NoSuchProcess")] * times

    def init(*args: Any, **kwargs: Any) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(cluster, "ray_module", lambda: starting(init))
    monkeypatch.setattr(cluster, "_knock", lambda address: None)
    monkeypatch.setattr(cluster, "AGAIN_SECONDS", 0.0)
    if times < cluster.CONNECT_TRIES:
        cluster.connect("ray://head:10001")
    else:
        with pytest.raises(FatalError, match="cannot be used: ConnectionAbortedError: Initialization failure"):
            cluster.connect("ray://head:10001")
    assert not errors
