"""Ways to drive the program as a person does, and to wait for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from textual import events
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.pilot import Pilot
from textual.screen import Screen

from ai_router.tui.app import RouterApp

S = TypeVar("S", bound=Screen[Any])
NAMES = {" ": "space", "/": "slash", ".": "full_stop", "_": "underscore", "-": "minus", ":": "colon", "~": "tilde"}


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 90.0) -> None:
    """Let the program go on until something holds."""
    loop = asyncio.get_running_loop()
    end, wait = loop.time() + seconds, 0.005
    while not condition():
        if pilot.app._exception is not None:
            raise pilot.app._exception
        if loop.time() > end:
            raise AssertionError(f"not within {seconds} s:\n{shown(pilot.app)}")
        await asyncio.sleep(wait)
        wait = min(1.3 * wait, 0.05)  # to look draws the screen: it is not to take the time of what is waited for


async def on_screen(pilot: Pilot[Any], kind: type[S], seconds: float = 90.0) -> S:
    """Wait for a kind of screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, kind), seconds)
    await pilot.pause()
    screen = pilot.app.screen
    assert isinstance(screen, kind)
    return screen


async def type_text(pilot: Pilot[Any], text: str) -> None:
    """Press a key a character."""
    await pilot.press(*(NAMES.get(character, character) for character in text))


async def paste(pilot: Pilot[Any], text: str) -> None:
    """A bracketed paste, as the terminal sends it."""
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()


def shown(app: Any) -> str:
    """What is on the screen, line by line."""
    size = app.size
    lines = app.screen._compositor.render_strips(size)
    return "\n".join(strip.text.rstrip() for strip in lines)


def footer(app: RouterApp) -> list[str]:
    """The labels in the footer."""
    from ai_router.tui.widgets.chrome import KeyFooter

    return [entry.label for entry in app.screen.query_one(KeyFooter).entries()]


def styled_as_by_textual(app: RouterApp) -> None:
    """Every node of the screen has the styles that Textual's own style sheet gives it."""
    plain = Stylesheet(variables=app.get_css_variables())
    plain.source = app.stylesheet.source.copy()
    plain.reparse()

    def styles(node: DOMNode) -> object:
        return node.styles.base.get_rules(), {
            name: part.base.get_rules() for name, part in node._component_styles.items()
        }

    for node in app.screen.walk_children(with_self=True):
        ours = styles(node)
        plain.apply(node)
        assert ours == styles(node), node
