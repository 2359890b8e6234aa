"""A table with its answers, from the export dialog."""

from __future__ import annotations

from pathlib import Path

from driving import on_screen, until
from textual.widgets import Input, Static

from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.results.export import ExportDialog
from ai_router.tui.widgets.choice import ChoiceLine
from batch.processor import BatchProcessor
from batch.sources.rows import TableSource


def job_over(workspace: Workspace, table: Path) -> Path:
    source = TableSource(table, column="text")
    processor = BatchProcessor(workspace.checkpoints)
    job = processor.create_job("m", source, config={"table": source.kept()})
    processor.process_batch(job, str.upper)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


async def test_a_job_over_a_table_is_merged_into_a_new_one(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "cars.csv"
    table.write_text("id,text\n7,one\n8,\n9,three\n", "utf-8")
    path = job_over(workspace, table)
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.push_screen(ExportDialog(path))
        found = await on_screen(pilot, ExportDialog)
        field = found.query_one("#export-path", Input)
        await until(pilot, lambda: field.value)
        found.query_one("#export-format", ChoiceLine).value = "table"
        await until(pilot, lambda: field.value.endswith("cars-answers.csv"))
        assert not found.query_one("#export-part-line").display
        found.action_export()
        await until(
            pilot, lambda: "✓ the table with 2 answers" in str(found.query_one("#export-said", Static).render())
        )
    rows = (workspace.outputs / "cars-answers.csv").read_text("utf-8").splitlines()
    assert rows[0].startswith("id,text,answer_llm,") and rows[1].startswith("7,one,ONE,") and rows[2].startswith("8,,,")
    assert table.read_text("utf-8") == "id,text\n7,one\n8,\n9,three\n"


async def test_a_job_over_no_table_says_so(workspace: Workspace) -> None:
    job = BatchProcessor(workspace.checkpoints).create_job("m", ["a"])
    assert job.checkpoint_file is not None
    app = RouterApp(workspace)
    async with app.run_test() as pilot:
        app.push_screen(ExportDialog(job.checkpoint_file, "table"))
        found = await on_screen(pilot, ExportDialog)
        await until(pilot, lambda: found.query_one("#export-path", Input).value.endswith("-answers.parquet"))
        found.action_export()
        await until(pilot, lambda: "was not run over a table" in str(found.query_one("#export-said", Static).render()))
