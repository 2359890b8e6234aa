"""What is in a source of prompts: its first entries, and the report on all of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from ai_router.tui.widgets.panel import SPINNER, Panel, right
from ai_router.tui.widgets.text import harmless, one_line, pad, plural
from batch.sources import Entry, Validation
from batch.sources.entries import is_empty

Pieces = Sequence[tuple[str, bool]]  # of a prompt, each with whether it is a value of the row


class PreviewPanel(Panel):
    """The first entries of a source, by their position in it; malformed ones with what is wrong."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.entries: Sequence[Entry] = ()
        self.marked: dict[int, Pieces] = {}
        self.empty = ""
        self.set_title("First prompts")

    def show(self, entries: Sequence[Entry], empty: str = "", marked: Sequence[Pieces] = ()) -> None:
        """Draw these; without any, `empty`. `marked` are the good ones of a table in pieces, with values of the row."""
        self.entries, self.empty = entries, empty
        good = (entry.position for entry in entries if entry.request is not None)
        self.marked = dict(zip(good, marked, strict=False))
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """A line an entry."""
        if not self.entries:
            return [Content.styled(pad(one_line(line, width), width), "$text-muted") for line in self.empty.split("\n")]
        number_width = len(f"{self.entries[-1].position:,}")
        room = width - number_width - 4
        lines = []
        for entry in self.entries[:height]:
            good = entry.request is not None and not is_empty(entry.request)
            text = entry.request.text if entry.request is not None else entry.error or "malformed"
            text = text if text.strip() or good else "empty"
            if entry.position in self.marked:
                lines.append(
                    Content.assemble(
                        "  ",
                        (right(f"{entry.position:,}", number_width), "bold $text-muted"),
                        "  ",
                        _with_marks(self.marked[entry.position], room),
                    )
                )
                continue
            lines.append(
                Content.assemble(
                    ("  " if good else "✗ ", "$text-error"),
                    (right(f"{entry.position:,}", number_width), "bold $text-muted"),
                    "  ",
                    (one_line(text, room), "" if good else "$text-error"),
                )
            )
        return lines


def _with_marks(pieces: Pieces, width: int) -> Content:
    """A prompt in one line: what comes from the row stands in marks, and in the accent colour where there is one."""
    styled: list[tuple[str, str]] = []
    used = 0
    for piece, from_row in pieces:
        text = harmless(re.sub(r"\s+", " ", piece[: 2 * width]))  # its spaces stay: they part it from its neighbours
        styled.append((f"«{text}»", "bold $text-accent") if from_row else (text, ""))
        used += len(text)
        if used > width:
            break
    return Content.assemble(*styled).truncate(width, ellipsis=True)


class ValidationView(Static):
    """The validation report in sentences, or how far the check has come."""

    DEFAULT_CSS = """
    ValidationView { height: auto; width: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__("", id=id, markup=False)
        self.report: Validation | None = None
        self.text = ""  # what is shown, for whoever reads rather than sees

    def show_text(self, text: str, style: str = "$text-muted") -> None:
        """One sentence in place of a report."""
        self.report = None
        self._put(Content.styled(harmless(text), style))

    def show_problem(self, text: str) -> None:
        """Why the source cannot be used at all."""
        self.report = None
        self._put(Content.assemble(("✗ ", "$text-error"), (harmless(text), "$text-error")))

    def show_checking(self, read: int, what: str = "checking") -> None:
        """A check is under way."""
        self.report = None
        spinner = SPINNER[int(time.monotonic() * 8) % len(SPINNER)]
        counted = f" · {plural(read, 'entry', 'entries')} read" if read else ""
        self._put(Content.styled(f"{spinner} {what}…{counted}", "$text-muted"))

    def show_report(self, report: Validation, note: str = "") -> None:
        """Counts, then problems: errors first; a `note` above them."""
        self.report = report
        notes = [Content.styled(harmless(note), "$text-warning")] if note else []
        self._put(Content("\n").join([*notes, *report_lines(report)]))

    def _put(self, content: Content) -> None:
        self.text = content.plain
        self.update(content)


def report_lines(report: Validation) -> list[Content]:
    """The report as lines, each with a sign: ✓ all well, ! a warning, ✗ an error."""
    lines: list[Content] = []
    if report.total:
        sign = ("✓ ", "$text-success") if report.ok else ("  ", "")
        about = f" · longest {report.longest:,} characters · mean {report.mean_length:,.0f}"
        lines.append(Content.assemble(sign, (plural(report.total, "prompt"), "bold"), (about, "$text-muted")))
    passed = [plural(n, what) for n, what in ((report.comments, "comment"), (report.blank, "blank line")) if n]
    if passed:
        lines.append(Content.styled(f"  passed over: {', '.join(passed)}", "$text-muted"))
    for problem in sorted(report.problems, key=lambda p: p.severity != "error"):
        error = problem.severity == "error"
        sign = ("✗ ", "$text-error") if error else ("! ", "$text-warning")
        lines.append(Content.assemble(sign, (harmless(problem.text), "$text-error" if error else "")))
    return lines
