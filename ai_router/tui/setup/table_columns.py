"""The columns of a file of rows, chosen from a list: one as the prompt, or several in a template."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from keyword import iskeyword
from pathlib import Path
from typing import Any

from ai_router.tui.base import BaseScreen
from ai_router.tui.picking import PickDialog

LOOKED_AT = 3  # rows
_RESERVED = frozenset(
    ["true", "false", "none", "and", "or", "not", "in", "is", "if", "else", "loop", "row", "self"]
)  # of Jinja, in any case


def columns_of(path: Path) -> list[tuple[str, str]]:
    """The columns of a table, and what stands in its first rows. Raises SourceError, OSError."""
    from batch.sources.tables import cell_text, open_table

    table = open_table(path)
    rows = list(islice(table.rows(), LOOKED_AT))
    return [(name, " · ".join(cell_text(row.get(name)) for row in rows)) for name in table.columns]


def place_of(name: str) -> str:
    """The place of a column in a template, whatever it is called."""
    plain = name.isascii() and name.isidentifier() and not iskeyword(name) and name.lower() not in _RESERVED
    return f"{{{{ {name} }}}}" if plain else f"{{{{ row[{json.dumps(name, ensure_ascii=False)}] }}}}"


def with_column(said: str, name: str) -> str:
    """What is said of prompts with one more column in it, as a template over columns."""
    before = said.strip()
    if before and "{{" not in before:  # the name of a column
        before = place_of(before)
    return f"{before} {place_of(name)}".strip()


def ask_for_column(screen: BaseScreen[Any], path: Path, said: str, take: Callable[[str], None]) -> None:
    """Show the columns; `take` gets what is to be said of prompts from then on."""

    def show(found: Sequence[tuple[str, str]]) -> None:
        dialog = PickDialog(
            "Columns", "Enter: its cells are the prompts. Space: put it into a template of several.", found, other="add"
        )
        screen.app.push_screen(dialog, chosen)

    def chosen(answer: tuple[str, str] | None) -> None:
        if answer is not None:
            how, name = answer
            take(name if how == "enter" else with_column(said, name))

    screen.in_thread(lambda: columns_of(path), show, busy="reading columns", group="columns", keys_wait=True)
