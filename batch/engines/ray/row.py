"""The cluster's row in the table of engines; imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch.engines.registry import EngineRow

# What an actor may ask of a node, and how many actors there are; anything else is a custom resource of the cluster.
RESOURCES: Mapping[str, str] = {
    "cpus": "CPUs an actor takes",
    "gpus": "GPUs an actor takes",
    "memory_gb": "memory an actor takes, in GiB",
    "actors": "most actors at once",
    "autoscale": "true: wait for nodes that the cluster adds, where none fits yet",
}

ROW = EngineRow(
    "ray",
    "cluster",
    "a model of this list on the nodes of a Ray cluster: ai-router run --cluster",
    core="batch.engines.ray.core:open_core",
    extra="cluster",
    modules=("ray",),
)


def check_resources(said: Mapping[str, Any]) -> str:
    """What is wrong with an entry's `resources`, as a sentence; else ""."""
    for name, value in said.items():
        if name == "autoscale":
            if not isinstance(value, bool):
                return "resources: autoscale must be true or false"
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            return f"resources: {name} must be a number, 0 or more"
        if name == "actors" and (value < 1 or value != int(value)):
            return "resources: actors must be a whole number, 1 or more"
    return ""
