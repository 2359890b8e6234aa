"""The palette finds things, too: jobs, files of prompts, models, presets; those of lately first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from ai_router.tui.widgets.text import one_line, within

Found = tuple[str, str, Callable[[], object]]  # label, help, what it does
JOBS = 200  # the last ones
AT_ONCE = 5  # of a kind, before a word is typed


class ThingProvider(Provider):
    """What there is in the workspace, read in a thread when the palette opens."""

    async def startup(self) -> None:
        """Read it."""
        self._groups = await asyncio.to_thread(read_things, cast("Any", self.app))

    async def discover(self) -> Hits:
        """The last jobs and files."""
        for group in ("jobs", "files"):
            for label, text, call in self._groups.get(group, [])[:AT_ONCE]:
                yield DiscoveryHit(label, cast("Callable[[], None]", call), help=text)

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for group in self._groups.values():
            for label, text, call in group:
                if (score := matcher.match(label)) > 0:
                    yield Hit(score, matcher.highlight(label), cast("Callable[[], None]", call), help=text)


def read_things(app: Any) -> dict[str, list[Found]]:
    """Jobs, files, models and presets with what is to be done with each; a group that cannot be read is left out."""
    groups: dict[str, list[Found]] = {}
    for name, read in (("jobs", _jobs), ("files", _files), ("models", _models), ("presets", _presets)):
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
