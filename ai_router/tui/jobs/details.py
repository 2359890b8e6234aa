"""All that is known of a job, line by line."""

from __future__ import annotations

from textual.content import Content

from ai_router.tui.jobs.view import JobLine, home, moment
from ai_router.tui.widgets.text import count, one_line, plural

LABEL = 14  # cells


def job_details(line: JobLine) -> Content:
    """All that is known of a job."""
    # When there is one to tell of: the first frame of the menu waits for none of these.
    from ai_router.standings import next_verb, standing_of, told
    from batch.prices import dollars
    from batch.running.progress import format_duration

    info = line.info
    status, style = line.status
    rows: list[tuple[str, str, str]] = [
        ("job", info.job_id, ""),
        ("status", status, f"${'text-muted' if style == 'muted' else 'text-' + style if style != 'accent' else style}"),
        ("prompts from", one_line(info.source or "—"), ""),
        *([("name", one_line(info.about.name), "bold")] if info.about.name else []),
        *([("tags", " ".join(f"#{tag}" for tag in info.about.tags), "$accent")] if info.about.tags else []),
        ("model", one_line(info.model_id), ""),
        ("answered", f"{count(line.completed)} of {count(info.total)}", ""),
        ("failed", count(line.failed), "$text-error" if line.failed else ""),
        ("left", count(line.left), ""),
        ("tokens", count(line.live.tokens_output if line.live else info.tokens_output), ""),
        ("time", format_duration(line.live.elapsed if line.live else info.elapsed), ""),
        ("created", moment(info.created_at), ""),
        ("changed", moment(info.timestamp), ""),
    ]
    if line.live and line.running:
        rows.append(("ETA", format_duration(line.live.eta), ""))
    if info.cost or info.away:
        unknown = f", and {plural(info.cost_unknown, 'answer')} of unknown cost" if info.cost_unknown else ""
        rows.append(("cost", f"{dollars(info.cost)}{unknown}", ""))
    if info.away and not line.running:
        standings = [standing_of(s) for s in info.away]
        away, since, after = told(standings)
        if next_verb(standings) == "reconcile":
            after += f": ai-router reconcile {info.job_id}"
        named = (("provider", away), ("since", since), ("next", after))
        rows += [(name, one_line(text, 120), "$accent" if name == "next" else "") for name, text in named if text]
    if info.owner is not None:
        rows.append(("process", str(info.owner.pid or "—"), ""))
    if info.reason:
        rows.append(("ended by", one_line(info.reason), ""))
    if info.about.note:
        rows.append(("note", one_line(info.about.note, 200), ""))
    rows.append(("file", home(info.file), "$text-muted"))
    lines = [Content.assemble((f"{name:<{LABEL}}", "$text-muted"), (text, style)) for name, text, style in rows]
    return Content("\n").join(lines)
