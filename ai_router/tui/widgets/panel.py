"""A bordered panel drawn line by line at the width it has, so that columns stand still while figures grow."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from ai_router.tui.widgets.text import ELLIPSIS, harmless, pad
from batch.running.progress import RunState, format_duration

STATE_SIGNS: dict[RunState, tuple[str, str]] = {
    RunState.STARTING: ("◌", "$text-muted"),
    RunState.RUNNING: ("▶", "$text-accent"),
    RunState.PAUSED: ("‖", "$text-warning"),
    RunState.DRAINING: ("◌", "$text-warning"),
    RunState.STOPPED: ("■", "$text-warning"),
    RunState.FINISHED: ("✓", "$text-success"),
    RunState.FAILED: ("✗", "$text-error"),
    RunState.WAITING: ("◷", "$text-accent"),
}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Panel(Widget):
    """A round border with a title around the lines that `lines` makes."""

    DEFAULT_CSS = """
    Panel {
        height: auto; width: 1fr; padding: 0 1; text-wrap: nowrap;
        border: round $foreground 20%; border-title-color: $text-muted; border-title-style: bold;
        border-subtitle-color: $text-muted;
    }
    """
    ALLOW_SELECT = False
    titles = ("", "")

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self._drawn: list[Content] = []
        self._strips: dict[int, Strip] = {}  # lines as they were painted last

    def redraw(self) -> None:
        """Make the lines again, and paint those that are others now: most stay the same from one moment to the next."""
        width, height = self.size
        if not width or not height:
            return
        before, self._drawn = self._drawn, self.fitted(width, height)
        for y in range(max(len(before), len(self._drawn))):
            if y >= len(before) or y >= len(self._drawn) or not self._drawn[y].is_same(before[y]):
                self._strips.pop(y, None)
                self.refresh(Region(0, y, width, 1))

    def render_line(self, y: int) -> Strip:
        """One line, painted when it has changed."""
        if not self.size.width:  # a terminal of a few columns leaves nothing between the borders
            return Strip.blank(0)
        if (strip := self._strips.get(y)) is None:
            line = self._drawn[y] if y < len(self._drawn) else Content("")
            strip = Visual.to_strips(self, line, self.size.width, 1, self.visual_style, pad=True)[0]
            self._strips[y] = strip
        return strip

    def on_resize(self) -> None:
        """Everything has another width."""
        self.repaint()

    def notify_style_update(self) -> None:
        """Everything has other colours."""
        super().notify_style_update()
        self._strips.clear()

    def repaint(self) -> None:
        """Draw all lines anew."""
        self._drawn = []
        self._strips.clear()
        self.refresh()
        self.redraw()

    @property
    def text(self) -> str:
        """What is shown, for whoever reads rather than sees."""
        return "\n".join(line.plain for line in self._drawn)

    def fitted(self, width: int, height: int) -> list[Content]:
        """The lines as they are drawn: one that is too wide ends in `…`, so that no number passes for another."""
        lines = self.lines(width, height)[:height]
        return [line if line.cell_length <= width else line.truncate(width, ellipsis=True) for line in lines]

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """What is shown in a space of this size, in cells."""
        return ()

    def set_title(self, title: str, subtitle: str = "") -> None:
        """Change the titles where they differ; no markup is read from them."""
        if self.titles != (title, subtitle):
            self.titles = (title, subtitle)
            self.border_title, self.border_subtitle = Content(title), Content(subtitle)


def seconds(value: float | None) -> str:
    """`0.8 s`, `12.3 s`, `154 s`, then as durations are written; `—` when unknown."""
    if value is None:
        return "—"
    if value < 99.95:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 999.5 else format_duration(value)


def rate(value: float) -> str:
    """Three figures: `0.42`, `21.4`, `1,284`; `—` for nothing."""
    if value <= 0:
        return "—"
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def right(text: str, width: int) -> str:
    """A figure at the right of its column; one that does not fit is not cut."""
    return text.rjust(width)


def tail(text: str, width: int) -> str:
    """The end of a growing text as one harmless line of exactly `width` cells, `…` where its beginning is missing."""
    if width <= 0:
        return ""
    line = harmless(text[-width * 2 - 16 :].rstrip("\n"))
    if len(text) <= width * 2 + 16 and cell_len(line) <= width:
        return pad(line, width)
    line = line[-width:]
    while cell_len(line) > width - 1:
        line = line[1:]
    return set_cell_size(ELLIPSIS + line, width)


def fit(pieces: Sequence[Content], width: int, gap: str = "   ") -> Content:
    """As many of some pieces, in their order, as stand whole in a line of this width; at least the first."""
    taken = [pieces[0]]
    used = pieces[0].cell_length
    for piece in pieces[1:]:
        used += len(gap) + piece.cell_length
        if used > width:
            break
        taken.append(piece)
    return Content(gap).join(taken)


def columns(width: int, shares: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """Two flexible columns of a row: what is left is parted by `shares`, none below its least."""
    first = max(least[0], width * shares[0] // sum(shares))
    first = min(first, max(least[0], width - least[1]))
    return min(first, width), max(0, width - first)
