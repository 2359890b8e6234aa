"""The server engine on loopback beside what a user would write: a bare aiohttp loop, the openai SDK with a semaphore.

`python -m benchmarks.servers [--requests N] [--sdk PYTHON]`. Ours is a whole job: prompts from a checkpoint, every
answer on the disk. The server is a process of its own, which shares the machine's cores; so CPU time a request is given
beside each rate, as it says the same on a busy machine. Each measurement has a process of its own too. `--memory N` is
one job of so many requests alone, and its memory as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ai_router.jobs import spare_collector
from batch.engines.http.row import make
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor
from batch.running.run import Run
from benchmarks.common import ROOT, in_process
from benchmarks.server_peer import PROMPT
from tests.servers.foreign import free_port

CONNECTIONS = 512
HERE = Path(__file__).parent


class Measured(NamedTuple):
    """Requests a second, and microseconds of this process's CPU a request."""

    rate: float
    cpu: float


@contextmanager
def serving(*flags: str) -> Iterator[str]:
    """The server's address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server_process", str(port), *flags], cwd=ROOT)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def ours(url: str, requests: int) -> tuple[float, float, float]:
    """A job through the server engine, every answer on the disk: rate, CPU a request, most memory in MB."""
    import aiohttp  # noqa: F401 - loaded before the clock starts, as for the others

    with tempfile.TemporaryDirectory(prefix="ai-router-bench-") as folder:
        prompts = (f"{number} {PROMPT}" for number in range(requests))
        job = BatchProcessor(Path(folder)).create_job("m", prompts)
        spec = {"url": url, "model": "m", "concurrency": CONNECTIONS, "stream": False}
        run = Run(job, make(spec, SamplingOptions(), workers=None, timeout=120), RunOptions(retries=10))
        spare_collector()  # as `ai-router run` does
        start, cpu = time.perf_counter(), time.process_time()
        run.execute()
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        assert (job.completed, job.failed) == (requests, 0), (job.completed, job.failed)
    return requests / seconds, used / requests * 1e6, peak()


def long_run(url: str, requests: int) -> list[tuple[int, float]]:
    """One long job: how much memory is in use after each tenth of it, MB."""
    seen: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="ai-router-bench-") as folder:
        job = BatchProcessor(Path(folder)).create_job("m", (f"{n} {PROMPT}" for n in range(requests)))
        spec = {"url": url, "model": "m", "concurrency": CONNECTIONS, "stream": False}

        def note(_: object, done: int) -> None:
            if done * 10 // requests > len(seen):
                seen.append((done, resident()))

        run = Run(job, make(spec, SamplingOptions(), workers=None, timeout=120), on_progress=note)
        spare_collector()
        run.execute()
        assert (job.completed, job.failed) == (requests, 0), (job.completed, job.failed)
    return seen


def bare(url: str, requests: int) -> tuple[float, float]:
    """Workers over one aiohttp session, answers parsed and thrown away."""
    import aiohttp
    import orjson

    async def main() -> tuple[float, float]:
        numbers = iter(range(requests))

        async def work(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                body = {
                    "model": "m",
                    "messages": [{"role": "user", "content": f"{number} {PROMPT}"}],
                    "max_tokens": 256,
                    "temperature": 0,
                }
                async with session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as response:
                    _ = orjson.loads(await response.read())["choices"][0]["message"]["content"]

        start, cpu = time.perf_counter(), time.process_time()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
            await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))
        return requests / (time.perf_counter() - start), (time.process_time() - cpu) / requests * 1e6

    return asyncio.run(main())


def sdk(url: str, requests: int, python: str) -> Measured | None:
    """The openai SDK of another environment; None where it has none."""
    words = [python, str(HERE / "server_peer.py"), url, str(requests), str(CONNECTIONS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"the openai SDK is left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    seconds, used = map(float, done.stdout.split())
    return Measured(requests / seconds, used / requests * 1e6)


def peak() -> float:
    """Most memory of this process so far, MB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def resident() -> float:
    """Memory of this process now, MB; the most so far where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak()
    return pages * resource.getpagesize() / 1e6


def line(what: str, measured: Measured, against: str = "") -> None:
    """One row."""
    print(f"{what:<44} {measured.rate:>9,.0f} req/s {measured.cpu:>8,.0f} µs CPU  {against}", flush=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--sdk", default=sys.executable, metavar="PYTHON", help="an environment with openai in it")
    parser.add_argument("--memory", type=int, metavar="N", help="only one job of so many requests, and its memory")
    args = parser.parse_args()
    n = args.requests
    with serving() as url:
        if args.memory:
            for done, much in in_process(long_run, url, args.memory):
                print(f"{done:>12,} requests {much:>8.1f} MB", flush=True)
            return 0
        loop = Measured(*in_process(bare, url, n))
        line(f"bare aiohttp loop, {CONNECTIONS} connections", loop)
        *figures, small = in_process(ours, url, n)
        job = Measured(*figures)
        line("ours, every answer on the disk", job, f"{job.rate / loop.rate:.2f} × the bare loop (target 0.70)")
        peer = sdk(url, max(200, n // 20), args.sdk)
        if peer is not None:
            line("openai SDK with a semaphore", peer, f"ours {job.rate / peer.rate:.1f} × that (target 8)")
        *figures, large = in_process(ours, url, 3 * n)
        more = (large - small) / (2 * n) * 1e6
        line(f"ours, {3 * n:,} requests", Measured(*figures), f"{small:.0f} → {large:.0f} MB, {more:,.0f} B a request")
    with serving("--faults", "0.02") as url:
        faulty = Measured(*in_process(ours, url, n)[:2])
        line("ours, 2 % 429, 503 and cut answers", faulty, f"{faulty.rate / job.rate:.2f} × without (target 0.90)")
    with serving("--latency", "200") as url:
        slow = Measured(*in_process(ours, url, n)[:2])
        ideal = CONNECTIONS / 0.2
        line(
            "ours, a server that takes 200 ms", slow, f"{slow.rate / ideal:.2f} × the ideal {ideal:,.0f} (target 0.70)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
