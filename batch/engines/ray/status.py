"""`python -m batch.engines.ray.status ADDRESS`: a cluster's nodes and our actors on it, as a line of JSON."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from batch.engines.ray import cluster
from batch.engines.ray.actor import Actor
from batch.errors import BatchError, MissingExtraError


def look(address: str) -> dict[str, Any]:
    """Nodes with what they have and what of it is free, and the actors that are alive."""
    ray = cluster.connect(address)
    try:
        there = cluster.nodes(ray)
        free = _free(ray)
        names = {node.id: node.name for node in there}
        return {
            "nodes": [
                {
                    "name": node.name, "address": node.address, "has": _has(node),
                    "free": _has(cluster.Node(node.id, node.name, "", free.get(node.id, {}))),
                }
                for node in there
            ],
            "actors": [
                {
                    "node": names.get(str(row.node_id), str(row.node_id or "—")), "state": str(row.state),
                    "pid": row.pid, "job": str(row.job_id),
                }
                for row in _actors()
            ],
        }  # fmt: skip
    finally:
        ray.shutdown()


def _has(node: cluster.Node) -> str:
    return node.text.partition(": ")[2]


def _free(ray: Any) -> dict[str, dict[str, float]]:
    try:
        return dict(importlib.import_module("ray._private.state").available_resources_per_node())
    except Exception:  # no part of Ray's public interface
        return {}


def _actors() -> list[Any]:
    """Our actors; none where the cluster has no dashboard, which is what Ray asks for its list."""
    try:
        rows = importlib.import_module("ray.util.state").list_actors(limit=1000, raise_on_missing_output=False)
    except Exception:
        return []
    return [row for row in rows if row.class_name == Actor.__name__ and row.state != "DEAD"]


def main() -> int:
    """Print it, or why not."""
    try:
        said = look(sys.argv[1])
    except MissingExtraError as error:
        said = {"extra": error.extra}
    except BatchError as error:
        said = {"error": str(error)}
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
