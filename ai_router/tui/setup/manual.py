"""Prompts typed or pasted: add, change, delete, take back; an empty line finishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, Input

from ai_router.memory import Memory, MemoryFileError
from ai_router.tui.actions import bind
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.widgets.prompt_input import PromptInput
from ai_router.tui.widgets.table import Column, Row, VirtualTable
from ai_router.tui.widgets.text import plural
from batch.sources import from_prompts

MOST_UNDO = 200
KEY = "manual.prompts"
MOST_KEPT = 2_000_000  # characters that are kept for the next time
EMPTY = (
    "No prompts yet.\n\nType one below and press enter, or paste many lines at once.\nEnter on an empty line finishes."
)


class PromptList:
    """Numbered prompts with a way back; each change leaves a function that reverts it."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self._undo: list[tuple[str, Callable[[], None]]] = []

    def add(self, prompts: list[str], index: int | None = None) -> None:
        """Put prompts at a place, without one at the end."""
        start = len(self.prompts) if index is None else index
        self.prompts[start:start] = prompts
        self._remember(f"{plural(len(prompts), 'prompt')} added", lambda: self._remove(start, len(prompts)))

    def change(self, index: int, prompt: str) -> None:
        """Another text for a prompt."""
        before, self.prompts[index] = self.prompts[index], prompt
        self._remember(f"prompt {index + 1:,} changed", lambda: self.prompts.__setitem__(index, before))

    def delete(self, index: int) -> None:
        """Take a prompt out."""
        prompt = self.prompts.pop(index)
        self._remember(f"prompt {index + 1:,} deleted", lambda: self.prompts.insert(index, prompt))

    def undo(self) -> str | None:
        """Revert the last change; says which it was, None where there is none."""
        if not self._undo:
            return None
        what, revert = self._undo.pop()
        revert()
        return what

    def _remove(self, start: int, count: int) -> None:
        del self.prompts[start : start + count]

    def _remember(self, what: str, revert: Callable[[], None]) -> None:
        self._undo.append((what, revert))
        del self._undo[:-MOST_UNDO]


class ManualScreen(FlowScreen):
    """The list above, a field below; the field adds, or changes the prompt that was chosen for it."""

    CSS_PATH = "manual.tcss"
    AUTO_FOCUS = "PromptInput"
    BINDINGS: ClassVar[list[BindingType]] = [
        *bind("manual.next", "manual.edit", "manual.delete", "manual.undo", "manual.add"),
        Binding("ctrl+z", "undo", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.set_reactive(FlowScreen.crumbs, ("Batch", "Manual entry"))
        self.list = PromptList()
        self.editing: int | None = None
        self._draft = ""  # what was typed before an edit began
        self._discarded = False

    def compose_body(self) -> ComposeResult:
        """List, field, buttons."""
        table = VirtualTable(
            [Column("#", 7, right=True), Column("Prompt")], self._rows, empty=EMPTY, id="prompts", classes="panel"
        )
        yield table
        with Horizontal(id="entry", classes="panel"):
            yield PromptInput(
                placeholder="type a prompt, or paste many lines; an empty line finishes",
                select_on_focus=False,
                id="prompt",
            )
        with Horizontal(id="buttons"):
            yield Button("Continue", id="continue", variant="primary", disabled=True)

    def on_mount(self) -> None:
        """Take up what was typed and led to no run."""
        self._begin_with(self._memory.recall(KEY))
        self._changed()

    def on_unmount(self) -> None:
        """Keep what was typed and is not run."""
        prompts, typed = self.list.prompts, self._draft if self.editing is not None else self._typed
        small = sum(map(len, prompts)) + len(typed) <= MOST_KEPT
        kept = {"prompts": prompts, "typed": typed} if (prompts or typed) and small else None
        try:
            if (kept := None if self.used or self._discarded else kept) or self._memory.recall(KEY):
                self._memory.keep(KEY, kept)
        except MemoryFileError as error:
            self.services.show_error(error)

    @property
    def _memory(self) -> Memory:
        return Memory(self.services.workspace.checkpoints)

    def _begin_with(self, kept: object) -> None:
        """What another version kept may be anything."""
        if not isinstance(kept, dict):
            return
        prompts, typed = kept.get("prompts"), kept.get("typed")
        if isinstance(prompts, list) and all(isinstance(prompt, str) for prompt in prompts):
            self.list.prompts = prompts
        if isinstance(typed, str):
            self.query_one(PromptInput).value = typed
        if self.list.prompts:
            self.notify(f"{plural(len(self.list.prompts), 'prompt')} as you left them", timeout=3, markup=False)

    _typed = ""

    @on(Input.Changed)
    def _typing(self, event: Input.Changed) -> None:
        self._typed = event.value

    def _rows(self, start: int, stop: int) -> list[Row]:
        return [(f"{n + 1:,}", self.list.prompts[n]) for n in range(start, min(stop, len(self.list.prompts)))]

    def _changed(self, cursor: int | None = None) -> None:
        """The list is another one: show it."""
        prompts = self.list.prompts
        table = self.query_one(VirtualTable)
        cursor = table.cursor if cursor is None else cursor
        table.set_count(len(prompts))
        table.move_cursor(cursor)
        table.border_title = "Prompts"
        table.border_subtitle = Content(plural(len(prompts), "prompt") if prompts else "")
        entry = self.query_one("#entry")
        entry.border_title = Content(
            f"Prompt {len(prompts) + 1:,}" if self.editing is None else f"Edit prompt {self.editing + 1:,}"
        )
        entry.border_subtitle = "enter keeps it, esc leaves it as it was" if self.editing is not None else ""
        self.query_one("#continue", Button).disabled = not prompts
        self.refresh_bindings()

    # -- typing ---------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        field, text = self.query_one(PromptInput), event.value.strip()
        if self.editing is not None:
            index, self.editing = self.editing, None
            if text and text != self.list.prompts[index]:
                self.list.change(index, text)
            elif not text:
                self.list.delete(index)
                self.notify(f"Prompt {index + 1:,} deleted; ctrl+z takes it back", markup=False)
            field.value, self._draft = self._draft, ""
            self._changed(index)
            self._back_to_list()
            return
        if text:
            self.list.add([text])
            self._changed(len(self.list.prompts) - 1)
        else:
            self.action_proceed()

    @on(PromptInput.Pasted)
    def _pasted(self, event: PromptInput.Pasted) -> None:
        if not event.prompts:
            return
        index, self.editing = self.editing, None
        if index is not None:  # the first line is the edited prompt's new text, the others follow it
            self.list.change(index, event.prompts[0])
        self.list.add(event.prompts if index is None else event.prompts[1:], None if index is None else index + 1)
        self._changed(len(self.list.prompts) - 1 if index is None else index)
        self.notify(f"{plural(len(event.prompts), 'prompt')} pasted; ctrl+z takes them back", markup=False)

    def on_key(self, event: events.Key) -> None:
        """Up from the field goes into the list, down from its last row comes back."""
        table = self.query_one(VirtualTable)
        if event.key == "up" and isinstance(self.focused, PromptInput) and table.count:
            table.focus()
            event.stop()
        elif event.key == "down" and self.focused is table and table.cursor >= table.count - 1:
            self.query_one(PromptInput).focus()
            event.stop()

    # -- the list -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Letters are text while one types; the list's actions need a list."""
        if action in ("edit", "delete"):
            return bool(self.list.prompts) and isinstance(self.focused, VirtualTable)
        if action == "add":
            return isinstance(self.focused, VirtualTable)
        return bool(self.list.prompts) if action == "proceed" else True

    @on(VirtualTable.Selected)
    def _selected(self, event: VirtualTable.Selected) -> None:
        if type(event) is VirtualTable.Selected:
            self.action_edit()

    def action_edit(self) -> None:
        """Put the prompt under the cursor into the field."""
        table, field = self.query_one(VirtualTable), self.query_one(PromptInput)
        if not self.list.prompts:
            return
        if self.editing is None:
            self._draft = field.value
        self.editing = table.cursor
        field.value = self.list.prompts[table.cursor]
        field.focus()
        field.cursor_position = len(field.value)
        self._changed()

    def action_delete(self) -> None:
        """Take out the prompt under the cursor."""
        table = self.query_one(VirtualTable)
        index = table.cursor
        if self.list.prompts:
            self.list.delete(index)
            self._changed(min(index, len(self.list.prompts) - 1))
            self.notify(f"Prompt {index + 1:,} deleted; u takes it back", markup=False)
        if not self.list.prompts:
            self.query_one(PromptInput).focus()

    def action_undo(self) -> None:
        """Take back the last change of the list."""
        self._leave_edit()
        what = self.list.undo()
        self.notify(f"Taken back: {what}" if what else "Nothing to take back", markup=False)
        self._changed()

    def action_add(self) -> None:
        """To the field."""
        self.query_one(PromptInput).focus()

    def _back_to_list(self) -> None:
        """To where the edit was begun, so that the list's letters are keys again."""
        if self.list.prompts:
            self.query_one(VirtualTable).focus()

    def _leave_edit(self) -> None:
        if self.editing is not None:
            self.editing = None
            self.query_one(PromptInput).value, self._draft = self._draft, ""

    def action_back(self) -> None:
        """Out of an edit; from the list itself after asking whether it is to be kept, where there is something."""
        if self.editing is not None:
            self._leave_edit()
            self._changed()
            self._back_to_list()
            return
        prompts = [*self.list.prompts, *([self._typed] if self._typed.strip() else [])]
        if not prompts:
            super().action_back()
            return
        from ai_router.tui.dialogs import ConfirmDialog

        many = sum(map(len, prompts)) > MOST_KEPT
        said = "It is too much to be kept: it would be gone" if many else "What is kept stands here again next time"
        buttons = [("stay", "Stay", "primary")] if many else [("keep", "Keep", "primary")]
        buttons.append(("discard", "Discard", "error"))
        text = f"{plural(len(prompts), 'prompt')} typed so far. {said}."
        self.app.push_screen(ConfirmDialog("Leave these prompts?", text, buttons), self._leave)

    def _leave(self, choice: str | None) -> None:
        if choice in ("keep", "discard"):
            self._discarded = choice == "discard"
            super().action_back()

    @on(Button.Pressed, "#continue")
    def action_proceed(self) -> None:
        """To the choice of a model; what stands in the field counts as typed."""
        field = self.query_one(PromptInput)
        if self.editing is None and field.value.strip():
            self.list.add([field.value.strip()])
            field.value = ""
            self._changed()
        if not self.list.prompts:
            self.notify("Type a prompt first; esc goes back", severity="warning")
            return
        from ai_router.tui.setup.choose_model import ChooseModelScreen

        source = from_prompts(self.list.prompts)
        self.app.push_screen(ChooseModelScreen(source, len(self.list.prompts)))
