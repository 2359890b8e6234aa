"""The parts of the cluster engine that need no cluster: who is handed what, what fits, what is said otherwise."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from engines.ray_cluster import free_port
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.ray import actor, cluster, shipping
from batch.engines.ray.cluster import GIB, Node
from batch.engines.ray.crew import SUSPECT, Member, Queue
from batch.engines.ray.row import check_resources
from batch.errors import FatalError
from batch.items import BatchItem, Request


def node(**resources: float) -> Node:
    return Node("1", "big", "10.0.0.1", resources)


CPU = node(CPU=8.0, memory=16.0 * GIB)
GPU = node(CPU=8.0, GPU=4.0, memory=64.0 * GIB)


@pytest.mark.parametrize(
    ("said", "there", "asked", "actors"),
    [
        ({}, [CPU, CPU], {"CPU": 8.0}, 2),  # an actor a node
        ({}, [CPU, GPU], {"GPU": 1.0, "CPU": 1.0}, 4),  # an actor a GPU
        ({"cpus": 2, "memory_gb": 5}, [CPU], {"CPU": 2.0, "memory": 5.0 * GIB}, 3),
        ({"gpus": 0.5}, [GPU], {"GPU": 0.5, "CPU": 1.0}, 8),
        ({"cpus": 1, "tpu": 1}, [CPU], {"CPU": 1.0, "tpu": 1.0}, 0),
    ],
)
def test_what_an_actor_asks_for(said: dict[str, Any], there: list[Node], asked: dict[str, float], actors: int) -> None:
    assert cluster.demand(said, there) == asked
    assert cluster.fitting(asked, there) == actors


def test_what_fits_no_node_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"\(1 CPU, 8 GPUs\); there is big: 8 CPUs, 16.0 GiB; big: 8 CPUs, 4 GPUs"):
        cluster.check_fits({"CPU": 1, "GPU": 8}, [CPU, GPU], None)
    with pytest.raises(FatalError, match=r"32 GiB of memory"):
        cluster.check_fits({"CPU": 1, "memory": 32 * GIB}, [CPU], None)
    weights = tmp_path / "model.safetensors"
    weights.touch()
    os.truncate(weights, 17 * GIB)  # sparse
    with pytest.raises(FatalError, match=r"weights \(17.0 GiB\) fit the memory of no node"):
        cluster.check_fits({"CPU": 1}, [CPU], tmp_path)
    cluster.check_fits({"CPU": 1}, [CPU, GPU], tmp_path)


@pytest.mark.parametrize("address", ["here", "ray://", "ray://head", "head:0", "head:99999", ":10001", ""])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(FatalError, match="is no cluster; say auto"):
        cluster._knock(address)


def test_where_nobody_listens() -> None:
    address = f"ray://127.0.0.1:{free_port()}"
    with pytest.raises(FatalError, match=f"there is no cluster at {address}: "):
        cluster._knock(address)


def test_where_nobody_listens_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps the address of the cluster that was started last, also when its head has died since."""
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(cluster, "_noted", lambda: address)
    with pytest.raises(FatalError, match=f"^{cluster.NONE_HERE}; the last one was at {address}$"):
        cluster._knock("auto")


def test_what_ray_takes_auto_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster._noted() == "head:6379"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: None)
    with pytest.raises(FatalError, match=f"^{cluster.NONE_HERE}$"):
        cluster._noted()


def test_a_model_that_a_node_lacks_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "_node_id", lambda: "n1")
    load = {"engine": "engines.ray_core:open_core", "model": {"path": str(tmp_path / "gone")}}
    said = actor.Actor().open(load, actor.LANGUAGE)
    assert said["node"] and re.match(r"the model's path .+gone is not there; .+ --ship-model$", said["fatal"])
    assert "another version of ai-router" in actor.Actor().open(load, actor.LANGUAGE + 1)["fatal"]


def test_another_version_is_one_sentence() -> None:
    """The text is the one of Ray 2.60."""
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\nThis …")
    said = str(cluster._why("head:6379", error, "2.60.0"))
    assert "is of another version than here (Ray 2.60.0 and Python 3" in said and "Ray: 2.9.0" in said
    assert "\n" not in said
    none = ConnectionError("Could not find any running Ray instance. Please specify the one to connect to")
    assert str(cluster._why("auto", none, "2.60.0")) == cluster.NONE_HERE
    refused = ConnectionError("Failed to connect to Ray cluster at 127.0.0.1:6379")  # as where a token is wrong
    said = str(cluster._why("auto", refused, "2.60.0"))
    assert "where it asks for a token" in said and "a client server ray://HOST:10001" in said
    refused.__cause__ = RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect")
    assert "head:6379 asks for a token, and has got none or another one; set" in str(
        cluster._why("head:6379", refused, "")
    )


@pytest.mark.parametrize(("ray", "python"), [("2.9.0", ""), ("", "3.8.1")])
def test_another_version_as_ray_itself_says_it(ray: str, python: str) -> None:
    """It asks the head, before anything is handed out, and says the same to a client of the cluster."""
    utils = pytest.importorskip("ray._private.utils")
    here = utils.compute_version_info()
    there = {"ray_version": ray or here[0], "python_version": python or here[1]}
    with pytest.raises(RuntimeError) as caught:
        utils.check_version_info(there, "Ray Client", python_version_match_level="minor")
    said = cluster._why("ray://head:10001", caught.value, here[0])
    assert isinstance(said, cluster.ElsewhereError) and "is of another version than here" in str(said)


@pytest.mark.parametrize(
    "said", [{"cpus": "two"}, {"gpus": -1}, {"actors": 0}, {"actors": 1.5}, {"cpus": True}, {"autoscale": 1}]
)
def test_resources_that_cannot_be(said: dict[str, Any]) -> None:
    assert check_resources(said).startswith("resources: ")


@given(
    deaths=st.lists(st.integers(0, SUSPECT + 1), max_size=30),
    rooms=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_every_item_is_handed_out_once_and_a_suspect_alone(deaths: list[int], rooms: list[int]) -> None:
    queue = Queue()
    members = [Member(number, None, "ready", room=room) for number, room in enumerate(rooms)]
    for number in range(len(deaths)):
        queue.add(BatchItem(number, Request("x")))
    for held in list(queue._waiting):
        held.deaths = deaths[int(held.item.id)]
    seen: Counter[int] = Counter()
    for _ in range(2 * len(deaths) + 1):
        for member in members:
            taken = queue.take(member)
            member.held.update((held.item.id, held) for held in taken)
            assert len(member.held) <= member.target
            assert len(member.held) == 1 or all(held.deaths < SUSPECT for held in member.held.values())
        for member in members:
            seen.update(int(key) for key in member.held)
            member.held.clear()
    assert seen == Counter(range(len(deaths))) and not len(queue)


def test_a_folder_arrives_as_it_was_and_once_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    weights = os.urandom(150_000)
    (model / "deep" / "weights.bin").write_bytes(weights)
    (model / "config.json").write_text("{}")
    pieces: list[bytes] = []  # as an object store keeps them

    def put(piece: bytes) -> int:
        pieces.append(piece)
        return len(pieces) - 1

    monkeypatch.setattr(shipping, "PIECE", 10_000)
    monkeypatch.setattr(shipping, "BLOCK", 512)
    packed = shipping.pack(model, put)
    assert len(pieces) > 10 and max(map(len, pieces)) < 2 * 10_000
    there = shipping.unpack(packed, pieces.__getitem__, tmp_path / "node")
    assert (there / "deep" / "weights.bin").read_bytes() == weights and shipping.size_of(model) == len(weights) + 2
    pieces.clear()  # whoever finds it there needs none of them
    assert shipping.unpack(packed, pieces.__getitem__, tmp_path / "node") == there
    assert len(list((tmp_path / "node").iterdir())) == 1
    with pytest.raises(FatalError, match="cannot be sent along"):
        shipping.pack(tmp_path / "gone", put)
