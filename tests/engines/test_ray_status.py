"""What is told of a cluster by whoever looks at it from outside, over a double of Ray."""

from __future__ import annotations

from typing import Any

import pytest
from engines.fake_ray import FakeRay

from batch.engines.ray import cluster, status


@pytest.mark.parametrize(
    ("free", "said"),
    [
        ({"n1": {"CPU": 1.0, "memory": 2.0 * cluster.GIB}}, "1 CPU, 2.0 GiB"),
        ({"n1": {}}, "0 CPUs, 0.0 GiB"),  # all of it is taken
        ({}, status.UNKNOWN),  # Ray does not tell a client of the cluster
    ],
)
def test_what_is_free_is_not_said_where_it_is_not_known(
    free: dict[str, dict[str, float]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = FakeRay(places=2)
    monkeypatch.setattr(cluster, "connect", lambda address: ray)
    monkeypatch.setattr(status, "_free", lambda ray: free)
    monkeypatch.setattr(status, "_actors", lambda ray, nodes: [])
    (node,) = status.look("head:6379")["nodes"]
    assert (node["has"], node["free"]) == ("2 CPUs, 8.0 GiB", said) and ray.over
