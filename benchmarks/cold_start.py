"""From nothing to the first token: python -m benchmarks.cold_start [MODEL …] [--precision P] [--rounds N].

A hosted engine's process is started, its model loaded and one short question asked, `--rounds` times after a first that
may pack weights and try runners (shown by itself). Seconds by the clock and of the process's processor time, and the
most memory it held beside that of a process that only imports torch and transformers' tokenizers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from batch.engines.desk import MemoryDesk
from batch.engines.local.host import HostedEngine
from batch.engines.local.process import worker_env
from batch.engines.torch import shelf
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

ROOT = Path(__file__).resolve().parents[1]
BARE = "import torch, transformers; transformers.PreTrainedTokenizerFast; print(open('/proc/self/status').read())"


async def start(model: str, precision: str) -> tuple[float, float, float, dict[str, Any]]:
    """Seconds to the first token by the clock and of processor time, the most MB held, and what the engine says."""
    began = time.perf_counter()
    spec = {"path": model, "precision": precision}
    engine = HostedEngine("torch", spec, SamplingOptions(temperature=0, max_tokens=1), 1)

    async def items() -> Any:
        yield BatchItem(0, Request("What is a stack?"))

    try:
        async for response in engine.answer(items(), MemoryDesk()):
            assert response.error is None, response.error
            took = time.perf_counter() - began
            numbers = Path(f"/proc/{engine.pid}/stat").read_text().rpartition(")")[2].split()
            busy = (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
            await written()
            return took, busy, held(Path(f"/proc/{engine.pid}/status").read_text()), dict(engine.about)
    finally:
        await engine.close()
    raise RuntimeError("no answer came")


async def written() -> None:
    """Until nothing is being written that later starts read; a minute at most."""
    place = shelf.folder()
    for _ in range(600):
        if place is None or not any(place.glob("tmp-*")):
            return
        await asyncio.sleep(0.1)


def held(status: str) -> float:
    """The most memory a process had, in MB, by its /proc/…/status."""
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> int:
    """0; 1 where there is no /proc."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("model", nargs="*", default=[str(ROOT / "ai_router" / "demo")])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        print("memory and processor time are read from /proc, which is not here", file=sys.stderr)
        return 1
    env = worker_env(None)
    bare = held(
        subprocess.run([sys.executable, "-c", BARE], env=env, capture_output=True, text=True, check=True).stdout
    )
    for model in args.model:
        first = asyncio.run(start(model, args.precision))
        rounds = [asyncio.run(start(model, args.precision)) for _ in range(args.rounds)]
        took, busy, memory = (statistics.median(part) for part in list(zip(*rounds, strict=True))[:3])
        print(
            f"{Path(model).name} {first[3]['precision']}: {took:.2f} s to the first token (best "
            f"{min(r[0] for r in rounds):.2f}; first start {first[0]:.1f}), {busy:.2f} s of processor time, "
            f"{memory:,.0f} MB, {memory - bare:,.0f} beyond the libraries'"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
