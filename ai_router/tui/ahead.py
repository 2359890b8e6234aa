"""What the screens need is got ready behind the first frame, so that a screen opens at first as soon as later."""

from __future__ import annotations

import gc
import importlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.tui.places import PLACES

if TYPE_CHECKING:
    from textual.app import App

# What places do not name: screens that others open, and what is only imported where it is used.
OTHERS = (
    *("help", "jump", "docs", "leaving", "dialogs", "panes.mode", "results.reading", "results.dialogs"),
    *("setup.options", "compare.table", "semantic.result", "run.leave", "widgets.markdown"),
)
BREATH = 0.01  # seconds between two modules, in which keys are answered


def get_ready(app: App[Any]) -> None:
    """Import all screens in a thread, then read their styles in one go."""

    def work() -> None:
        names = [place.screen.partition(":")[0] for place in PLACES.values() if place.screen]
        for name in dict.fromkeys([*names, *(f"ai_router.tui.{other}" for other in OTHERS)]):
            if not app.is_running:
                return
            try:
                importlib.import_module(name)
            except ImportError:  # said by whoever goes there
                continue
            time.sleep(BREATH)
        app.call_later(_styled, app)

    threading.Thread(target=work, name="screens-ahead", daemon=True).start()


def _styled(app: App[Any]) -> None:
    """All style sheets of the screens at once: each new one has all of them gone through again."""
    paths = [str(path) for path in sorted(Path(__file__).resolve().parent.rglob("*.tcss"))]
    new = [path for path in paths if not app.stylesheet.has_source(path, "")]
    for path in new:
        app.stylesheet.read(path)
    if new:
        app.stylesheet.reparse()
        app.stylesheet.update(app)
    gc.collect()
    gc.freeze()  # what is there now stays; looked through again and again, it would hold up keys
