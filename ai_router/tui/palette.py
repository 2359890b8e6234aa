"""The palette: every action of the screens by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from ai_router.tui.actions import ACTIONS, Action


class ActionProvider(Provider):
    """What can be done here (as `Group: verb`), and the places one can go to from everywhere."""

    def _commands(self) -> Iterator[tuple[str, str, Callable[[], object]]]:
        from ai_router.tui.app import RouterApp

        app = cast(RouterApp, self.app)
        seen: set[str] = set()
        for active in self.screen.active_bindings.values():
            action = ACTIONS.get(active.binding.id or "")
            if action is None or action.id in seen or not active.enabled or action.group == "Tables":
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
    return f"{action.group}: {action.label}"


def places(app: object) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Where one can go from everywhere, and the themes."""
    from ai_router.tui.app import RouterApp

    assert isinstance(app, RouterApp)
    for name, label, help_text in (
        ("ask", "Go to: Ask", "One prompt, answered while you watch"),
        ("models", "Go to: Models", "The models there are, and which are ready"),
        ("jobs", "Go to: Jobs and results", "All jobs: read, export, resume, delete"),
        ("score", "Go to: Score a results file", "A results file, or a job with known answers"),
        ("settings", "Go to: Settings", "Theme, folders, notifications, keys"),
        ("batch", "Go to: Batch Processing Mode", "Answer many prompts"),
        ("home", "Go to: Main menu", "Back to the beginning"),
    ):
        yield label, help_text, partial(app.go, name)
    for theme in app.available_themes:
        yield f"Theme: {theme}", "Until the end of this session; Settings keeps it", partial(app.apply_theme, theme)
