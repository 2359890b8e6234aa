"""How long `ai-router --help` takes, in units of a Python that does nothing, and what it must not import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.common import ROOT, Row, Skipped

TARGET = 5.0
HEAVY = ("textual", "rich", "torch", "transformers", "mlx", "openai", "google", "asyncio")
FORBIDDEN = ("textual", "torch", "transformers", "mlx", "openai", "google")
IMPORTED = f"""
import sys
sys.argv = ["ai-router", "--help"]
from ai_router.cli.main import main
try:
    main()
except SystemExit:
    pass
print("\\n" + ",".join(name for name in {HEAVY!r} if name in sys.modules))
"""


def seconds(*arguments: str) -> float:
    """Of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(quick: bool) -> list[Row]:
    """Pairs in alternation; the ratio of the medians."""
    try:
        seconds("-m", "ai_router", "--help")
    except subprocess.CalledProcessError as error:
        raise Skipped(f"ai-router --help fails: {error.stderr.decode().strip()[-80:]}") from error
    bare, ours = [], []
    for _ in range(3 if quick else 21):
        bare.append(seconds("-c", "pass"))
        ours.append(seconds("-m", "ai_router", "--help"))
    ratio = statistics.median(ours) / statistics.median(bare)
    found = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = [name for name in found.stdout.splitlines()[-1].split(",") if name]
    forbidden = [name for name in heavy if name in FORBIDDEN]
    return [
        Row("ai-router --help / python -c pass", f"≤ {TARGET:g} ×", f"{ratio:.1f} ×", ratio <= TARGET),
        Row("  median", "", f"{statistics.median(ours) * 1000:.0f} ms", None),
        Row("  heavy modules imported by --help", "none", ", ".join(heavy) or "none", not forbidden),
    ]
