"""One action: what a key does, as bindings, footer, help and palette say it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Action:
    """What a key does. `id` is what the keymap in the settings names; `keys` are Textual key names.

    The method called is `action_<method>`; without one it is named after the last part of the id. `show` puts it into
    the footer, in the order in which a screen binds its actions.
    """

    id: str
    keys: str
    label: str
    help: str
    group: str
    show: bool = True
    method: str = ""
    priority: bool = False
    key_display: str | None = None
    title: str = ""  # in the palette, where the label says too little without its key

    @property
    def name(self) -> str:
        """The Textual action."""
        return self.method or self.id.rpartition(".")[2]

    def binding(self) -> Binding:
        """The action as a Textual binding, remappable by its id."""
        return Binding(
            self.keys,
            self.name,
            self.label,
            show=self.show,
            key_display=self.key_display,
            priority=self.priority,
            tooltip=self.help,
            id=self.id,
        )
