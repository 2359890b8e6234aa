"""Questions before a running job is left or stopped."""

from __future__ import annotations

from textual.content import Content

from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.widgets.text import plural


def _rows(*rows: tuple[str, str]) -> Content:
    width = max(len(name) for name, _ in rows) + 2
    return Content("\n").join(
        Content.assemble((name.ljust(width), "bold"), (text, "$text-muted")) for name, text in rows
    )


class LeaveDialog(ConfirmDialog):
    """Asks what is to become of running jobs: `background`, `drain`, `now`, or `stay` (also None).

    Within the program a job just goes on while other screens are shown; `quitting` says that the program ends.
    """

    def __init__(self, jobs: int = 1, *, quitting: bool = True, in_flight: int | None = None, unit: str = "") -> None:
        flying = "what is in flight" if in_flight is None else f"{plural(in_flight, unit or 'prompt')} in flight"
        going = "goes on by itself" if quitting else "goes on"
        text = Content.assemble(
            f"{plural(jobs, 'job is', 'jobs are')} still running. Every answer so far is saved.\n\n",
            _rows(
                ("Background", f"{going}; watch it from Jobs"),
                ("Drain", f"finish {flying}, then stop"),
                ("Now", "stop; what is in flight runs again later"),
                ("Stay", "change nothing"),
            ),
        )
        buttons = [("background", "Background", "primary"), ("drain", "Drain", ""), ("now", "Now", "")]
        buttons.append(("stay", "Stay", ""))
        super().__init__("Leave a running job?", text, buttons)


class StopDialog(ConfirmDialog):
    """Asks how to stop a job: `drain`, `now`, or `cancel` (also None)."""

    def __init__(self, in_flight: int, *, draining: bool = False, unit: str = "") -> None:
        flying = plural(in_flight, unit or "prompt")
        now = ("Now", "stop; what is in flight runs again later")
        rows = [now, ("Cancel", "let it drain" if draining else "let it run")]
        buttons = [("now", "Now", ""), ("cancel", "Cancel", "")]
        if not draining:
            rows.insert(0, ("Drain", f"finish {flying} in flight, then stop"))
            buttons.insert(0, ("drain", "Drain", "primary"))
        text = Content.assemble("Every answer so far is saved, and the job can be resumed.\n\n", _rows(*rows))
        super().__init__("Stop this job?", text, buttons)
