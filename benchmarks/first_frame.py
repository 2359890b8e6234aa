"""From the start of the process to the first frame, beside a Textual app that shows one line."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.common import ROOT, Row, Skipped

TARGET = 1.35
# Each says when its first frame has been displayed (which is what Textual's Ready event means), and leaves.
BARE = """
import sys, time
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("hello")
    def on_ready(self):
        print(time.time(), file=sys.stderr)
        self.exit()
Bare().run(headless=True)
"""
OURS = """
import gc
gc.disable()  # as the command does until the first frame
import sys, tempfile, time
from pathlib import Path
from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
class Ours(RouterApp):
    def on_ready(self):
        print(time.time(), file=sys.stderr)
        self.exit()
with tempfile.TemporaryDirectory() as folder:
    Ours(Workspace(Path(folder), Settings(theme="dark"))).run(headless=True)
"""


def seconds(script: str) -> float:
    """From the start of a process to its first frame."""
    start = time.time()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    return float(done.stderr.splitlines()[-1]) - start


def measure(quick: bool) -> list[Row]:
    """Pairs in alternation; the ratio of the medians."""
    try:
        seconds(OURS)
    except subprocess.CalledProcessError as error:
        raise Skipped(f"the application does not start: {error.stderr.decode().strip()[-80:]}") from error
    bare, ours = [], []
    for _ in range(2 if quick else 15):
        bare.append(seconds(BARE))
        ours.append(seconds(OURS))
    ratio = statistics.median(ours) / statistics.median(bare)
    return [
        Row("first frame / a bare Textual app's", f"≤ {TARGET:g} ×", f"{ratio:.2f} ×", ratio <= TARGET),
        Row("  median", "", f"{statistics.median(ours) * 1000:.0f} ms", None),
    ]
