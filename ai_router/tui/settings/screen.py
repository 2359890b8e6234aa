"""The settings as a form, with the theme shown as it is chosen."""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from ai_router.settings import Settings, Workspace
from ai_router.tui import themes
from ai_router.tui.actions import bind, unknown_actions
from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.jobs.view import home
from ai_router.tui.widgets.form import OptionField, OptionForm
from batch.options import OptionError, options_dict

OWN = (themes.DARK.name, themes.LIGHT.name)
FORM_FIELDS = [spec.name for spec in fields(Settings) if spec.name not in ("keymap", "theme")]


class SettingsScreen(BaseScreen[None]):
    """Made from the fields of `Settings`; saved to `ai-router.yaml` after saying where that is."""

    CSS_PATH = "screen.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bind("settings.save", "settings.keys", "settings.reset", "app.back")

    def __init__(self) -> None:
        super().__init__()
        self.crumbs = ("Settings",)
        self._theme = ""

    def compose_body(self) -> ComposeResult:
        """Themes and form."""
        settings = self.services.workspace.settings
        self._theme = settings.theme
        names = [themes.AUTO, *sorted(self.app.available_themes, key=lambda name: name not in OWN)]
        with Container(id="settings-columns"):
            choice = OptionList(
                *(Option(Content(name), id=f"theme-{name}") for name in names), id="themes", classes="panel"
            )
            choice.border_title = "Theme"
            choice.highlighted = names.index(settings.theme) if settings.theme in names else 0
            yield choice
            with VerticalScroll(id="settings-form", classes="panel", can_focus=False) as box:
                box.border_title = "Settings"
                yield OptionForm(Settings, settings, only=FORM_FIELDS, whole=True)
                yield Static(self._keymap_text(settings), id="settings-keymap", markup=False)
                with Horizontal(id="settings-buttons"):
                    yield Button("Save", id="settings-save", variant="primary", compact=True)
                    yield Button("Keys", id="settings-keys", compact=True)
                    yield Button("Undo changes", id="settings-reset", compact=True)

    def on_mount(self) -> None:
        """Say where it is kept."""
        self.context_text = home(self.services.workspace.config_file)
        self.query_one("#themes").focus()

    @staticmethod
    def _keymap_text(settings: Settings) -> str:
        if not settings.keymap:
            return "f3 changes keys; in the file:  keymap: {jobs.delete: ctrl+d}"
        pairs = ", ".join(f"{name} {key}" for name, key in settings.keymap.items())
        unknown = unknown_actions(settings.keymap)
        return f"keys changed: {pairs}" + (f"   (unknown: {', '.join(unknown)})" if unknown else "")

    # -- theme ----------------------------------------------------------------------------------------------------

    @on(OptionList.OptionHighlighted, "#themes")
    def _preview(self, event: OptionList.OptionHighlighted) -> None:
        name = (event.option.id or "").removeprefix("theme-")
        if name and name != self._theme:
            self._theme = name
            self.services.apply_theme(name)
            self._changed()

    @on(OptionList.OptionSelected, "#themes")
    def _chosen(self) -> None:
        self.query_one("#settings-form Input", Input).focus()

    # -- form -----------------------------------------------------------------------------------------------------

    def _values(self) -> Settings:
        """The form as settings; raises OptionError."""
        values = self.query_one(OptionForm).values()
        kept = self.services.workspace.settings
        return Settings(**values, theme=self._theme, keymap=kept.keymap)

    def is_changed(self) -> bool:
        """Whether something here differs from what is kept; a value that cannot be counts too."""
        try:
            return self._values() != self.services.workspace.settings
        except OptionError:
            return True

    @on(OptionField.Changed)
    def _changed(self) -> None:
        self.query_one("#settings-form").border_subtitle = "changed, not saved" if self.is_changed() else ""

    @on(Button.Pressed, "#settings-save")
    def action_save(self) -> None:
        """Write the file, after saying which."""
        try:
            settings = self._values()
        except OptionError as error:
            self.query_one(OptionForm).focus_error()
            self.services.show_error(error)
            return
        target = Workspace(self.services.workspace.root, settings)
        changes = options_dict(settings)
        lines = [f"{name}: {value}" for name, value in changes.items()] or ["(all as they come)"]
        text = f"{home(target.config_file)} will say:\n\n" + "\n".join(lines)

        def answered(choice: str | None) -> None:
            if choice == "save":
                self.in_thread(lambda: _save(target), lambda _: self._saved(target), group="save")

        buttons = [("save", "Save", "primary"), ("cancel", "Cancel", "")]
        self.app.push_screen(ConfirmDialog("Save the settings?", text, buttons), answered)

    def _saved(self, target: Workspace) -> None:
        self.services.take_settings(target.settings)
        self._changed()
        self.notify(f"Saved in {target.config_file}", markup=False)

    @on(Button.Pressed, "#settings-keys")
    def action_keys(self) -> None:
        """All actions with their keys."""
        from ai_router.tui.settings.keys import KeysScreen

        self.app.push_screen(KeysScreen(), lambda _: self._keys_changed())

    def _keys_changed(self) -> None:
        self.query_one("#settings-keymap", Static).update(self._keymap_text(self.services.workspace.settings))

    @on(Button.Pressed, "#settings-reset")
    def action_reset(self) -> None:
        """Back to what is kept."""
        self.services.apply_theme(self.services.workspace.settings.theme)
        self.app.switch_screen(SettingsScreen())

    def action_back(self) -> None:
        """Asks when there are changes."""
        if not self.is_changed():
            super().action_back()
            return

        def answered(choice: str | None) -> None:
            if choice == "save":
                self.action_save()
            elif choice == "discard":
                self.services.apply_theme(self.services.workspace.settings.theme)
                self.dismiss()

        buttons = [("save", "Save", "primary"), ("discard", "Discard", "error"), ("keep", "Keep editing", "")]
        self.app.push_screen(ConfirmDialog("Leave without saving?", "There are changes here.", buttons), answered)


def _save(target: Workspace) -> None:
    from ai_router.settings import save_settings

    save_settings(target)
