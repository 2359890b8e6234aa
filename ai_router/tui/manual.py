"""The documentation in the program: the sections of docs/*.md, and which of them belongs to what has the focus."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.screen import Screen

BOOK = "workbench.md"
ORDER = (BOOK, "models.md", "engines.md", "servers.md", "providers.md", "tables.md", "routing.md", "evaluation.md",
         "cluster.md")  # fmt: skip
DEEPEST = 3  # levels of headings that begin a section
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_PICTURE = re.compile(r"^!\[.*?\]\(.*?\)\s*$", re.MULTILINE)

# The heading of a part of a screen by its id, of a screen by its class: what has the focus counts for more.
PARTS: Mapping[str, str] = {
    "results-search": "The filter line",
    "bench": "Jobs and results",
    "results-preview": "Reading one item",
    "menu-jobs": "Jobs and results",
    "try-line": "Try before you spend",
    "column-line": "Tables in, tables out",
    "themes": "Themes of your own",
    "keys": "Keys",
    "ask-chats": "Ask",
}
SCREENS: Mapping[str, str] = {
    "MenuScreen": "The main menu",
    "AskScreen": "Ask",
    "CompareScreen": "Compare",
    "ModelsScreen": "Models",
    "JobsScreen": "Jobs and results",
    "ResultsScreen": "Results",
    "ReadingScreen": "Reading one item",
    "RunScreen": "A run",
    "BatchMenuScreen": "A new job",
    "FromFileScreen": "A new job",
    "ManualScreen": "A new job",
    "ChooseModelScreen": "A new job",
    "AutoScreen": "A new job",
    "OptionsScreen": "A new job",
    "EvaluationScreen": "Scores",
    "ComparisonScreen": "Scores",
    "SemanticIdsScreen": "Semantic IDs",
    "SemanticResultScreen": "Semantic IDs",
    "StatsScreen": "Statistics",
    "PictureScreen": "The picture of a job",
    "ComparedScreen": "Compare",
    "SettingsScreen": "Settings",
    "KeysScreen": "Keys",
    "ColumnsDialog": "Results",
    "ModelDialog": "Models",
    "TourDialog": "The workbench",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of a file, with the text below it down to the next heading."""

    file: str
    title: str
    level: int
    text: str


def folder() -> Path:
    """Where the files are: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "docs"
    return inside if inside.is_dir() else package.parent / "docs"


def sections() -> list[Section]:
    """All sections of all files, in the order of the book; those of a file that cannot be read are left out."""
    found: list[Section] = []
    for name in ORDER:
        try:
            text = (folder() / name).read_text(encoding="utf-8")
        except OSError:
            continue
        found += split(name, text)
    return found


def split(file: str, text: str) -> Iterator[Section]:
    """The sections of a Markdown text; what looks like a heading inside of code is none."""
    title, level, lines, fence = "", 0, list[str](), ""
    for line in _PICTURE.sub("", text).split("\n"):
        mark = re.match(r"\s*(```|~~~)", line)
        if mark and (not fence or mark.group(1) == fence):
            fence = "" if fence else mark.group(1)
        heading = None if fence else _HEADING.match(line)
        if heading is not None and len(heading.group(1)) <= DEEPEST:
            if title:
                yield Section(file, title, level, "\n".join(lines))
            title, level, lines = heading.group(2), len(heading.group(1)), []
        lines.append(line)
    if title:
        yield Section(file, title, level, "\n".join(lines))


def heading_for(screen: Screen[Any]) -> str:
    """The heading that belongs to what has the focus on a screen, else to the screen; "" where none does."""
    focused = screen.focused
    for node in (focused, *focused.ancestors) if focused is not None else ():
        if node.id in PARTS:
            return PARTS[node.id or ""]
    stack = screen.app.screen_stack
    for about in (screen, *reversed(stack[: stack.index(screen)] if screen in stack else [])):  # a dialog's: that below
        if title := next((SCREENS[kind.__name__] for kind in type(about).__mro__ if kind.__name__ in SCREENS), ""):
            return title
    return ""
