"""`ai-router cluster status`: the nodes and actors of a Ray cluster."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit_json, table
from batch.engines.local.process import worker_env
from batch.errors import FatalError, MissingExtraError
from batch.options import parse_cluster

USAGE = "status [--cluster ADDRESS]"
DESCRIPTION = """\
What a Ray cluster has and what ai-router's actors on it do. A cluster is begun with `ray start --head` on one machine
and `ray start --address=HEAD:6379` on each of the others; jobs run on it with `ai-router run --cluster ADDRESS`.
"""
EXAMPLES = """\
examples:
  ai-router cluster status
  ai-router cluster status --cluster ray://head:10001 --json
"""
SECONDS = 90.0


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("what", choices=["status"], help="what is to be shown")
    parser.add_argument("--cluster", metavar="ADDRESS", default="auto", help="auto (the default), or as of `run`")
    parser.add_argument("--json", action="store_true", help="as JSON")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    said = ask(args.cluster)
    if args.json:
        emit_json(said)
        return Exit.DONE
    nodes = [[node["name"], node["address"], node["has"], node["free"]] for node in said["nodes"]]
    sys.stdout.write(table(["NODE", "ADDRESS", "HAS", "FREE"], nodes) + "\n")
    columns = ("run", "actor", "node", "model", "state", "held", "done", "pid")
    actors = [[str(actor[name]) for name in columns] for actor in said["actors"]]
    heads = [name.upper() for name in columns]
    text = table(heads, actors, right=("HELD", "DONE", "PID")) if actors else "No actors."
    sys.stdout.write("\n" + text + "\n")
    return Exit.DONE


def ask(address: str) -> dict[str, list[dict[str, Any]]]:
    """What a process of its own finds out, as Ray is imported there alone."""
    try:
        address = parse_cluster(address)
    except ValueError as error:
        raise UsageError(f"--cluster: {error}") from None
    command = [sys.executable, "-P", "-m", "batch.engines.ray.status", address]
    if address == "local":
        raise UsageError("--cluster: local is a cluster that a run starts for itself; there is none to look at")
    try:
        done = subprocess.run(
            command, capture_output=True, env=worker_env(None), encoding="utf-8", timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FatalError(f"the cluster at {address} says nothing within {SECONDS:g} s") from None
    try:
        said: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FatalError(f"the cluster at {address} cannot be looked at: {last}") from None
    if "extra" in said:
        raise MissingExtraError("cluster", "A cluster")
    if "error" in said:
        raise FatalError(str(said["error"]))
    return said
