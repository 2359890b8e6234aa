"""A job on a real Ray cluster of two nodes on this machine: what it costs when warm, and what is lost when parts die.

    python -m benchmarks.cluster [--kills N] [--minutes N] [instant] [overhead] [exchanges] [nodes] [drivers] [drain]
                                [head] [autoscale]

Nodes, drivers and the head are killed with SIGKILL at random moments. Not in `python -m benchmarks`: it takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Clusters of the benchmark alone, on loopback, with a token of their own; before Ray is imported.
os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": os.environ.get("AI_ROUTER_BENCH_TOKEN") or secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "engines"), os.environ.get("PYTHONPATH", "")]),
}

from batch import BatchProcessor, Run  # noqa: E402
from batch.checkpoint import CheckpointStore  # noqa: E402
from batch.engines.desk import MemoryDesk  # noqa: E402
from batch.engines.local.host import HostedEngine  # noqa: E402
from batch.items import BatchItem, Request  # noqa: E402
from batch.options import SamplingOptions  # noqa: E402

DEMO = ROOT / "ai_router" / "demo"
INSTANT = 100_000
MINUTES = 60.0  # for the killing of each part
SLOW = 5_000
LONG = 8 * SLOW  # lasts longer than it takes until an actor has seen that its node is to go
WARM = 550  # so that all of it takes a minute and a half
ACTORS, HEARD_SECONDS = 16, 20.0
SCALED = 1_500  # items, of a quarter of a second to five
FAKE_HEAD = "ray.head.default"  # as the provider of nodes that are processes here calls it
NOTHING = (  # of which the autoscaler has to be told all the same: nothing is installed or copied
    *("cluster_synced_files", "initialization_commands", "setup_commands", "head_setup_commands"),
    *("worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "rsync_exclude", "rsync_filter"),
)


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Any, str]]:
    """A head without CPUs, and a node with two."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
    try:
        yield cluster, cluster.address
    finally:
        cluster.shutdown()


def on(
    address: str,
    engine: str,
    actors: int,
    model: dict[str, Any],
    sampling: SamplingOptions | None = None,
    max_batch: int | None = None,
) -> HostedEngine:
    """The engine that drives actors of a CPU each."""
    resources = {"cpus": 1, "actors": actors}
    # `again`: a head that is still starting is waited for.
    spec = {"cluster": address, "engine": engine, "model": model, "resources": resources, "again": True}
    return HostedEngine("ray", spec, sampling, max_batch, elsewhere=True)


def instant(cluster: Any, address: str, kills: int) -> None:
    """Items a second through one driver, each committed."""
    cluster.add_node(num_cpus=2)
    engine = on(address, "ray_core:open_core", 2, {"room": 512})
    with tempfile.TemporaryDirectory() as folder:
        processor = BatchProcessor(Path(folder))
        warm = processor.create_job("m", ["warm"] * 10)
        Run(warm, engine, close_engine=False).start().wait()
        job = processor.create_job("m", (f"item {n}" for n in range(INSTANT)))
        start = time.monotonic()
        Run(job, engine).start().wait()
        seconds = time.monotonic() - start
    assert job.completed == INSTANT, (job.completed, job.failed)
    print(
        f"instant actors, durable: {INSTANT / seconds:,.0f} items/s ({INSTANT:,} in {seconds:.1f} s; wanted 5,000)",
        flush=True,
    )


async def _timed(engine: HostedEngine, count: int) -> float:
    async def items() -> AsyncIterator[BatchItem[Request]]:
        for number in range(count):
            yield BatchItem(number, Request(f"Question {number}: what is a queue, and what is a stack?"))

    start = time.monotonic()
    got = [response async for response in engine.answer(items(), MemoryDesk())]
    assert len(got) == count and all(response.error is None for response in got)
    return time.monotonic() - start


def overhead(cluster: Any, address: str, kills: int) -> None:
    """One actor against the hosted engine, on the demo model's batch, alternately.

    Both with one thread, which leaves a core to what hands items out, and as many rows at once: each measures how many
    pay off by itself, on a machine that does other things at that moment.
    """
    cluster.add_node(num_cpus=2)

    async def compare() -> tuple[list[float], list[float]]:
        told, sampling = {"path": str(DEMO)}, SamplingOptions(max_tokens=64)
        here = HostedEngine("torch", told, sampling, max_batch=64, threads=1)
        there = on(address, "torch", 1, told, sampling, max_batch=64)
        try:
            await _timed(here, 20), await _timed(there, 20)
            pairs = [(await _timed(here, WARM), await _timed(there, WARM)) for _ in range(5)]
        finally:
            await here.close()
            await there.close()
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    one, other = asyncio.run(compare())
    share, usual = min(other) / min(one) - 1, statistics.median(other) / statistics.median(one) - 1
    print(
        f"one actor over the hosted engine: {share:+.1%} (best of 5 times {WARM:,} items: {min(other):.2f} s, "
        f"{min(one):.2f} s; wanted 5 %), {usual:+.1%} by the medians",
        flush=True,
    )


def exchanges(cluster: Any, address: str, kills: int) -> None:
    """Exchanges with actors that never gather anything: how many one driver makes, and its processor time for each."""
    from batch.engines.ray import core

    cluster.add_node(num_cpus=2)
    core.EXCHANGE_SECONDS = core.MOST_EXCHANGE_SECONDS = 0.0
    told = {"engine": "ray_core:open_core", "model": {"room": 8, "pause": 0.0}}
    resources = {"cpus": 2 / ACTORS, "actors": ACTORS}
    driver = core.open_core({"cluster": address, "resources": resources, **told}, SamplingOptions(), None)
    try:
        for number in range(8 * ACTORS):
            driver.submit(BatchItem(number, Request("slow 1000000000")))
        made, took = [0], driver._took

        def count(*said: Any) -> None:
            made[0] += 1
            took(*said)

        driver._took = count  # type: ignore[method-assign]
        start, worked = time.monotonic(), time.process_time()
        while (seconds := time.monotonic() - start) < HEARD_SECONDS:
            driver.step()
        worked = time.process_time() - worked
    finally:
        driver.close()
    print(
        f"exchanges: {made[0] / seconds:,.0f} a second with {ACTORS} actors on the driver's cores, "
        f"{worked / made[0] * 1e6:,.0f} µs of its processor time each",
        flush=True,
    )


def nodes(cluster: Any, address: str, kills: int) -> None:
    """A node is killed at random, and another one comes, while a job runs."""
    node = cluster.add_node(num_cpus=2)
    killed = jobs = 0
    until = time.monotonic() + MINUTES * 60
    while killed < kills and time.monotonic() < until:
        engine = on(address, "ray_core:open_core", 2, {"room": 8})
        with tempfile.TemporaryDirectory() as folder:
            job = BatchProcessor(Path(folder)).create_job("m", (f"slow {n % 9 + 1}" for n in range(SLOW)))
            run = Run(job, engine).start()
            while not run.snapshot().state.over:
                before = run.snapshot().completed
                while run.snapshot().completed < before + 40 and not run.snapshot().state.over:
                    time.sleep(0.05)
                if run.snapshot().state.over or killed >= kills or time.monotonic() > until:
                    break
                time.sleep(random.uniform(0, 1.0))
                cluster.remove_node(node, allow_graceful=False)
                killed += 1
                print(f"  {killed} nodes killed, {run.snapshot().processed:,} items done", flush=True)
                node = cluster.add_node(num_cpus=2)
            while not run.wait(10):
                print(f"  {run.snapshot().processed:,} items done: {run.snapshot().engine_status}", flush=True)
            jobs += 1
            said = run.snapshot()
            _check(job.checkpoint_file, SLOW, "slow {}")
            print(f"  {killed} nodes killed; {said.duplicates} doubled answers recognised", flush=True)
    print(f"nodes killed: {killed}, over {jobs} jobs of {SLOW:,} items: 0 lost, 0 doubled, 0 failed")


DRIVER = """
import sys
from pathlib import Path
from batch import BatchProcessor, Run
from benchmarks.cluster import on
processor = BatchProcessor(Path(sys.argv[1]).parent)
run = Run(processor.open_job(sys.argv[1]), on(sys.argv[2], "ray_core:open_core", 2, {"room": 8})).start()
run.wait()
sys.exit(str(run.error or run.snapshot().reason) if run.snapshot().state != "finished" else 0)
"""


def drivers(cluster: Any, address: str, kills: int) -> None:
    """The whole program is killed at random and resumed."""
    cluster.add_node(num_cpus=2)
    with tempfile.TemporaryDirectory() as folder:
        job = BatchProcessor(Path(folder)).create_job("m", (f"slow {n % 9 + 1}" for n in range(SLOW)))
        file = str(job.checkpoint_file)
        killed = 0
        until = time.monotonic() + MINUTES * 60
        env = {**os.environ, "AI_ROUTER_BENCH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
        while True:
            process = subprocess.Popen([sys.executable, "-c", DRIVER, file, address], cwd=ROOT, env=env)
            before = _committed(file)
            while process.poll() is None and (
                killed >= kills or time.monotonic() > until or _committed(file) < before + 20
            ):
                time.sleep(0.05)
            if process.poll() is not None:
                assert process.returncode == 0, "a driver stopped by itself"
                break
            time.sleep(random.uniform(0, 0.5))
            process.kill()
            process.wait()
            killed += 1
            print(f"  {killed} drivers killed, {_committed(file):,} items done", flush=True)
        _check(file, SLOW, "slow {}")
    print(f"drivers killed: {killed} over a job of {SLOW:,} items: 0 lost, 0 doubled, 0 failed")


def drain(cluster: Any, address: str, kills: int) -> None:
    """A node is told that it is to go, as spot instances are: what it holds is taken back before it is gone."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        job = BatchProcessor(Path(folder)).create_job("m", (f"slow {n % 9 + 1}" for n in range(LONG)))
        run = Run(job, on(address, "ray_core:open_core", 2, {"room": 8})).start()
        _await(run, 200)
        from ray._raylet import GcsClient  # as `ray drain-node` does it, which takes seconds to start

        reason = 2  # preemption
        assert GcsClient(address=address).drain_node(nodes[0].node_id, reason, "spot", int(time.time() + 60) * 1000)[0]
        told = time.monotonic()
        while "drained" not in run.snapshot().engine_about.get("cluster", {}).get("died", {}):
            assert not run.snapshot().state.over, run.error
            time.sleep(0.05)
        seconds = time.monotonic() - told
        cluster.remove_node(nodes[0], allow_graceful=False)
        run.wait()
        _check(job.checkpoint_file, LONG, "slow {}")
    print(f"drained: its items were taken back within {seconds:.1f} s of the notice; 0 lost, 0 doubled, 0 failed")


@contextlib.contextmanager
def _head(port: int, *words: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A head of its own on loopback: its address, and what kills it and starts it again some seconds later."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", "--object-store-memory=80000000"),
        *("--include-dashboard=false", "--dashboard-agent-listen-port=0", *words),
    ]
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        if processes:
            os.killpg(processes[-1].pid, signal.SIGKILL)
            processes[-1].wait()
            time.sleep(random.uniform(2, 10))
        processes.append(subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL))

    start()
    try:
        time.sleep(10)
        yield f"127.0.0.1:{port}", start
    finally:
        processes[-1].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[-1].wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(processes[-1].pid, signal.SIGKILL)


def head(cluster: Any, address: str, kills: int) -> None:
    """The head is killed, and started again at the same place some seconds later: the job goes on by itself."""
    with tempfile.TemporaryDirectory() as folder, _head(_free_port(), "--num-cpus=2") as (address, again):
        job = BatchProcessor(Path(folder)).create_job("m", (f"slow {n % 9 + 1}" for n in range(SLOW * 4)))
        run = Run(job, on(address, "ray_core:open_core", 2, {"room": 8})).start()
        _await(run, 200)
        killed, at = time.monotonic(), run.snapshot().completed
        again()
        while run.snapshot().engine_status.startswith(("1 node", "2 node")):  # until the driver has seen it
            assert not run.snapshot().state.over, run.error
            time.sleep(0.05)
        seen = run.snapshot().completed
        _await(run, seen + 1)
        seconds = time.monotonic() - killed
        run.wait()
        _check(job.checkpoint_file, SLOW * 4, "slow {}")
    print(f"head killed at {at:,} items and started again: on after {seconds:.0f} s by itself, 0 lost, 0 doubled")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def autoscale(cluster: Any, address: str, kills: int) -> None:
    """A head without CPUs, and Ray's own autoscaler, which starts nodes of a CPU here as actors without a place ask."""
    most, port = 2, _free_port()
    node = {"resources": {"CPU": 1, "object_store_memory": 80_000_000}, "node_config": {}, "max_workers": most}
    config = {
        "cluster_name": "loopback", "max_workers": most, "idle_timeout_minutes": 60, "head_node_type": FAKE_HEAD,
        # By address they would all be one node, and the first be awaited for as long as the second is asked for.
        "provider": {
            "type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}", "disable_node_updaters": True,
            "use_node_id_as_ip": True,
        },
        "available_node_types": {
            FAKE_HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "late": {**node, "min_workers": 0},
        },
        **{key: {} for key in ("auth", "file_mounts")}, **{key: [] for key in NOTHING},
    }  # fmt: skip
    os.environ |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "autoscaling.json"
        file.write_text(json.dumps(config))
        with _head(port, "--num-cpus=0", f"--autoscaling-config={file}") as (address, _):
            spec = {"cluster": address, "engine": "ray_core:open_core", "again": True}
            told = {"model": {"room": 8, "pause": 0.5}, "resources": {"cpus": 1, "autoscale": True}}
            engine = HostedEngine("ray", {**spec, **told}, elsewhere=True)
            job = BatchProcessor(Path(folder)).create_job("m", (f"slow {n % 9 + 1}" for n in range(SCALED)))
            start, came = time.monotonic(), []
            run = Run(job, engine).start()
            while not run.snapshot().state.over:
                told = run.snapshot().engine_about.get("cluster", {})
                if sum(actor["done"] > 0 for actor in told.get("actors", ())) > len(came):
                    came.append(f"{time.monotonic() - start:.0f} s ({run.snapshot().completed:,} items done)")
                time.sleep(0.05)
            run.wait()
            _check(job.checkpoint_file, SCALED, "slow {}")
    assert len(came) == most, (came, run.error)
    print(f"nodes that the autoscaler added worked after {', '.join(came)}; 0 lost, 0 doubled, 0 failed")


def _await(run: Run, completed: int) -> None:
    while run.snapshot().completed < completed:
        assert not run.snapshot().state.over, run.error
        time.sleep(0.05)


def _committed(file: str) -> int:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
    finally:
        connection.close()


def _check(file: Any, total: int, text: str) -> None:
    """Every item has its own answer, once."""
    with CheckpointStore(Path(file)) as store:
        rows = list(store.iter_results())
    assert [row.prompt_index for row in rows] == list(range(total)), "lost or doubled"
    for row in rows:
        assert row.success and row.response_text == text.format(row.prompt_index % 9 + 1).upper(), row


PARTS: dict[str, Callable[[Any, str, int], None]] = {
    "instant": instant, "overhead": overhead, "exchanges": exchanges, "nodes": nodes, "drivers": drivers,
    "drain": drain, "head": head, "autoscale": autoscale,
}  # fmt: skip
ALONE = ("head", "autoscale")  # parts with a cluster of their own


def main() -> int:
    """Run the parts that are asked for, each on a cluster of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=60, help="end the killing after this, and check")
    args = parser.parse_args()
    global MINUTES
    MINUTES = args.minutes
    for name in args.parts or PARTS:
        with contextlib.nullcontext((None, "")) if name in ALONE else two_nodes() as (cluster, address):
            PARTS[name](cluster, address, args.kills)
    return 0


if __name__ == "__main__":
    sys.exit(main())
