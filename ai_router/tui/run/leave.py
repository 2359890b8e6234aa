"""Questions before a running job is left or stopped."""

from __future__ import annotations

from textual.content import Content

from ai_router.tui.dialogs import ConfirmDialog
from ai_router.tui.widgets.text import plural

CHOICE = len("Background") + 2  # cells


def _rows(*rows: tuple[str, str]) -> Content:
    return Content("\n").join(
        Content.assemble((name.ljust(CHOICE), "bold"), (text, "$text-muted")) for name, text in rows
    )


class LeaveDialog(ConfirmDialog):
    """Asks, when the program ends, what is to become of its jobs: `background`, `drain`, `now`, or `stay` (None)."""

    def __init__(self, jobs: int = 1) -> None:
        text = Content.assemble(
            f"{plural(jobs, 'job is', 'jobs are')} still running. Every answer so far is saved.\n\n",
            _rows(
                ("Background", "goes on by itself; watch it from Jobs"),
                ("Drain", "finish what is in flight, then stop"),
                ("Now", "stop; what is in flight runs again later"),
                ("Stay", "change nothing"),
            ),
        )
        buttons = [("background", "Background", "primary"), ("drain", "Drain", ""), ("now", "Now", "")]
        buttons.append(("stay", "Stay", ""))
        super().__init__("Leave a running job?", text, buttons, indent=CHOICE)


class StopDialog(ConfirmDialog):
    """Asks how to stop a job: `drain`, `now`, or `cancel` (also None)."""

    def __init__(self, in_flight: int, *, draining: bool = False, unit: str = "", away: int = 0) -> None:
        flying = plural(in_flight, unit or "prompt")
        now = ("Now", "stop; what is in flight runs again later")
        rows = [now, ("Cancel", "let it drain" if draining else "let it run")]
        buttons = [("now", "Now", ""), ("cancel", "Cancel", "")]
        if not draining:
            rows.insert(0, ("Drain", f"finish {flying} in flight, then stop"))
            buttons.insert(0, ("drain", "Drain", "primary"))
        said = "Every answer so far is saved, and the job can be resumed."
        if away:
            said += f"\nThe {plural(away, unit or 'prompt')} with a provider stay there; answers are collected later."
        text = Content.assemble(f"{said}\n\n", _rows(*rows))
        super().__init__("Stop this job?", text, buttons, indent=CHOICE)
