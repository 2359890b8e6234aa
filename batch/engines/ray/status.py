"""`python -m batch.engines.ray.status ADDRESS`: a cluster's nodes and our actors on it, as a line of JSON.

The actors are found by their names and asked themselves, which needs no dashboard on the cluster.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from batch.engines.ray import cluster
from batch.engines.ray.actor import NAMESPACE
from batch.errors import BatchError, MissingExtraError

SAID_SECONDS = 5.0  # for actors to say what they do: the step that they are at comes first
SILENT = "busy, or without a place"
UNKNOWN = "—"  # what is free, to a client of the cluster (`ray://`)


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
                    "free": _has(cluster.Node("", "", "", free[node.id])) if node.id in free else UNKNOWN,
                }
                for node in there
            ],
            "actors": _actors(ray, names),
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


def _actors(ray: Any, nodes: Mapping[str, str]) -> list[dict[str, Any]]:
    """What each of our actors says of itself; of one that says nothing in time, that it is busy or has no place yet."""
    util = importlib.import_module("ray.util")
    listed = util.list_named_actors(all_namespaces=True)
    asked: dict[Any, dict[str, Any]] = {}
    for name in sorted(row["name"] for row in listed if row["namespace"] == NAMESPACE):
        run, _, number = name.rpartition("-")
        row = {
            "run": run,
            "actor": number,
            "node": UNKNOWN,
            "model": "",
            "state": SILENT,
            "held": 0,
            "done": 0,
            "pid": 0,
        }
        try:
            asked[ray.get_actor(name, NAMESPACE).said.remote()] = row
        except (ValueError, AttributeError):  # it ended a moment ago; it is of another version
            continue
    if asked:
        for reference in ray.wait(list(asked), num_returns=len(asked), timeout=SAID_SECONDS)[0]:
            try:
                said = ray.get(reference)
            except Exception as error:
                asked[reference]["state"] = f"lost: {type(error).__name__}"
                continue
            node = nodes.get(str(said.pop("node_id")), UNKNOWN)
            asked[reference] |= {"node": node, **said}
    return list(asked.values())


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
