"""The first and the last line of every screen: where one is, and what one can do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.dom import DOMNode
from textual.geometry import Offset
from textual.reactive import reactive
from textual.widget import Widget

from ai_router.tui.actions import ACTIONS
from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import cut, fitting, one_line

MOST_KEYS = 6
TYPED_KEYS = ("slash", "plus", "minus")  # Textual forgets that these are typed into a field as well
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPIN_SECONDS = 0.1
LEAST_LAST = 12  # cells of where one is, which count for more than what stands at the right


class Breadcrumb(Widget):
    """` ai-router › Batch › file.txt` with a context at the right; a click on the name goes home."""

    crumbs: reactive[tuple[str, ...]] = reactive(())
    context: reactive[str] = reactive("")
    busy: reactive[str] = reactive("")  # what is being waited for; in the place of the context

    ALLOW_SELECT = False

    def on_mount(self) -> None:
        """Begin with what the screen says."""
        self.crumbs = getattr(self.screen, "crumbs", ())
        self.context = getattr(self.screen, "context_text", "")
        self._spin = self.set_interval(SPIN_SECONDS, self.refresh, pause=True)

    def watch_busy(self, busy: str) -> None:
        """Turn the wheel while something is waited for."""
        if busy:
            self._spin.resume()
        else:
            self._spin.pause()

    def render(self) -> Content:
        """The line, with the context folded away first when there is no room."""
        width = max(0, self.size.width - 2)
        parts = [one_line(part, 60) for part in ("ai-router", *self.crumbs)]
        busy = f"{SPINNER[int(time.monotonic() / SPIN_SECONDS) % len(SPINNER)]} {self.busy}" if self.busy else ""
        free = width - cell_len(" › ".join(parts)) - 2
        most = max(0, min(width // 2, 60), free)
        context = one_line(busy or fitting(one_line(self.context).split(" · "), most), most)
        room = width - cell_len(context) - (2 if context else 0)
        while len(parts) > 2 and cell_len(" › ".join(parts)) > room:
            parts = [parts[0], "…", *parts[2 + (parts[1] == "…") :]]
            if len(parts) <= 3:
                break
        *before, last = parts
        lead = "".join(f"{part} › " for part in before)
        if not busy and cell_len(lead) + min(cell_len(last), LEAST_LAST) > room:
            context, room = "", width
        last = cut(last, max(1, room - cell_len(lead)))
        gap = max(1, width - cell_len(lead) - cell_len(last) - cell_len(context))
        return Content.assemble(
            (lead, "$text-muted"), (last, "bold"), " " * gap, (context, "$accent" if busy else "$text-muted")
        )

    def jump_targets(self) -> list[Target]:
        """Home, and one step back."""
        targets = [Target(Offset(0, 0), lambda: self.app.run_action("app.home"))]
        if self.crumbs:
            back = partial(self.app.run_action, "back", self.screen)
            targets.append(Target(Offset(len("ai-router › "), 0), back))
        return targets

    async def on_click(self, event: events.Click) -> None:
        """Home."""
        if event.x <= len(" ai-router"):
            await self.app.run_action("app.home")


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    label: str
    action: str
    node: DOMNode  # whose action it is

    @property
    def cells(self) -> int:
        return cell_len(self.key) + cell_len(self.label) + 4


class KeyFooter(Widget):
    """At most six keys of what has the focus, each one clickable; help is always the last of them."""

    ALLOW_SELECT = False

    def on_mount(self) -> None:
        """Follow what the screen binds."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: object) -> None:
        self.refresh()

    def entries(self) -> list[_Entry]:
        """What is shown: as many as fit."""
        entries: dict[str, _Entry] = {}
        focused = self.screen.focused
        typing = focused is not None and focused.check_consume_key("x", "x")
        for active in self.screen.active_bindings.values():
            binding = self._own(active.binding)
            name = binding.id or ""
            if typing and binding.key in TYPED_KEYS:
                continue
            if binding.show and active.enabled and name in ACTIONS and name not in entries:
                key = self.app.get_key_display(binding)
                entries[name] = _Entry(key, binding.description, binding.action, active.node)
        if "app.help" not in entries:  # its key is typed into a field: the documentation leads to the keys
            for active in self.screen.active_bindings.values():
                if active.binding.id == "app.docs":
                    key = self.app.get_key_display(active.binding)
                    entries["app.help"] = _Entry(key, "help", active.binding.action, active.node)
        helps = [entries.pop("app.help")] if "app.help" in entries else []
        last = [entries.pop("app.back")] if "app.back" in entries else []
        others = list(entries.values())[: MOST_KEYS - len(helps) - len(last)]
        while others and sum(entry.cells for entry in others + last + helps) > self.size.width:
            others.pop()
        return others + last + helps

    def _own(self, binding: Binding) -> Binding:
        """What enter does in a table is the screen's to say, where it has a word of its own for it."""
        if binding.id != "table.select":
            return binding
        return next((own for own in self.screen._bindings.key_to_bindings.get("enter", ()) if own.show), binding)

    def render(self) -> Content:
        """The line."""
        parts: list[tuple[str, str]] = []
        for entry in self.entries():
            parts += [(f" {entry.key} ", "bold $accent"), (f"{entry.label}  ", "$text-muted")]
        return Content.assemble(*parts)

    def jump_targets(self) -> list[Target]:
        """Its keys: each does what it says."""
        targets, start = [], 0
        for entry in self.entries():
            targets.append(Target(Offset(start, 0), partial(self.app.run_action, entry.action, entry.node)))
            start += entry.cells
        return targets

    async def on_click(self, event: events.Click) -> None:
        """Do what was clicked."""
        end = 0
        for entry in self.entries():
            end += entry.cells
            if event.x < end:
                await self.app.run_action(entry.action, entry.node)
                return
