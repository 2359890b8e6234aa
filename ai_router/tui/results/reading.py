"""One item, whole: its prompt, its answer or error, its figures."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import BindingType

from ai_router.tui.actions import bind
from ai_router.tui.clipboard import copy_from
from ai_router.tui.reading import ListReadingScreen
from ai_router.tui.results.data import read_result
from ai_router.tui.widgets.text import count, harmless
from ai_router.tui.widgets.text_view import Block, TextView

if TYPE_CHECKING:
    from batch.job import BatchResult


class ReadingScreen(ListReadingScreen):
    """The text of one item of a job."""

    BINDINGS: ClassVar[list[BindingType]] = bind(
        "reading.next",
        "reading.previous",
        "reading.copy",
        "reading.open",
        "reading.copy_prompt",
        "reading.copy_json",
        "app.back",
    )

    def __init__(self, path: Path, ids: Sequence[int], place: int, crumbs: tuple[str, ...]) -> None:
        super().__init__(ids, place, crumbs)
        self.path = path
        self.crumbs = (*crumbs, f"# {count(ids[place] + 1)}")
        self._result: BatchResult | None = None

    def read(self, item: int) -> None:
        """Read an item of the job."""
        path = self.path
        self.crumbs = (*self._above, f"# {count(item + 1)}")
        self.in_thread(lambda: read_result(path, item), self._show, busy="reading")

    def _show(self, result: BatchResult) -> None:
        self._result = result
        view = self.query_one(TextView)
        view.show(*result_blocks(result))
        view.border_title = result_title(result)

    def action_copy(self) -> None:
        """Copy the answer, or the error."""
        if (result := self._result) is not None:
            copy_from(self, lambda: result.response_text if result.success else result.error_message or "")

    def action_copy_prompt(self) -> None:
        """Copy the prompt."""
        if (result := self._result) is not None:
            copy_from(self, lambda: result.prompt)

    def action_copy_json(self) -> None:
        """Copy all of it as JSON."""
        if (result := self._result) is not None:
            copy_from(self, lambda: result_json(result))

    def action_open_pager(self) -> None:
        """Show the text in $PAGER, made harmless, without colours; the screen comes back afterwards."""
        if self._result is None:
            return
        argv = shlex.split(os.environ.get("PAGER", "")) or ["more" if os.name == "nt" else "less"]
        text = "\n".join(harmless(block.text, keep_newlines=True) for block in result_blocks(self._result))
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", errors="replace", delete=False) as file:
            file.write(text)
        try:
            with self.app.suspend():
                subprocess.run([*argv, file.name], check=False)
        except OSError as error:
            self.services.show_error(f"{argv[0]} could not be run: {error.strerror}")
        finally:
            Path(file.name).unlink(missing_ok=True)


def result_title(result: BatchResult) -> str:
    """Status and figures in one line."""
    if not result.attempts:
        return "◌ pending"
    parts = ["✓ done" if result.success else "✗ failed"]
    if result.success:
        parts.append(f"{count(result.tokens_input)} tokens in, {count(result.tokens_output)} out")
    parts.append(f"{result.duration:,.2f} s")
    if result.attempts > 1:
        parts.append(f"{result.attempts} attempts")
    if result.custom_id:
        parts.append(harmless(result.custom_id)[:40])
    return " · ".join(parts)


def result_blocks(result: BatchResult) -> list[Block]:
    """Prompt, and answer or error, under their titles."""
    blocks = [Block("PROMPT", "title"), Block(result.prompt), Block("")]
    if not result.attempts:
        blocks.append(Block("◌ no answer yet", "muted"))
    elif result.success:
        blocks += [Block("ANSWER", "answer"), Block(result.response_text)]
    else:
        title = f"✗ FAILED · {result.error_class or 'permanent'}"
        blocks += [Block(title, "error"), Block(result.error_message or "failed")]
        if result.response_text:
            blocks += [Block(""), Block("WHAT HAD COME", "title"), Block(result.response_text)]
    return blocks


def result_json(result: BatchResult) -> str:
    """A row as JSON, with the keys of an export."""
    record: dict[str, Any] = {
        "prompt_index": result.prompt_index,
        "prompt": result.prompt,
        "response_text": result.response_text,
        "tokens_input": result.tokens_input,
        "tokens_output": result.tokens_output,
        "duration": result.duration,
        "success": result.success,
        "error_message": result.error_message,
    }
    return json.dumps(record, ensure_ascii=False)
