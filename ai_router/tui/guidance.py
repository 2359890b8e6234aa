"""Finding one's way: keys, documentation, letters to jump by, and a tour for who is here for the first time."""

from __future__ import annotations

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.base import BaseScreen
from ai_router.tui.behind import BehindApp
from ai_router.tui.dialogs import Dialog
from ai_router.tui.leaving import LeavingApp

KEYS_KEY = "keys.shown"
MARKDOWN_KEY = "markdown"


class GuidedApp(LeavingApp, BehindApp):
    """An app that explains itself."""

    keys_shown: bool
    _markdown: bool | None = None

    @property
    def markdown(self) -> bool:
        """Whether answers are shown as Markdown, wherever they are read."""
        if self._markdown is None:
            self._markdown = bool(Memory(self.workspace.checkpoints).recall(MARKDOWN_KEY, True))
        return self._markdown

    def turn_markdown(self) -> None:
        """Show answers as Markdown from now on, or as they came; remembered."""
        self._markdown = not self.markdown
        self._keep(MARKDOWN_KEY, None if self._markdown else False)

    def _keep(self, key: str, value: object) -> None:
        try:
            Memory(self.workspace.checkpoints).keep(key, value)
        except MemoryFileError as error:
            self.show_error(error)

    def action_help(self) -> None:
        """All keys of this screen."""
        from ai_router.tui.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_docs(self) -> None:
        """The documentation, opened at what has the focus."""
        self.open_docs()

    def open_docs(self, title: str = "") -> None:
        """The documentation at a heading, else at that of what has the focus."""
        from ai_router.tui.docs import DocsScreen

        if isinstance(self.screen, BaseScreen | Dialog) and not isinstance(self.screen, DocsScreen):
            self.push_screen(DocsScreen(getattr(self.screen, "about", self.screen), title))

    def action_command_palette(self) -> None:
        """Find anything by name."""
        from ai_router.tui.behind import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def action_jump(self) -> None:
        """Letters on everything that can be reached."""
        from ai_router.tui.jump import JumpScreen, targets_of

        if isinstance(self.screen, BaseScreen) and (targets := targets_of(self.screen)):
            self.push_screen(JumpScreen(targets))

    def action_toggle_keys(self) -> None:
        """Keep the keys beside the screens, or not."""
        from ai_router.tui.widgets.keys_panel import LEAST_WIDTH

        self.keys_shown = not self.keys_shown
        if isinstance(self.screen, BaseScreen):
            self.screen.show_keys()
        if self.keys_shown and self.size.width < LEAST_WIDTH:
            self.notify(f"They are shown from {LEAST_WIDTH} columns on; ? shows them here", timeout=4)
        self._keep(KEYS_KEY, self.keys_shown or None)

    def action_tour(self) -> None:
        """What is where, in six steps."""
        from ai_router.tui.tour import TourDialog

        self.push_screen(TourDialog())
