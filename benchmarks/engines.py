"""Local engines side by side, on the same weights and the same work, in one run. `make bench-engines`.

Work: chats with a common system prompt of about 200 tokens, user texts of 10-300 tokens, answers of 16-256 (0.6b:
8-64), lengths fixed by a seed, end-of-text ignored. Slow peers run a sample, which the table states. The order goes
round `--rounds` times, and each figure is the best of its rounds. "tok/CPU s" divides by processor seconds instead of
the clock's: on a machine where others are at work it is the figure that keeps its meaning. `--model 0.6b-gpu` compares
on a CUDA GPU in bf16: 1,024 requests, answers of 16-256, beside transformers' continuous batching alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from batch.engines.local.process import worker_env
from benchmarks import engine_extras as extras
from benchmarks import engine_gpu as gpu
from benchmarks import engine_peers as peers
from benchmarks.common import in_process
from benchmarks.engine_llama import llama
from benchmarks.engine_work import SIZES, Chat, make_model, make_work, work_flops

STATIC = (8, 16, 32, 64)


class Entry(NamedTuple):
    """A line of the table."""

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    share: float  # of the requests it runs; a slow peer runs a sample
    precision: str


def entries(model: str, quick: bool, only: list[str]) -> list[Entry]:
    """Everything that is compared. The samples keep a full run of both models near 25 minutes on two cores."""
    large = model == "0.6b"
    slow = 0.1 if quick or large else 0.25
    fp32 = {"precision": "fp32", "order": "longest"}
    # A static batch is measured full where it can be.
    static = {8: 0.34, 16: 0.34, 32: 0.67, 64: 1.0} if large else dict.fromkeys(STATIC, 0.5)
    rows = [
        Entry("ours fp32", peers.ours, (fp32,), 1, "fp32"),
        Entry("ours fp32, nothing shared", peers.ours, ({**fp32, "share_prefixes": False},), 1, "fp32"),
        Entry("ours int8", peers.ours, ({**fp32, "precision": "int8"},), 1, "int8"),
        Entry("transformers, one by one", peers.static_batches, (1,), slow / 2, "fp32"),
        *[
            Entry(f"transformers, static {n}", peers.static_batches, (n,), static[n], "fp32")
            for n in ((16, 32) if quick else STATIC)
        ],
        Entry("transformers generate_batch", peers.generate_batch, (), slow, "fp32"),
        Entry("mlx-lm batch_generate", peers.mlx, (), slow / 2, "fp32"),
        Entry("llama.cpp F32", llama, ("f32",), 0.5 if quick else 1, "fp32"),
        Entry("llama.cpp Q8_0", llama, ("q8_0",), 0.5 if quick else 1, "int8"),
    ]
    missing = any(find_spec(name) is None for name in ("llama_cpp", "gguf"))
    rows = [row for row in rows if not (missing and row.run is llama)]
    return [row for row in rows if not only or any(word in row.name for word in only)]


def measure(model: str, entry: Entry, folder: Path, system: str, chats: list[Chat]) -> dict[str, Any]:
    """One run in a process of its own; a sample is spread over the work."""
    count = min(len(chats), max(2, round(len(chats) * entry.share)))
    sample = [chats[i * len(chats) // count] for i in range(count)]
    result: dict[str, Any] = in_process(
        entry.run, str(folder), system, [(chat.text, chat.answer) for chat in sample], *entry.args
    )
    size = SIZES[model]
    places = [i * len(chats) // count for i in range(count)]
    texts = {places[int(i)]: text for i, text in result.pop("texts", {}).items()}
    return {
        **result,
        "texts": texts,
        "count": count,
        "rate": result["tokens"] / result["seconds"],
        "cpu_rate": result["tokens"] / result["cpu"],
        "gflops": work_flops(size, system, sample, shared=True) / result["cpu"] / 1e9,
        "gflops_wall": work_flops(size, system, sample, shared=True) / result["seconds"] / 1e9,
    }


def table(found: dict[str, dict[str, Any]], rows: list[Entry], limit: dict[str, Any], total: int) -> None:
    """Print what was measured."""
    rival = [found[r.name]["rate"] for r in rows if r.name in found and r.name.startswith("transformers")]
    rival_cpu = [found[r.name]["cpu_rate"] for r in rows if r.name in found and r.name.startswith("transformers")]
    print(f"\nGEMM limit: fp32 {limit['fp32']:,.0f} GFLOP/s, int8 {limit['int8']:,.0f} GFLOP/s")
    print("× best: to the best transformers figure. limit: needed matrix work (system prompt once) to the GEMM limit.")
    print("alike: answers that are word for word those of ours fp32 (random weights leave many a choice undecided).")
    print(
        f"{'':<28}{'tok/s':>9}{'× best':>8}{'limit':>7}{'tok/CPU s':>11}{'× best':>8}{'limit':>7}{'peak MB':>9}"
        f"{'alike':>7}"
    )
    ours = found.get("ours fp32", {}).get("texts", {})
    for row in rows:
        r = found.get(row.name)
        if r is None:
            continue
        share = "" if r["count"] == total else f"  (sample of {r['count']})"
        same = [ours[i] == text for i, text in r["texts"].items() if i in ours]
        alike = f"{sum(same) / len(same):.0%}" if same else ""
        times = f"{r['rate'] / max(rival):.2f}" if rival else ""
        times_cpu = f"{r['cpu_rate'] / max(rival_cpu):.2f}" if rival_cpu else ""
        of_limit = f"{r['gflops_wall'] / limit[row.precision]:.0%}"
        of_limit_cpu = f"{r['gflops'] / limit[row.precision + '_cpu']:.0%}"
        print(
            f"{row.name:<28}{r['rate']:>9,.0f}{times:>8}{of_limit:>7}"
            f"{r['cpu_rate']:>11,.0f}{times_cpu:>8}{of_limit_cpu:>7}{r['peak_mb']:>9,.0f}{alike:>7}{share}"
        )


def main() -> int:
    """0 when everything ran, 1 where there is no GPU for what needs one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--model", choices=sorted(SIZES), action="append", help="default: 27m and 0.6b")
    parser.add_argument("--requests", type=int, metavar="N", help="fewer requests than the full work")
    parser.add_argument("--rounds", type=int, default=1, metavar="N")
    parser.add_argument("--quick", action="store_true", help="fewer requests and peers")
    parser.add_argument("--prefix", type=int, default=195, help="tokens of the system prompt")
    parser.add_argument("--answers", type=int, nargs=2, metavar=("LEAST", "MOST"))
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="only lines whose name has such a word")
    parser.add_argument("--models-in", type=Path, metavar="DIR", help="keep the made models here")
    args = parser.parse_args()
    os.environ.update(worker_env(None))  # as the program's own worker has it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="ai-router-models-") as temporary:
        for model in args.model or ["27m", "0.6b"]:
            size = SIZES[model]
            card = in_process(gpu.card) if model.endswith("-gpu") else ""
            if card is None:
                print(f"{model}: needs a CUDA GPU and a torch built for it; there is none here.", file=sys.stderr)
                return 1
            folder = make_model((args.models_in or Path(temporary)) / model, size)
            count = args.requests or (max(8, size.requests // 4) if args.quick else size.requests)
            system, chats = make_work(size, count, prefix=args.prefix, answers=args.answers)
            print(f"\n{model}: {count} requests, {sum(c.answer for c in chats):,} answer tokens", flush=True)
            if card:
                gpu.compare(card, str(folder), system, [(chat.text, chat.answer) for chat in chats], args.rounds)
                continue
            rows = entries(model, args.quick, args.only)
            found: dict[str, dict[str, Any]] = {}
            failed: set[str] = set()
            limit: dict[str, Any] = in_process(peers.gemm_limit)
            for _ in range(args.rounds):
                for row in rows:
                    if row.name in failed:
                        continue
                    try:
                        result = measure(model, row, folder, system, chats)
                    except subprocess.CalledProcessError:
                        failed.add(row.name)
                        print(f"  {row.name}: does not run here", flush=True)
                        continue
                    best = found.get(row.name)
                    print(f"  {row.name}: {result['rate']:,.0f} tok/s", file=sys.stderr, flush=True)
                    if best is None or result["cpu_rate"] > best["cpu_rate"]:
                        found[row.name] = result
                again: dict[str, Any] = in_process(peers.gemm_limit)
                limit = {name: max(value, again[name]) for name, value in limit.items()}
            table(found, rows, limit, len(chats))
            if model == "27m" and not args.only:
                quick = args.quick
                for part, work in (
                    (extras.sharing, (folder, 16 if quick else size.requests)),
                    (extras.sizing, (folder, system, chats[: 32 if quick else 96])),
                    (extras.whole_run, (folder, system, chats[: 32 if quick else 192])),
                ):
                    try:
                        part(*work)  # type: ignore[operator]
                    except subprocess.CalledProcessError as error:
                        print(f"  {part.__name__}: does not run here ({error.returncode})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
