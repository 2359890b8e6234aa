"""Where one can go, in one table: menus, keys, palette and the ways to a job's screens are made from it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.screen import Screen

HOME = "home"


@dataclass(frozen=True, slots=True)
class Place:
    """One screen to go to; `screen` is `module:class`, imported when somebody goes there.

    `key` is its number on the menu `menu`, "" where it stands on none. A place of a job is made with the job's
    checkpoint (with what is to be run, where it makes a new one) and stands on no menu. What a dialog answers is a job
    to go to `then`. The palette finds what is `found`. One that is `kept` is made once, and stands when one comes back
    as it was left.
    """

    name: str
    title: str
    help: str
    screen: str = ""
    menu: str = ""
    key: str = ""
    of_job: bool = False
    found: bool = True
    then: str = ""
    kept: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self, *args: Any, **kwargs: Any) -> Screen[Any]:
        """The screen, with the arguments of the table and these."""
        module, _, name = self.screen.partition(":")
        made: Screen[Any] = getattr(importlib.import_module(module), name)(*args, **{**self.arguments, **kwargs})
        return made


_TUI = "ai_router.tui."

PLACES: Mapping[str, Place] = {
    place.name: place
    for place in (
        Place("ask", "Ask", "One prompt, answered while you watch", _TUI + "ask.screen:AskScreen", HOME, "1"),
        Place("compare", "Compare", "A prompt or a file, two to four models side by side",
              _TUI + "compare.screen:CompareScreen"),
        Place("models", "Models", "The models there are, and which are ready", _TUI + "models.screen:ModelsScreen",
              HOME, "2"),
        Place("jobs", "Jobs and results", "All jobs: read, export, resume, delete", _TUI + "jobs.screen:JobsScreen",
              HOME, "3", kept=True),
        Place("settings", "Settings", "Theme, folders, notifications, keys", _TUI + "settings.screen:SettingsScreen",
              HOME, "4"),
        Place("batch", "Batch Processing Mode", "Answer many prompts: from a file or typed",
              _TUI + "setup.menu:BatchMenuScreen", HOME, "5"),
        Place("semantic", "Semantic IDs", "Item features to codes, by RQ-VAE models",
              _TUI + "semantic.screen:SemanticIdsScreen", HOME, "6"),
        Place("stats", "Statistics", "All jobs: items, tokens, cost, failures",
              _TUI + "stats.screen:StatsScreen", HOME, "7"),
        Place("file", "Process prompts from file", "One prompt a line, JSON, or a table",
              _TUI + "setup.from_file:FromFileScreen", "batch", "1"),
        Place("manual", "Enter prompts manually", "Type or paste them", _TUI + "setup.manual:ManualScreen",
              "batch", "2"),
        Place("resume", "Resume from checkpoint", "Go on with a job that was interrupted",
              _TUI + "jobs.screen:JobsScreen", "batch", "3", arguments={"mode": "resume"}),
        Place("list", "List checkpoints", "All jobs: read, export, delete", _TUI + "jobs.screen:JobsScreen",
              "batch", "4", found=False, arguments={"mode": "list"}),
        Place("score", "Score a results file", "A results file, or a job with known answers",
              _TUI + "scoring.dialogs:ChooseRunDialog", then="evaluation"),
        Place(HOME, "Main menu", "Back to the beginning"),
        Place("run", "Run", "How a job goes", _TUI + "run.screen:RunScreen", of_job=True),
        Place("results", "Results", "What came out of a job", _TUI + "results.screen:ResultsScreen", of_job=True),
        Place("failures", "Failures", "What failed of a job", _TUI + "results.screen:ResultsScreen", of_job=True,
              arguments={"part": "failed"}),
        Place("picture", "Picture", "A job in plots: rates, cost, durations, scores",
              _TUI + "stats.picture:PictureScreen", of_job=True),
        Place("codes", "Codes", "The semantic IDs of a job", _TUI + "semantic.result:SemanticResultScreen",
              of_job=True),
        Place("again", "Run again", "Items of a job, or of a chat, as a new job",
              _TUI + "setup.choose_model:ChooseModelScreen", of_job=True),
        Place("compared", "Comparison", "Jobs over the same prompts side by side",
              _TUI + "compare.table:ComparedScreen", of_job=True),
        Place("export", "Export", "A job's results as a file", _TUI + "results.export:ExportDialog", of_job=True),
        Place("evaluation", "Scores", "How many answers of a job are right", _TUI + "scoring.screen:EvaluationScreen",
              of_job=True),
    )
}  # fmt: skip


def on_menu(menu: str) -> list[Place]:
    """The places of a menu, in the order of their numbers."""
    return sorted((place for place in PLACES.values() if place.menu == menu), key=lambda place: place.key)


def anywhere() -> list[Place]:
    """The places one can go to from everywhere, which no job is needed for."""
    return [place for place in PLACES.values() if place.found and not place.of_job]
