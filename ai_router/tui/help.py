"""All keys of the screen it was called from, and those that work everywhere."""

from __future__ import annotations

import textwrap
from functools import cached_property
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from ai_router.tui.actions import bind
from ai_router.tui.base import BaseScreen
from ai_router.tui.key_groups import Groups, help_groups
from ai_router.tui.scrolling import ScrollingScreen
from ai_router.tui.widgets.text import cut, pad

KEY_WIDTH = 16
LABEL_WIDTH = 15
LEAST_HELP = 20


class HelpScreen(ScrollingScreen[None]):
    """Made from the registry of actions and from what is bound at the moment."""

    BINDINGS: ClassVar[list[BindingType]] = bind("app.back")

    def __init__(self, about: Screen[Any]) -> None:
        super().__init__()
        crumbs = about.crumbs if isinstance(about, BaseScreen) else ()
        self.crumbs = (*crumbs, "Help")
        self.about = about

    @cached_property
    def _told(self) -> tuple[Groups, str]:
        """The keys; asked for behind the first frame."""
        return help_groups(self.about)

    def compose_body(self) -> ComposeResult:
        """The list."""
        with VerticalScroll(id="reading", classes="panel") as box:
            box.border_title = "Keys"
            yield Static(id="reading-text")

    def on_mount(self) -> None:
        """Scroll with the arrows."""
        self.query_one("#reading").focus()

    def on_resize(self) -> None:
        """The third column takes what is left."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        room = self.query_one("#reading").scrollable_content_region.width
        beside = room >= KEY_WIDTH + LABEL_WIDTH + LEAST_HELP  # else what an action does stands below its name
        indent = KEY_WIDTH + LABEL_WIDTH if beside else 2
        lines: list[Content] = []
        groups, ending = self._told
        for group, actions in groups:
            lines.append(Content.styled(group, "bold"))
            for keys, label, text in actions:
                more = textwrap.wrap(text, max(8, room - indent - 1))
                first = more.pop(0) if beside and more else ""
                head = (
                    (pad(keys, KEY_WIDTH), "bold $accent"),
                    cut(label, room) if not beside else pad(label, LABEL_WIDTH),
                )
                lines.append(Content.assemble(*head, (first, "$text-muted")))
                lines += [Content.styled(" " * indent + line, "$text-muted") for line in more]
            lines.append(Content(""))
        lines.append(Content.styled(ending, "$text-muted"))
        self.query_one("#reading-text", Static).update(Content("\n").join(lines))
