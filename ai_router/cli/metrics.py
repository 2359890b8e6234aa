"""`--metrics`: a run's figures where Prometheus asks for them. Loopback unless another address is named."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ai_router.cli.session import UsageError
from batch.errors import MissingExtraError
from batch.running.progress import Snapshot

LOOPBACK = "127.0.0.1"
# Name, help, and where a snapshot has it. What only grows is a counter.
COUNTERS: tuple[tuple[str, str, Callable[[Snapshot], float]], ...] = (
    ("completed", "Items answered", lambda s: s.completed),
    ("failed", "Items without an answer", lambda s: s.failed),
    ("tokens_input", "Tokens in", lambda s: s.tokens_input),
    ("tokens_output", "Tokens out", lambda s: s.tokens_output),
    ("duplicates", "Second answers to an item, which count for nothing", lambda s: s.duplicates),
)
GAUGES: tuple[tuple[str, str, Callable[[Snapshot], float | None]], ...] = (
    ("items", "Items in all", lambda s: s.total),
    ("in_flight", "Items being answered", lambda s: s.in_flight),
    ("retrying", "Items waiting for another try", lambda s: s.retrying),
    ("with_provider", "Items with a provider", lambda s: s.with_provider),
    ("concurrency", "Most items in flight", lambda s: s.concurrency),
    ("items_per_second", "Items a second, lately", lambda s: s.items_per_second),
    ("tokens_per_second", "Output tokens a second, lately", lambda s: s.tokens_per_second),
    ("latency_p50_seconds", "Median time of an answer", lambda s: s.latency_p50),
    ("latency_p95_seconds", "95th percentile of it", lambda s: s.latency_p95),
    ("eta_seconds", "Time to the end", lambda s: s.eta),
    ("elapsed_seconds", "Time running, over all resumes", lambda s: s.elapsed),
)
PARTS = ("done", "failed", "in_flight", "waiting", "items_per_second")  # of a lane


def parse_address(text: str) -> tuple[str, int]:
    """`:9400`, `9400` or `HOST:9400` as host and port; without a host, this machine alone."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise UsageError(f"--metrics: {text} is no address; say :9400, or HOST:9400 for others to see it")
    return host or LOOPBACK, int(port)


class Figures:
    """What Prometheus collects: a snapshot, the lanes and the actors in it, taken when it is asked for."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._core: Any = importlib.import_module("prometheus_client.core")

    def collect(self) -> Iterator[Any]:
        """The figures now; what is not known is left out."""
        snapshot = self._snapshot()
        labels = [snapshot.job_id, snapshot.model_id]
        for name, text, value in COUNTERS:
            yield self._family("Counter", name, text, ["job", "model"], [(labels, value(snapshot))])
        for name, text, read in GAUGES:
            if (figure := read(snapshot)) is not None:
                yield self._family("Gauge", name, text, ["job", "model"], [(labels, figure)])
        states = [([*labels, str(snapshot.state)], 1.0)]
        yield self._family("Gauge", "state", "What the run is doing", ["job", "model", "state"], states)
        lanes = [(lane.name, lane) for lane in snapshot.lanes]
        for part in PARTS if lanes else ():
            rows = [([snapshot.job_id, name], float(getattr(lane, part))) for name, lane in lanes]
            yield self._family("Gauge", f"lane_{part}", f"Of a lane: {part}", ["job", "lane"], rows)
        yield from self._actors(snapshot)

    def _actors(self, snapshot: Snapshot) -> Iterator[Any]:
        there = snapshot.engine_about.get("cluster")
        if not isinstance(there, dict):
            return
        for part in ("done", "held", "items_per_second"):
            rows = [
                ([snapshot.job_id, str(actor["actor"]), str(actor["node"]), str(actor["state"])], float(actor[part]))
                for actor in there["actors"]
            ]
            yield self._family(
                "Gauge", f"actor_{part}", f"Of an actor: {part}", ["job", "actor", "node", "state"], rows
            )
        died = [([snapshot.job_id, why], float(count)) for why, count in there["died"].items()]
        yield self._family("Counter", "actors_lost", "Actors that are gone", ["job", "why"], died)

    def _family(self, kind: str, name: str, text: str, labels: list[str], rows: list[tuple[list[str], float]]) -> Any:
        family = getattr(self._core, f"{kind}MetricFamily")(f"ai_router_{name}", text, labels=labels)
        for values, figure in rows:
            family.add_metric(values, figure)
        return family


@contextmanager
def serving(address: str | None, snapshot: Callable[[], Snapshot]) -> Iterator[None]:
    """Answer at this address for as long as the run goes; nothing at all without one."""
    if address is None:
        yield
        return
    host, port = parse_address(address)
    client = library()
    registry = client.CollectorRegistry()
    registry.register(Figures(snapshot))
    try:
        server, thread = client.start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--metrics: {host}:{port} cannot be used: {error.strerror or error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(2)


def library() -> Any:
    """The Prometheus client; MissingExtraError where it is not installed."""
    try:
        return importlib.import_module("prometheus_client")
    except ImportError:
        raise MissingExtraError("metrics", "--metrics") from None


def check(address: str | None) -> str | None:
    """The address, if it is one and can be served: before a job is made."""
    if address is not None:
        parse_address(address)
        library()
    return address
