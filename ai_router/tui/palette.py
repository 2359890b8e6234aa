"""The palette: every action of the screens by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from ai_router.tui.actions import ACTIONS
from ai_router.tui.actions.action import Action
from ai_router.tui.places import anywhere

SKIPPED = ("Tables", "Menu", "Batch")  # what moves a cursor, and menus, whose places are found as such


class ActionProvider(Provider):
    """What can be done here (as `Group: verb`), and the places one can go to from everywhere."""

    def _commands(self) -> Iterator[tuple[str, str, Callable[[], object]]]:
        app: Any = self.app
        seen: set[str] = set()
        for active in self.screen.active_bindings.values():
            action = ACTIONS.get(active.binding.id or "")
            if action is None or action.id in seen or not active.enabled or action.group in SKIPPED:
                continue
            seen.add(action.id)
            if action.id in ("app.palette", "app.up"):
                continue
            key = app.get_key_display(active.binding)
            yield _label(action), f"{action.help}  ({key})", partial(app.run_action, active.binding.action, active.node)
        yield from places(app)

    async def discover(self) -> Hits:
        """Everything, before a word is typed."""
        for label, help_text, call in self._commands():
            yield DiscoveryHit(label, cast("Callable[[], None]", call), help=help_text)

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for label, help_text, call in self._commands():
            if (score := matcher.match(label)) > 0:
                yield Hit(score, matcher.highlight(label), cast("Callable[[], None]", call), help=help_text)


def _label(action: Action) -> str:
    return f"{action.group}: {action.title or action.label}"


def places(app: Any) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Where one can go from everywhere, and the themes."""
    for place in anywhere():
        yield f"Go to: {place.title}", place.help, partial(app.go, place.name)
    yield "Help: tour", "What is where, in six steps", partial(app.run_action, "tour")
    yield "Theme: begin one of your own", "A file with the colours of now", app.begin_theme
    for theme in app.available_themes:
        yield f"Theme: {theme}", "Until the end of this session; Settings keeps it", partial(app.apply_theme, theme)
