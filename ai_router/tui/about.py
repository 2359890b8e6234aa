"""What a choice of the main menu means, and what is behind it in this workspace; read in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from ai_router.tui.jobs.view import JobsView, age, home
from ai_router.tui.widgets.text import count, one_line, plural

if TYPE_CHECKING:
    from ai_router.tui.services import Services

MOST = 6  # lines of what there is
Facts = tuple[str, Sequence[tuple[str, str]]]  # a title, and lines: what and how much

MEANS: Mapping[str, str] = {
    "ask": "One prompt, answered while you watch, in a chat that is kept. The model stays loaded for the next one.",
    "models": "What can answer: models on this machine, in servers beside it, and behind a key. Test one, add one, "
    "fetch one, say which is used when none is named.",
    "jobs": "Every job is a file, and nothing that was answered is lost. Read it, go on with it, run again what "
    "failed, score it, write it out.",
    "settings": "Colours, folders, notifications and keys, as ai-router.yaml has them.",
    "batch": "Many prompts from a file or typed. Choose a model, look at the cost, try a few, then run. It can be "
    "stopped at any time and goes on where it stopped.",
    "semantic": "Features of items become short codes (semantic IDs), by RQ-VAE models that were trained for them.",
    "stats": "All jobs of this workspace together, by model, day and tag.",
    "exit": "Leave ai-router. While a job runs, it is asked what is to become of it.",
}


def read_facts(place: str, services: Services, view: JobsView) -> Facts:
    """What is behind a choice now."""
    return _READERS[place](services, view) if place in _READERS else ("", ())


def _ask(services: Services, view: JobsView) -> Facts:
    from ai_router.memory import Memory

    chats = Memory(services.workspace.checkpoints).chats(limit=MOST)
    lines = [(one_line(chat.title, 50), age(chat.changed)) for chat in chats]
    return "Last chats" if lines else "", lines


def _models(services: Services, view: JobsView) -> Facts:
    models = services.registry.all()
    ready = [spec for spec in models if spec.ready]
    lines = [(one_line(spec.id, 40), f"{spec.engine} · {spec.parameters_text}") for spec in ready[:MOST]]
    return f"{len(ready)} of {plural(len(models), 'model')} ready", lines


def _jobs(services: Services, view: JobsView) -> Facts:
    running = sum(line.running for line in view.lines)
    left = [line for line in view.lines if line.left and not line.running]
    lines = [
        ("running", count(running)),
        ("to resume", f"{plural(len(left), 'job')}, {plural(sum(line.left for line in left), 'item')}"),
        ("with failures", count(sum(line.failed > 0 for line in view.lines))),
        ("unreadable", plural(len(view.skipped), "file")),
    ]
    return plural(len(view.lines), "job"), lines


def _settings(services: Services, view: JobsView) -> Facts:
    workspace = services.workspace
    lines = [
        ("file", home(workspace.config_file)),
        ("model", workspace.settings.model),
        ("theme", workspace.settings.theme),
        ("models in", home(workspace.models_dir)),
        ("exports in", home(workspace.outputs)),
    ]
    return "", lines


def _batch(services: Services, view: JobsView) -> Facts:
    from ai_router.recent import known_files

    files = known_files(services.workspace)
    return "Files at hand" if files else "", [(one_line(f.name, 40), home(f.parent)) for f in files[:MOST]]


def _stats(services: Services, view: JobsView) -> Facts:
    lines = [
        ("jobs", count(len(view.lines))),
        ("answered", count(sum(line.completed for line in view.lines))),
        ("failed", count(sum(line.failed for line in view.lines))),
        ("tokens written", count(sum(line.info.tokens_output for line in view.lines))),
    ]
    return "", lines


def _exit(services: Services, view: JobsView) -> Facts:
    return "", [("running here", plural(len(services.live_runs()), "job"))]


_READERS: Mapping[str, Callable[[Services, JobsView], Facts]] = {
    "ask": _ask,
    "models": _models,
    "jobs": _jobs,
    "settings": _settings,
    "batch": _batch,
    "stats": _stats,
    "exit": _exit,
}


def about_choice(place: str, facts: Facts) -> Content:
    """What a choice means, and what is behind it."""
    title, lines = facts
    parts = [Content.styled(MEANS.get(place, ""), "$text-muted"), Content("")]
    if title:
        parts.append(Content.styled(title, "bold"))
    width = max((cell_len(what) for what, _ in lines), default=0)
    for what, much in lines:
        parts.append(Content.assemble(what + " " * (width - cell_len(what)), (f"  {much}", "$text-muted")))
    return Content("\n").join(parts)
