"""What a user would write with the openai SDK: a semaphore and `gather`. Prints seconds and CPU seconds.

Needs only openai, so that it runs in an environment of its own: `python server_peer.py URL REQUESTS CONCURRENCY`.
"""

from __future__ import annotations

import asyncio
import sys
import time

PROMPT = "Say what this text is about, in one sentence. " + "The ferry carries many passengers a day. " * 22


async def main(url: str, requests: int, concurrency: int) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", timeout=120) as client:
        gate = asyncio.Semaphore(concurrency)

        async def one(number: int) -> None:
            async with gate:
                messages = [{"role": "user", "content": f"{number} {PROMPT}"}]
                await client.chat.completions.create(model="m", messages=messages, temperature=0, max_tokens=256)

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one(number) for number in range(requests)))
        print(time.perf_counter() - start, time.process_time() - cpu)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
