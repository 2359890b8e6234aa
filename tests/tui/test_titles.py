"""Titles of boxes: what comes from outside is shown there, and never read as markup, which might end the program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import on_screen, shown, until
from stored import make_job

import ai_router.tui
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.reading import ReadingScreen
from ai_router.tui.results.screen import ResultsScreen
from ai_router.tui.widgets.table import VirtualTable
from batch.processor import BatchProcessor

FILES = sorted(Path(ai_router.tui.__file__).parent.rglob("*.py"))
TITLES = ("border_title", "border_subtitle")


def is_inert(value: ast.expr) -> bool:
    """A text of the program, or Content made of one."""
    if isinstance(value, ast.IfExp):
        return is_inert(value.body) and is_inert(value.orelse)
    made = value.func if isinstance(value, ast.Call) else None
    made = made.value if isinstance(made, ast.Attribute) else made
    return isinstance(value, ast.Constant) or (isinstance(made, ast.Name) and made.id == "Content")


def given(tree: ast.AST) -> Iterator[tuple[int, ast.expr]]:
    """What titles are set to, and in which line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pair = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                both = zip(target.elts, node.value.elts, strict=True) if pair else [(target, node.value)]  # type: ignore[attr-defined]
                for name, value in both:
                    if isinstance(name, ast.Attribute) and name.attr in TITLES:
                        yield node.lineno, value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_title_is_read_as_markup(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [line for line, value in given(tree) if not is_inert(value)]


async def test_an_id_like_a_closing_tag_ends_nothing(workspace: Workspace) -> None:
    path = make_job(workspace.checkpoints, ["a"], {0: "x"}, source="[b] x [bold]y[!].csv", model="[/INST]")
    processor = BatchProcessor(workspace.checkpoints)
    job, results = processor.load_checkpoint(path)
    results[0].model = "[/INST] [red]m"
    processor.save_checkpoint(job, results)
    app = RouterApp(workspace)
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: app.screen.query_one(VirtualTable).count == 1)
        await pilot.press("tab")
        await until(pilot, lambda: "[b] x [bold]y[!].csv" in shown(app))
        app.open_results(path)
        await on_screen(pilot, ResultsScreen)
        await until(pilot, lambda: "# 1 · ✓ done" in shown(app) and "[/INST]" in shown(app))
        await pilot.press("enter")
        await on_screen(pilot, ReadingScreen)
        await until(pilot, lambda: "· [/I" in shown(app))
