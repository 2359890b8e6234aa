"""A comparison of jobs that go on: read anew when there is something new, written a row at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import on_screen, shown, until
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import make_job

from ai_router.comparing.answers import Row, Said, compared
from ai_router.comparing.files import write_comparison
from ai_router.comparing.forms import document
from ai_router.comparing.linked import linked_with
from ai_router.jobs import open_job
from ai_router.longjson import pieces
from ai_router.settings import Workspace
from ai_router.tui.app import RouterApp
from ai_router.tui.compare import table
from ai_router.tui.compare.table import ComparedScreen
from batch.job import BatchResult
from batch.processor import BatchProcessor

LINK: dict[str, object] = {"compared": {"group": "0a", "models": ["small", "large"]}}
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(max_size=3), of, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.lists(JSON, max_size=3), st.booleans())
def test_pieces_are_what_json_writes(head: dict[str, Any], values: list[Any], ascii_only: bool) -> None:
    head.pop("rows", None)
    whole = json.dumps({**head, "rows": values}, indent=2, ensure_ascii=ascii_only)
    assert "".join(pieces(head, "rows", iter(values), ascii_only=ascii_only)) == whole


def test_a_comparison_is_written_a_row_at_a_time(tmp_path: Path) -> None:
    alive: set[int] = set()
    most = 0

    class Counted(Row):
        __slots__ = ()

        def __del__(self) -> None:
            alive.discard(self.number)

    def rows() -> Iterator[Row]:
        nonlocal most
        for number in range(1, 201):
            texts = ("\u2028 a\nb \ud800", "x" if number % 2 else "\u2028 a\nb \ud800")
            alive.add(number)
            most = max(most, len(alive))
            yield Counted(number, f"prompt {number}", tuple(Said(f"m{at}", text) for at, text in enumerate(texts)))

    written, page = write_comparison(tmp_path / "new", rows(), ["m0", "m1"], keep=3)
    assert most <= 3 + 2, "what is kept, and the one under way"
    wanted = document(compared(rows(), ["m0", "m1"]), rows())
    text = json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
    assert written.read_bytes() == text.encode("utf-8", "backslashreplace")
    assert page.read_text().count("## Prompt") == 3
    assert sorted(path.suffix for path in written.parent.iterdir()) == [".json", ".md"], "nothing else is left"


async def test_answers_that_come_are_shown_and_nothing_is_read_twice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        make_job(workspace.checkpoints, list("1234"), answers, model=name, config=LINK)
        for name, answers in (("small", dict(enumerate("abcd"))), ("large", {2: "x", 3: "y"}))
    ]
    monkeypatch.setattr(table, "REFRESH_SECONDS", 0.02)
    reads, looks = [], []
    rows_of, look = table.rows_of, table._look
    monkeypatch.setattr(table, "rows_of", lambda jobs: reads.append(1) or rows_of(jobs))
    monkeypatch.setattr(table, "_look", lambda *args: looks.append(1) or look(*args))
    app = RouterApp(workspace)
    async with app.run_test(size=(130, 34)) as pilot:
        app.go("compared", paths[0])
        screen = await on_screen(pilot, ComparedScreen)
        await until(pilot, lambda: "2 of 4 prompts" in shown(app))
        await pilot.press("down")
        await until(pilot, lambda: len(looks) > 5)
        assert len(reads) == 1, "nothing new, nothing read"
        job = open_job(workspace, str(paths[1]))  # nobody of this process runs it
        BatchProcessor(workspace.checkpoints).save_checkpoint(job, [BatchResult(0, "1", "z", success=True)])
        await until(pilot, lambda: "3 of 4 prompts" in shown(app))
        rows = screen.query_one("#compared-rows", table.VirtualTable)
        assert (len(reads), rows.cursor) == (2, 2), "the cursor stays on its prompt"
        with sqlite3.connect(paths[1]) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        await until(pilot, lambda: "not read anew: batch_" in screen.context_text)
        assert "3 of 4 prompts" in shown(app), "the figures of before stay"
        with sqlite3.connect(paths[1]) as connection:
            connection.execute("PRAGMA user_version = 2")
        connection.close()
        await until(pilot, lambda: screen.context_text == "prompts.txt")


def test_linked_jobs_are_found_beside_files_that_cannot_be_read(workspace: Workspace) -> None:
    paths = [make_job(workspace.checkpoints, ["1"], model=name, config=LINK) for name in ("large", "small")]
    make_job(workspace.checkpoints, ["1"], model="small", config={"compared": {"group": "0b"}})
    (workspace.checkpoints / "batch_ffffffff.db").write_bytes(b"no database")
    found = linked_with(workspace, open_job(workspace, str(paths[0])))
    assert [job.model_id for job in found] == ["small", "large"]
