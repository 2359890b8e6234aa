"""A line of kinds with their counts, one of them chosen; it says less where there is less room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.geometry import Offset
from textual.message import Message
from textual.widget import Widget

from ai_router.tui.widgets.jumping import Target
from ai_router.tui.widgets.text import count


@dataclass(frozen=True, slots=True)
class Tab:
    """A kind: what the program and what a person calls it, the key that chooses it, its sign and style."""

    name: str
    key: str
    sign: str
    word: str
    short: str = ""
    style: str = ""  # success, error, warning, muted


# From all there is to say to the least: a tab and its count, and whether it is the chosen one.
_FORMS: tuple[Callable[[Tab, str, bool], str], ...] = (
    lambda tab, n, chosen: f"{tab.key} {tab.sign} {tab.word} {n}",
    lambda tab, n, chosen: f"{tab.key} {tab.sign} {tab.short or tab.word} {n}",
    lambda tab, n, chosen: f"{tab.key} {tab.short or tab.word} {n}",
    lambda tab, n, chosen: f"{tab.key} {tab.short or tab.word} {n}",
    lambda tab, n, chosen: f"{tab.key} {tab.short or tab.word} {n}" if chosen else f"{tab.key}{tab.sign}{n}",
    lambda tab, n, chosen: f"{tab.key} {tab.short or tab.word} {n}" if chosen else f"{tab.key}{tab.sign}",
)
ROOMY_FORMS = 3  # that have two cells between tabs


class CountTabs(Widget):
    """` 1 ≡ all 25  [2 ✓ right 17]  3 ✗ wrong 8 `: a click chooses; the keys are the screen's."""

    DEFAULT_CSS = """
    CountTabs { height: 1; padding: 0 1; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._tabs: Sequence[Tab] = ()
        self._counts: Mapping[str, int] = {}
        self._chosen = ""

    def show(self, tabs: Sequence[Tab], counts: Mapping[str, int], chosen: str) -> None:
        """Take new tabs and counts."""
        self._tabs, self._counts, self._chosen = tabs, counts, chosen
        self.refresh()

    def texts(self) -> list[str]:
        """What each tab says, in the fullest form that fits."""
        return self._fitted()[0]

    def _fitted(self) -> tuple[list[str], bool]:
        """The texts, and whether something is free between them."""
        width = self.size.width
        texts, roomy = list[str](), True
        for number, form in enumerate(_FORMS):
            texts = []
            roomy, after = number < ROOMY_FORMS, False  # behind the chosen one
            for tab in self._tabs:
                chosen = tab.name == self._chosen
                text = form(tab, count(self._counts.get(tab.name, 0)), chosen)
                if roomy:
                    texts.append(f"[{text}]" if chosen else f" {text} ")
                else:  # the brackets stand in the gaps
                    texts.append(f"[{text}]" if chosen else text if after else f" {text}")
                after = chosen
            if sum(map(cell_len, texts)) <= width:
                break
        return texts, roomy

    def render(self) -> Content:
        """The line."""
        parts: list[tuple[str, str]] = []
        texts, roomy = self._fitted()
        for tab, text in zip(self._tabs, texts, strict=True):
            # A bracket alone does not part the chosen one from the next where nothing is free between them.
            bold = ("bold " if roomy else "bold reverse ") if tab.name == self._chosen else ""
            style = tab.style if self._counts.get(tab.name, 0) else "muted"  # none failed: nothing to be alarmed by
            parts.append((text, f"{bold}{f'$text-{style}' if style else ''}".strip()))
        return Content.assemble(*parts)

    def jump_targets(self) -> list[Target]:
        """The tabs: each is chosen."""
        targets, start = [], 0
        for tab, text in zip(self._tabs, self.texts(), strict=True):
            targets.append(Target(Offset(start, 0), partial(self.post_message, self.Chosen(tab.name))))
            start += cell_len(text)
        return targets

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked."""
        offset = event.get_content_offset(self)
        end = 0
        for tab, text in zip(self._tabs, self.texts(), strict=True):
            end += cell_len(text)
            if offset is not None and offset.x < end:
                self.post_message(self.Chosen(tab.name))
                return
