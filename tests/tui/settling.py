"""What makes programs under test quick: when one has settled after a key, and style sheets that are parsed once."""

from __future__ import annotations

import asyncio
from time import process_time
from typing import Any

from textual._context import active_app
from textual.css.stylesheet import Stylesheet

GRAIN = 0.003  # seconds between two looks
WORKING = GRAIN / 4  # seconds of work within that time
MOST = 0.3  # seconds in all: what moves for ever is waited for no longer
DRAWING = ("_layout_required", "_scroll_required", "_repaint_required", "_recompose_required", "_dirty_widgets")


async def settled(min_sleep: float = 0.0, max_sleep: float = MOST) -> None:
    """Until nothing is queued or to be drawn and no thread works; in place of Textual's own `wait_for_idle`.

    Textual's looks at the processor's time alone: 20 ms at least, up to 2 s a key beside a thread that works, and
    over at once where a busy machine gives the program no time.
    """
    loop: Any = asyncio.get_running_loop()
    end = loop.time() + min(max_sleep, MOST)
    while True:
        before = process_time()
        await asyncio.sleep(GRAIN)
        working = process_time() - before > WORKING
        for _ in range(3):  # what is queued queues more
            await asyncio.sleep(0)
            working = working or bool(getattr(loop, "_ready", ()))
        if loop.time() > end or not (working or _drawing(active_app.get(None))):
            return


_parse_rules = Stylesheet._parse_rules
_parsed: dict[Any, Any] = {}


def parsed_once(self: Stylesheet, *args: Any, **options: Any) -> Any:
    """The rules of a style sheet, the same for every program of the same colours: a quarter of a program's start."""
    key = (args, frozenset(options.items()), frozenset(self._variables.items()))
    if key not in _parsed:
        _parsed[key] = _parse_rules(self, *args, **options)
    return _parsed[key]


def _drawing(app: Any) -> bool:
    """Whether the screen has something to draw, or to call once it is drawn."""
    if app is None or not app._screen_stack:
        return False
    screen = app.screen
    return bool(screen._callbacks) or any(getattr(screen, name) for name in DRAWING)
