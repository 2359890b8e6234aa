"""A process that works on a job until it is done or killed; every call is one line in a file before it is answered.

victim.py CHECKPOINT CALLS [--delay S] [--workers N] [--failing] [--interrupt N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[2]))

from batch import BatchProcessor
from batch.errors import BatchError


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("calls", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--failing", action="store_true")
    parser.add_argument("--sync", action="store_true")
    args = parser.parse_args()
    calls = os.open(args.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def reply(prompt: str) -> SimpleNamespace:
        number = int(prompt.split()[1])
        if args.failing and number % 5 == 0:
            raise ValueError(f"number {number} fails")
        return SimpleNamespace(
            text=f"answer {number} " * 20, tokens_input=3, tokens_output=number, duration_seconds=0.25
        )

    async def slow(prompt: str) -> SimpleNamespace:
        os.write(calls, f"{prompt.split()[1]}\n".encode())
        await asyncio.sleep(args.delay)
        return reply(prompt)

    def plain(prompt: str) -> SimpleNamespace:
        import time

        os.write(calls, f"{prompt.split()[1]}\n".encode())
        time.sleep(args.delay)
        return reply(prompt)

    processor = BatchProcessor(args.checkpoint.parent)
    try:
        job = processor.open_job(args.checkpoint)
        processor.process_batch(job, plain if args.sync else slow, workers=args.workers)
    except BatchError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
