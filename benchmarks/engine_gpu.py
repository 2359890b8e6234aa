"""The same work on a CUDA GPU in bf16: this project beside transformers' continuous batching."""

from __future__ import annotations

import subprocess
from typing import Any

from benchmarks import engine_peers as peers
from benchmarks.common import in_process


def card() -> str | None:
    """The GPU's name; None where there is none that torch can use."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def ours(folder: str, system: str, chats: peers.Chats, share: bool) -> dict[str, Any]:
    """The torch engine of this project, as it comes."""
    spec = {"device": "cuda", "precision": "bf16", "order": "longest", "share_prefixes": share}
    return _with_memory(peers.ours(folder, system, chats, spec))


def generate_batch(folder: str, system: str, chats: peers.Chats) -> dict[str, Any]:
    """transformers' continuous batching, as it comes."""
    return _with_memory(peers.generate_batch(folder, system, chats, "cuda"))


def _with_memory(result: dict[str, Any]) -> dict[str, Any]:
    import torch

    decoding = result.pop("about", {}).get("decoding", "")
    result.pop("texts", None)
    return {**result, "gpu_mb": torch.cuda.max_memory_reserved() / 2**20, "decoding": decoding}


def compare(card: str, folder: str, system: str, chats: peers.Chats, rounds: int) -> None:
    """Print the best of the rounds of each, loading not counted; a line's graphs are recorded within its time."""
    lines: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("ours bf16", ours, (True,)),
        ("ours bf16, nothing shared", ours, (False,)),
        ("transformers generate_batch", generate_batch, ()),
    ]
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for name, run, settings in lines:
            try:
                result = in_process(run, folder, system, chats, *settings)
            except subprocess.CalledProcessError:
                print(f"  {name}: does not run here", flush=True)
                continue
            result["rate"] = result["tokens"] / result["seconds"]
            if result["rate"] > best.get(name, {"rate": 0})["rate"]:
                best[name] = result
    rival = best.get("transformers generate_batch")
    print(f"\n{card}, bf16, whole runs without loading. × rival: to transformers' continuous batching.")
    print(f"{'':<28}{'tok/s':>9}{'× rival':>9}{'seconds':>9}{'GPU MB':>9}  decoding")
    for name, result in best.items():
        times = f"{result['rate'] / rival['rate']:.2f}" if rival else ""
        print(
            f"{name:<28}{result['rate']:>9,.0f}{times:>9}{result['seconds']:>9.1f}{result['gpu_mb']:>9,.0f}"
            f"  {result['decoding']}"
        )
