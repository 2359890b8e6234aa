"""Labels with values beside them; a value that is too long goes on below itself, not below its label."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.visual import VisualType
from textual.widgets import Static

LEAST = 10  # cells that a value needs to go on below itself


def hanging(text: Content, indent: int, width: int) -> Content:
    """Lines of which the first `indent` cells are a label, wrapped for a width; what cannot be hung stays as it is.

    A line without a label is none, and a word that is longer than the room (a path) gets the whole width.
    """
    lines: list[Content] = []
    room = width - indent
    for line in text.split("\n", allow_blank=True):
        label, value = line.plain[:indent], line.plain[indent:]
        words = value.split()
        fits = room >= LEAST and max(map(cell_len, words), default=width) <= room
        if line.cell_length <= width or not label.endswith("  ") or not label.strip() or not fits:
            lines.append(line)
            continue
        first, *more = line[indent:].wrap(room)
        lines += [line[:indent] + first.rstrip(), *(piece.rstrip().pad_left(indent) for piece in more)]
    return Content("\n").join(lines)


class HangingText(Static):
    """A text of such lines, as wide as it happens to be."""

    def __init__(self, text: Content | str = "", *, indent: int, id: str | None = None, classes: str = "") -> None:  # noqa: A002 - the word of Textual
        super().__init__(text, id=id, classes=classes)
        self._text, self._indent = Content(text) if isinstance(text, str) else text, indent

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        """Show another text."""
        self._text = content if isinstance(content, Content) else Content(str(content))
        super().update(self._hung(self.content_size.width), layout=layout)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap it for the new width."""
        super().update(self._hung(self.content_size.width))

    def _hung(self, width: int) -> Content:
        return hanging(self._text, self._indent, width) if width else self._text
