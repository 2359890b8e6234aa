"""From the start of the process to the first frame, beside a Textual app that shows one line."""

from __future__ import annotations

import statistics
import subprocess

from benchmarks.common import Row, Skipped
from benchmarks.startup import seconds

TARGET = 1.35
# Each leaves as soon as its first screen has been laid out and drawn.
LEAVE = """
async def leave(pilot):
    pilot.app.call_after_refresh(pilot.app.exit)
"""
BARE = f"""{LEAVE}
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("hello")
Bare().run(headless=True, auto_pilot=leave)
"""
OURS = f"""import gc
gc.disable()  # as the command does until the first frame
{LEAVE}
import tempfile
from pathlib import Path
from ai_router.settings import Settings, Workspace
from ai_router.tui.app import RouterApp
with tempfile.TemporaryDirectory() as folder:
    RouterApp(Workspace(Path(folder), Settings(theme="dark"))).run(headless=True, auto_pilot=leave)
"""


def measure(quick: bool) -> list[Row]:
    """Pairs in alternation; the ratio of the medians."""
    try:
        seconds("-c", OURS)
    except subprocess.CalledProcessError as error:
        raise Skipped(f"the application does not start: {error.stderr.decode().strip()[-80:]}") from error
    bare, ours = [], []
    for _ in range(2 if quick else 15):
        bare.append(seconds("-c", BARE))
        ours.append(seconds("-c", OURS))
    ratio = statistics.median(ours) / statistics.median(bare)
    return [
        Row("first frame / a bare Textual app's", f"≤ {TARGET:g} ×", f"{ratio:.2f} ×", ratio <= TARGET),
        Row("  median", "", f"{statistics.median(ours) * 1000:.0f} ms", None),
    ]
