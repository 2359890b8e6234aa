"""What else is told of the torch engine: sharing alone, the sizes it finds for itself, a whole run of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, in_process
from benchmarks.engine_peers import Chats, measured, ours
from benchmarks.engine_work import SIZES, Chat, make_work

WIDTHS, CHUNKS = (32, 64, 128, 256), (128, 512)
WHOLE_TOKENS, WIDTH = 96, 256  # of a whole run


def sharing(folder: Path, count: int) -> None:
    """A system prompt of 400 tokens, texts of 10-50, answers of 20: with the prefix shared and without."""
    system, chats = make_work(SIZES["27m"], count, prefix=395, answers=(20, 20), texts=(10, 50))
    work = [(chat.text, chat.answer) for chat in chats]
    print(f"\nSharing alone, {count} chats of 400 + 10-50 tokens, answers of 20:")
    for precision in ("fp32", "int8"):
        spec = {"precision": precision, "order": "longest"}
        with_it, without = (
            in_process(ours, str(folder), system, work, {**spec, "share_prefixes": share}) for share in (True, False)
        )
        print(f"  {precision}: {_ratio(without, with_it)} as fast as with nothing shared")


def sized(folder: str, system: str, chats: Chats, width: int | None, chunk: int | None) -> dict[str, Any]:
    """The engine with a batch and a chunk of this size; None lets it find them."""
    from batch.engines.torch.engine import open_core
    from batch.engines.torch.packed import PackedRunner
    from batch.items import BatchItem, Request
    from batch.options import SamplingOptions

    core = open_core({"path": folder, "precision": "fp32", "order": "longest"}, SamplingOptions(system=system), width)
    runner = core._runner
    assert isinstance(runner, PackedRunner)
    runner.step_tokens = chunk or runner.step_tokens
    result: dict[str, Any] = {"tokens": 0, "width": core.room, "chunk": runner.step_tokens}
    with measured(result):
        for i, (text, answer) in enumerate(chats):
            core.submit(BatchItem(i, Request(text, {"params": {"max_tokens": answer}})))
        while core.busy:
            result["tokens"] += sum(response.tokens_output for response in core.step())
    return result


def sizing(folder: Path, system: str, chats: list[Chat]) -> None:
    """The sizes the engine finds beside fixed ones."""
    work = [(chat.text, chat.answer) for chat in chats]
    found = {
        (width, chunk): in_process(sized, str(folder), system, work, width, chunk)
        for width, chunk in [(None, None), *((width, chunk) for width in WIDTHS for chunk in CHUNKS)]
    }
    auto = found.pop((None, None))
    best = min(found.values(), key=lambda r: float(r["seconds"]))
    print(f"\nSizes, fp32, {len(chats)} chats: found {auto['width']} rows, chunks of {auto['chunk']};", end=" ")
    print(f"best fixed of {len(found)}: {best['width']} rows, {best['chunk']}.")
    print(f"  {_ratio(best, auto)} of the best fixed speed")


def whole_run(folder: Path, system: str, chats: list[Chat], precision: str = "fp32") -> None:
    """`ai-router run` from start to end, less a run of one prompt for one token, beside the bare engine.

    `precision` is the bare engine's, and must be what `auto` makes of the model.
    """
    work = [(chat.text, WHOLE_TOKENS) for chat in chats]
    bare, whole, starts = [], [], []  # each: seconds by the clock, and of processors
    with tempfile.TemporaryDirectory(prefix="ai-router-bench-") as scratch:
        for turn in ("first", "second"):  # the best of each: a machine's speed changes within a minute
            found = in_process(ours, str(folder), system, work, {"precision": precision}, WIDTH)
            bare.append((float(found["seconds"]), float(found["cpu"])))
            starts.append(_command(Path(scratch) / f"{turn}-one", folder, system, chats[:1], 1))
            whole.append(_command(Path(scratch) / f"{turn}-all", folder, system, chats, WHOLE_TOKENS))
    (bare_s, bare_cpu), (whole_s, whole_cpu), (start_s, start_cpu) = (
        (min(clock for clock, _ in runs), min(cpu for _, cpu in runs)) for runs in (bare, whole, starts)
    )
    seconds, cpu = whole_s - start_s, whole_cpu - start_cpu
    print(
        f"\nWhole `ai-router run`, {precision}, {len(chats)} chats, {WHOLE_TOKENS} tokens each, "
        "start and load subtracted, the best of two:"
    )
    print(f"  {bare_s / seconds:.0%} of the bare engine ({seconds:.1f} s to {bare_s:.1f} s)", end="; ")
    print(f"by processor time {bare_cpu / cpu:.0%} ({cpu:.1f} s to {bare_cpu:.1f} s)")


def _command(workspace: Path, folder: Path, system: str, chats: list[Chat], tokens: int) -> tuple[float, float]:
    """Seconds of a run of the program in a workspace of its own, by the clock and of processors, its worker's too."""
    workspace.mkdir()
    (workspace / "models.yaml").write_text(
        json.dumps({"models": {"bench": {"path": str(folder.resolve()), "engine": "torch"}}})  # not of the workspace
    )
    prompts = workspace / "prompts.txt"
    prompts.write_text("\n".join(chat.text for chat in chats))
    options = ["--model", "bench", "--system", system, "--max-tokens", str(tokens), "--workers", str(WIDTH)]
    command = [sys.executable, "-m", "ai_router", "--workspace", str(workspace), "run", str(prompts), *options, "--yes"]
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`ai-router run` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    after = os.times()  # of children that have ended, and of theirs
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - start, cpu


def _ratio(slow: dict[str, Any], fast: dict[str, Any]) -> str:
    """By the clock, and by processor time."""
    return f"{slow['seconds'] / fast['seconds']:.2f} × (by processor time {slow['cpu'] / fast['cpu']:.2f} ×)"
