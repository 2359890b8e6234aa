"""The keys of what has the focus, beside the screen, as they are at the moment."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from ai_router.tui.key_groups import help_groups
from ai_router.tui.widgets.text import cut, pad

KEYS, LABELS = 10, 20  # cells
LEAST_WIDTH = 80  # of the screen


class KeysPanel(VerticalScroll, can_focus=False):
    """Follows what the screen binds; hidden on a screen that is narrower than `LEAST_WIDTH`."""

    DEFAULT_CSS = """
    KeysPanel {
        dock: right; width: 36; height: 1fr; padding: 0 1; margin: 1 0; background: $panel;
        border-left: outer $accent 40%;
    }
    KeysPanel > Static { height: auto; }
    """

    def compose(self) -> ComposeResult:
        """The list."""
        yield Static(id="keys-list")

    def on_mount(self) -> None:
        """Follow the screen."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.show_keys())
        self.show_keys()

    def show_keys(self) -> None:
        """The keys of now."""
        self.display = self.app.size.width >= LEAST_WIDTH
        if not self.display or not self.is_attached:
            return
        lines: list[Content] = []
        for group, actions in help_groups(self.screen)[0]:
            lines.append(Content.styled(group, "bold"))
            for keys, label, _ in actions:
                first = keys.partition("  ")[0]
                lines.append(Content.assemble((pad(first, KEYS), "bold $accent"), (cut(label, LABELS), "$text-muted")))
            lines.append(Content(""))
        self.query_one("#keys-list", Static).update(Content("\n").join(lines))
