"""Runs the benchmarks and prints one table. `--quick` only checks that they run: its figures say nothing."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time

from benchmarks.common import Row, Skipped

MODULES = (
    *("throughput", "memory", "resume", "listing", "attached", "startup", "first_frame", "keys", "rows"),
    *("evaluation", "tokenizer", "tables", "providers", "products", "attention"),
)


def run(name: str, quick: bool) -> list[Row]:
    """The rows of one benchmark; one that cannot run here is a row that says why."""
    try:
        rows: list[Row] = importlib.import_module(f"benchmarks.{name}").measure(quick)
    except Skipped as reason:
        return [Row(name, "", f"skipped: {reason}", None)]
    return rows


def main() -> int:
    """0, or 1 when a target was missed (never with `--quick`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    parser.add_argument("--quick", action="store_true", help="small sizes, no verdict: a smoke test")
    args = parser.parse_args()
    if unknown := set(args.names) - set(MODULES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        print(f"Others are at work here (load {load:.1f}): wall-clock figures are worse than they should be")
    print()
    print(f"{'what':<58} {'target':>14} {'measured':>24}")
    missed = False
    for name in args.names or MODULES:
        start = time.monotonic()
        for row in run(name, args.quick):
            verdict = "" if args.quick or row.met is None else ("  ok" if row.met else "  MISSED")
            missed |= not args.quick and row.met is False
            print(f"{row.what:<58} {row.target:>14} {row.measured:>24}{verdict}", flush=True)
        print(f"  ({name}: {time.monotonic() - start:.0f} s)", file=sys.stderr)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
