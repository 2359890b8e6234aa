"""What the palette finds beside actions: jobs, files of prompts, models, chats, presets, documentation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ai_router.tui.widgets.text import one_line, within

Found = tuple[str, str, Callable[[], object]]  # label, help, what it does
JOBS = 200  # the last ones
CHATS = 100


def read_things(app: Any) -> dict[str, list[Found]]:
    """All of them with what is to be done with each, the last ones first; a group that cannot be read is left out."""
    groups: dict[str, list[Found]] = {}
    readers = {"jobs": _jobs, "files": _files, "models": _models, "chats": _chats, "presets": _presets, "docs": _docs}
    for name, read in readers.items():
        try:
            groups[name] = read(app)
        except Exception:  # a folder that is gone ends no palette
            groups[name] = []
    return groups


def _jobs(app: Any) -> list[Found]:
    from ai_router.tui.jobs.view import read_jobs

    lines = read_jobs(app.workspace.checkpoints, app.runs).lines[:JOBS]
    return [
        (
            one_line(f"Job: {line.title} {line.info.job_id}", 100),
            one_line(f"{line.status[0]} · {line.progress} · {line.info.model_id} · {line.age}", 100),
            partial(app.open_run if line.running else app.open_results, line.info.file),
        )
        for line in lines
    ]


def _files(app: Any) -> list[Found]:
    from ai_router.recent import known_files
    from ai_router.tui.jobs.view import home

    files = known_files(app.workspace)
    return [(one_line(f"File: {file.name}", 100), home(file), partial(app.go, "file", str(file))) for file in files]


def _models(app: Any) -> list[Found]:
    found: list[Found] = []
    for spec in app.registry.all():
        said = (
            f"Ask it something · {spec.engine}" if spec.ready else f"Not ready: {within(spec.why, app.workspace.root)}"
        )
        go = partial(app.go, "ask", spec.id) if spec.ready else partial(app.go, "models")
        found.append((one_line(f"Model: {spec.id}", 100), one_line(said, 100), go))
    return found


def _chats(app: Any) -> list[Found]:
    from ai_router.memory import Memory
    from ai_router.tui.jobs.view import age

    def take(chat: int) -> None:
        app.ask_chat, app.ask_options = chat, None
        app.go("ask")

    return [
        (one_line(f"Chat: {chat.title}", 100), one_line(f"{chat.model} · {age(chat.changed)}", 100),
         partial(take, chat.id))
        for chat in Memory(app.workspace.checkpoints).chats(limit=CHATS)
    ]  # fmt: skip


def _docs(app: Any) -> list[Found]:
    from ai_router.tui.manual import sections

    return [
        (one_line(f"Documentation: {section.title}", 100), section.file, partial(app.open_docs, section.title))
        for section in sections()
    ]


def _presets(app: Any) -> list[Found]:
    from ai_router.memory import Memory
    from ai_router.presets import Preset, presets, templates

    def take(name: str, preset: Preset) -> None:
        app.ask_options = preset.built()[0]
        app.notify(f"Ask uses {name} in this session", markup=False)

    found = {**templates(app.workspace.root), **presets(Memory(app.workspace.checkpoints))}
    return [
        (f"Preset: {name}", "Sampling of Ask for this session", partial(take, name, preset))
        for name, preset in found.items()
    ]
