"""All actions with their keys, to be changed: what else a key does on the same screens is named before it is taken."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.keys import format_key as shown_key
from textual.widgets import Button, Input, Static

from ai_router.settings import Settings, Workspace, save_settings
from ai_router.tui.actions import ACTIONS, bind
from ai_router.tui.actions.action import Action
from ai_router.tui.base import BaseScreen
from ai_router.tui.dialogs import Dialog
from ai_router.tui.widgets.button_row import ButtonRow
from ai_router.tui.widgets.find_input import FilterInput
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import plural

RESERVED = {"escape": "goes back", "ctrl+q": "leaves the program", "ctrl+c": "copies, and leaves when pressed twice",
            "ctrl+p": "opens the palette", "tab": "goes to the next field",
            "shift+tab": "goes to the field before"}  # fmt: skip
SAME = {"ctrl+m": "enter", "ctrl+i": "tab", "ctrl+h": "backspace", "ctrl+left_square_bracket": "escape"}
EVERYWHERE = ("Everywhere", "Tables")  # groups whose keys work on screens of every kind


def keys_of(action: Action, keymap: Mapping[str, str]) -> list[str]:
    """The keys of an action, by Textual's names."""
    return [key.strip() for key in keymap.get(action.id, action.keys).split(",") if key.strip()]


def bound_together() -> list[frozenset[str]]:
    """The actions that are bound on each kind of screen; imports all of them, so it is for a thread."""
    import ai_router.tui as package

    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

    def kinds(kind: type[Any]) -> Iterator[type[Any]]:
        for below in kind.__subclasses__():
            yield below
            yield from kinds(below)

    found = []
    screens: tuple[type[Any], ...] = (BaseScreen, *kinds(BaseScreen))
    for kind in screens:
        bindings = kind._merged_bindings
        ids = {b.id for held in bindings.key_to_bindings.values() for b in held if b.id} if bindings else set()
        found.append(frozenset(ids & set(ACTIONS)))
    return found


def conflicts(name: str, key: str, keymap: Mapping[str, str], together: list[frozenset[str]]) -> list[Action]:
    """The other actions that a key would do on a screen where this action is."""
    screens = [ids for ids in together if name in ids]
    mine = ACTIONS[name].group
    found = []
    for action in ACTIONS.values():
        if action.id == name or key not in keys_of(action, keymap):
            continue
        everywhere = mine in EVERYWHERE or action.group in EVERYWHERE
        if everywhere or action.group == mine or any(action.id in ids for ids in screens):
            found.append(action)
    return found


def names_of(key: str) -> str:
    """All names that terminals have for a key: a capital letter comes in two forms."""
    return f"{key},shift+{key.lower()}" if len(key) == 1 and key.isupper() else key


def shown(key: str) -> str:
    """A key as the footer has it."""
    return shown_key(key).replace("ctrl+", "^")


class KeyDialog(Dialog[str], inherit_bindings=False):  # the arrows, too, may be wanted
    """Waits for a key; answers with it when it is to be kept. Escape cancels."""

    title_text = "Which key?"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", show=False, priority=True),
        Binding("tab", "app.focus_next", show=False),
        Binding("shift+tab", "app.focus_previous", show=False),
    ]

    def __init__(self, action: Action, keymap: Mapping[str, str], together: list[frozenset[str]]) -> None:
        super().__init__()
        self._action, self._keymap, self._together = action, keymap, together
        self.key = ""

    def compose_dialog(self) -> ComposeResult:
        """What was pressed, what else it does."""
        yield Static(f"{self._action.group}: {self._action.label}", markup=False)
        yield Static("Press the key it is to have.", id="key-said")
        with ButtonRow(id="dialog-buttons"):
            yield Button("Keep it", id="key-keep", variant="primary", compact=True)
            yield Button("Another key", id="key-again", compact=True)

    def on_mount(self) -> None:
        """Wait."""
        self.query_one("#dialog-buttons").display = False
        self.set_focus(None)

    def on_key(self, event: events.Key) -> None:
        """The key."""
        if self.key:
            return
        event.stop()
        event.prevent_default()
        self._take(event.key)

    def _take(self, key: str) -> None:
        name = shown(key)
        said = self.query_one("#key-said", Static)
        if why := RESERVED.get(key):
            said.update(Content.styled(f"{name} {why}, always. Press another one.", "$text-error"))
            return
        self.key = key
        lines = [Content.assemble(("key  ", "$text-muted"), (name, "bold $accent"))]
        if same := SAME.get(key):
            text = f"Most terminals cannot tell it from {same}: there it does nothing."
            lines.append(Content.styled(text, "$text-warning"))
        for other in conflicts(self._action.id, key, self._keymap, self._together):
            lines.append(Content.styled(f"{other.group}: {other.label} has it already ({other.id})", "$text-warning"))
        said.update(Content("\n").join(lines))
        self.query_one("#dialog-buttons").display = True
        self.query_one("#key-keep").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Keep it, or wait for another one."""
        if event.button.id == "key-keep":
            self.dismiss(self.key)
        else:
            self.key = ""
            self.query_one("#key-said", Static).update("Press the key it is to have.")
            self.on_mount()


class KeysScreen(BaseScreen[None]):
    """A list of all actions; what is changed is kept in `ai-router.yaml` at once."""

    CSS = """
    #keys-find { display: none; padding: 0 2; }
    #keys-said { height: auto; max-height: 3; padding: 0 2; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = bind("keys.change", "keys.own", "keys.find", "app.back")

    def __init__(self) -> None:
        super().__init__()
        self.crumbs = ("Settings", "Keys")
        self._shown: list[Action] = list(ACTIONS.values())
        self._together: list[frozenset[str]] = []

    def compose_body(self) -> ComposeResult:
        """Field and list."""
        yield FilterInput(placeholder="words of an action, or a key", id="keys-find")
        columns = [Column("", 1), Column("Keys", 16), Column("Action", flex=3), Column("Where", 14, from_width=90),
                   Column("What it does", flex=5, from_width=56)]  # fmt: skip
        table = VirtualTable(columns, self._rows, empty="None is like that.", id="keys", classes="panel")
        table.border_title = "Keys"
        yield table
        yield Static(id="keys-said")

    def on_mount(self) -> None:
        """Which actions meet on which screens is found in a thread."""
        self._find("")
        self.query_one(VirtualTable).focus()
        self.in_thread(bound_together, self._know, group="together")

    def _know(self, together: list[frozenset[str]]) -> None:
        self._together = together

    @property
    def keymap(self) -> dict[str, str]:
        """What was changed."""
        return self.services.workspace.settings.keymap

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [
            (
                ("●" if action.id in self.keymap else "", "accent"),
                ("  ".join(dict.fromkeys(shown(key) for key in keys_of(action, self.keymap)
                                         if not key.startswith("shift+"))), "accent"),
                action.title or action.label,
                (action.group, "muted"),
                (action.help, "muted"),
            )
            for action in self._shown[start:stop]
        ]  # fmt: skip

    def _find(self, words: str) -> None:
        wanted = words.casefold().split()

        def text(action: Action) -> str:
            keys = " ".join(shown(key) for key in keys_of(action, self.keymap))
            return f"{action.group} {action.label} {action.help} {action.id} {keys}".casefold()

        self._shown = [action for action in ACTIONS.values() if all(word in text(action) for word in wanted)]
        table = self.query_one(VirtualTable)
        table.set_count(len(self._shown), keep=False)
        table.border_subtitle = Content(f"{plural(len(self._shown), 'action')} · {len(self.keymap)} changed")
        self._say_more()

    @on(VirtualTable.Highlighted)
    def _say_more(self) -> None:
        """The action under the cursor by its name in the file, and all of what it does: no column has room for it."""
        action = self._at_hand
        said = Content.assemble((action.id, "$accent"), f"  {action.help}") if action is not None else Content("")
        self.query_one("#keys-said", Static).update(said)

    @on(Input.Changed, "#keys-find")
    def _typed(self, event: Input.Changed) -> None:
        self._find(event.value)

    @on(Input.Submitted, "#keys-find")
    def _to_list(self) -> None:
        self.query_one(VirtualTable).focus()

    @property
    def _at_hand(self) -> Action | None:
        cursor = self.query_one(VirtualTable).cursor
        return self._shown[cursor] if cursor < len(self._shown) else None

    @on(VirtualTable.Selected)
    def action_change(self) -> None:
        """Give the action under the cursor another key."""
        if (action := self._at_hand) is None:
            return

        def chosen(key: str | None) -> None:
            if key:
                self._keep({**self.keymap, action.id: names_of(key)})

        self.app.push_screen(KeyDialog(action, self.keymap, self._together), chosen)

    def action_own(self) -> None:
        """Its own keys again."""
        if (action := self._at_hand) is not None and action.id in self.keymap:
            self._keep({name: key for name, key in self.keymap.items() if name != action.id})

    def _keep(self, keymap: dict[str, str]) -> None:
        root, settings = self.services.workspace.root, replace(self.services.workspace.settings, keymap=keymap)

        def kept(settings: Settings) -> None:
            self.services.take_settings(settings)
            table = self.query_one(VirtualTable)
            table.refresh_rows()
            table.border_subtitle = Content(f"{plural(len(self._shown), 'action')} · {len(keymap)} changed")

        def save() -> Settings:
            save_settings(Workspace(root, settings))
            return settings

        self.in_thread(save, kept, group="save")

    def action_find(self) -> None:
        """Type words or a key."""
        field = self.query_one("#keys-find", Input)
        field.display = True
        field.focus()

    def action_back(self) -> None:
        """Out of the search first."""
        field = self.query_one("#keys-find", Input)
        if field.display:
            field.value, field.display = "", False
            self.query_one(VirtualTable).focus()
        else:
            super().action_back()
