"""One item, whole: its prompt, its answer or error, its figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Input

from ai_router.tui.actions import bind
from ai_router.tui.clipboard import copy_from
from ai_router.tui.editor import open_in
from ai_router.tui.jobs.again import run_again, run_as_before
from ai_router.tui.reading import ListReadingScreen
from ai_router.tui.results.data import read_result
from ai_router.tui.results.dialogs import EditDialog
from ai_router.tui.widgets.find_input import FindInput
from ai_router.tui.widgets.text import count, harmless, hits, one_line
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import MOST_MARKDOWN, Block, thinking_blocks
from batch.prices import dollars
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from batch.job import BatchResult


class ReadingScreen(ListReadingScreen):
    """The text of one item of a job.

    `words` (casefolded) are marked in it, and `n` and `N` go from one to the next.
    """

    BINDINGS: ClassVar[list[BindingType]] = bind(
        "reading.next",
        "reading.previous",
        "reading.find",
        "reading.copy",
        "reading.rendered",
        "reading.thinking",
        "reading.open",
        "reading.editor",
        "reading.copy_prompt",
        "reading.copy_json",
        "reading.next_item",
        "reading.previous_item",
        "reading.hit_back",
        "reading.edit",
        "app.back",
    )

    def __init__(
        self, path: Path, ids: Sequence[int], place: int, crumbs: tuple[str, ...], words: tuple[str, ...] = ()
    ) -> None:
        super().__init__(ids, place, crumbs)
        self.path, self.words = path, words
        self.crumbs = (*crumbs, f"# {count(ids[place] + 1)}")
        self._result: BatchResult | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        yield FindInput("text in this item; n and N go on", id="reading-find")
        view = TextView(id="reading", classes="panel")
        view.markdown_note = "Markdown · m as it came"
        yield view

    def read(self, item: int) -> None:
        """Read an item of the job."""
        path = self.path
        self.crumbs = (*self._above, f"# {count(item + 1)}")
        self.in_thread(lambda: read_result(path, item), self._show, busy="reading", keys_wait=True)

    def _show(self, result: BatchResult) -> None:
        self._result = result
        self.query_one(TextView).show_title(result_facts(result))
        self._show_blocks(result)

    def _show_blocks(self, result: BatchResult, *, home: bool = True) -> None:
        """The text, in which what is looked for stands as it came."""
        keys = [key for key, _ in self.keys_of("reading.thinking")]
        folded = "" if self.unfolded or not keys else f"{keys[0]} shows it"
        blocks = result_blocks(result, self.words, markdown=self.services.markdown, folded=folded)
        self.query_one(TextView).show(*blocks, home=home)

    def action_back(self) -> None:
        """Out of what is looked for first; then back to the list, at this place."""
        field = self.query_one("#reading-find", Input)
        if field.display:
            field.display = False
            self._look_for("")
            self.query_one("#reading").focus()
        else:
            super().action_back()

    # -- finding --------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Type what is looked for."""
        field = self.query_one("#reading-find", Input)
        field.display = True
        field.focus()

    @on(Input.Submitted, "#reading-find")
    def _submitted(self, event: Input.Submitted) -> None:
        self._look_for(event.value)
        self.query_one("#reading").focus()
        if self.words:
            self.call_after_refresh(self.action_next_hit)

    def _look_for(self, text: str) -> None:
        self.words = (text.casefold(),) if text.strip() else ()
        self.show_place()
        if self._result is not None:
            self._show_blocks(self._result)

    def action_next_hit(self) -> None:
        """The next place; without anything looked for, the next item."""
        if self.words:
            self._go_to_hit(1)
        else:
            self.action_next()

    def action_previous_hit(self) -> None:
        """The place before."""
        if self.words:
            self._go_to_hit(-1)
        else:
            self.action_previous()

    def _go_to_hit(self, step: int) -> None:
        view = self.query_one(TextView)
        lines = view.lines_with("hit")
        at = self._hit_line if self._hit_of == (self.place, self.words) else -1
        there = [line for line in lines if (line > at if step > 0 else line < at)]
        if not lines:
            self.notify("It does not stand in this item", timeout=2)
            return
        self._hit_line = (there[0] if step > 0 else there[-1]) if there else (lines[0] if step > 0 else lines[-1])
        self._hit_of = (self.place, self.words)
        view.scroll_to(y=max(0, self._hit_line - view.size.height // 3), animate=False, immediate=True)
        self.context_text = f"hit line {count(lines.index(self._hit_line) + 1)} of {count(len(lines))}"

    _hit_line = -1
    _hit_of: tuple[int, tuple[str, ...]] = (-1, ())

    # -- Markdown -------------------------------------------------------------------------------------------------

    def action_rendered(self) -> None:
        """Show answers as Markdown, or as they came, here and wherever they are read."""
        self.services.turn_markdown()
        if (result := self._result) is not None:
            self._show_blocks(result, home=False)
            if self.services.markdown and self.words:
                self.notify("While something is looked for, the text stays as it came", timeout=3)
            elif self.services.markdown and len(result.response_text) > MOST_MARKDOWN:
                self.notify(f"Longer than {count(MOST_MARKDOWN)} characters: shown as it came", timeout=3)

    def action_thinking(self) -> None:
        """Show what was thought before the answer, or fold it, for this item and the next ones."""
        self.unfolded = not self.unfolded
        if (result := self._result) is not None:
            if not thinking_apart(result.response_text, result.extra)[0]:
                self.notify("Nothing was thought aloud before this answer", timeout=2)
            self._show_blocks(result, home=False)

    unfolded = False  # whether what was thought is shown

    def action_copy(self) -> None:
        """Copy the answer, or the error."""
        if (result := self._result) is not None:
            copy_from(self, lambda: answer_or_error(result))

    def action_copy_prompt(self) -> None:
        """Copy the prompt."""
        if (result := self._result) is not None:
            copy_from(self, lambda: result.prompt)

    def action_copy_json(self) -> None:
        """Copy all of it as JSON."""
        if (result := self._result) is not None:
            copy_from(self, lambda: result_json(result))

    def action_edit(self) -> None:
        """Change the prompt and run this item again, as a new job."""
        result, path = self._result, self.path
        if result is None:
            return

        def changed(answer: tuple[str, bool] | None) -> None:
            if answer is None:
                return
            text, as_before = answer
            ids, edits = [result.prompt_index], {result.prompt_index: text}
            if as_before:
                run_as_before(self, path, ids, edits, result.model)
            else:
                run_again(self, path, ids, edits)

        self.app.push_screen(EditDialog(result.prompt), changed)

    def action_open_pager(self) -> None:
        """Show the text in $PAGER, made harmless, without colours; the screen comes back afterwards."""
        self._open_in("PAGER")

    def action_open_editor(self) -> None:
        """Open a copy of the text in $EDITOR; what is changed there is kept nowhere."""
        self._open_in("EDITOR")

    def _open_in(self, variable: str) -> None:
        if self._result is None:
            return
        text = "\n".join(harmless(block.text, keep_newlines=True) for block in result_blocks(self._result))
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", errors="replace", delete=False) as file:
            file.write(text)
        try:
            open_in(self, variable, Path(file.name))
        finally:
            Path(file.name).unlink(missing_ok=True)


def result_facts(result: BatchResult) -> list[str]:
    """Status and figures, for one line: what matters most first."""
    if not result.attempts:
        return ["◌ pending"]
    parts = ["✓ done" if result.success else "✗ failed"]
    if result.success:
        parts.append(f"{count(result.tokens_input)} tokens in, {count(result.tokens_output)} out")
    parts.append(f"{result.duration:,.2f} s")
    if result.cost:
        parts.append(dollars(result.cost))
    if result.model:
        parts.append(one_line(result.model, 40))
    if result.attempts > 1:
        parts.append(f"{result.attempts} attempts")
    if result.custom_id:
        parts.append(harmless(result.custom_id)[:40])
    return parts


def result_blocks(
    result: BatchResult,
    words: tuple[str, ...] = (),
    *,
    markdown: bool = False,
    brief: bool = False,
    folded: str = "",
) -> list[Block]:
    """Prompt, and answer or error, under their titles; an error first. Where `words` stand is marked.

    A `brief` text, for a few lines, is the answer or the error alone, as it came, without its empty lines.

    The answer is laid out as `markdown`, except where it has to stand as it came for the words to be found in it; for
    these, what was thought before it is shown too, which else is `folded` into a line that says how it is shown.
    """

    def block(text: str) -> Block:
        if not words:
            return Block(text)
        text = harmless(text, keep_newlines=True)
        return Block(text, parts=tuple((start, end, "hit") for start, end in hits(text, words)))

    prompt = [Block("PROMPT", "title"), block(result.prompt)]
    if not result.attempts:
        waits = Block("◌ no answer yet", "muted")
        return [waits] if brief else [*prompt, Block(""), waits]
    thought, answer_text = thinking_apart(result.response_text, result.extra)
    thinking = thinking_blocks(thought, "" if words else folded) if thought else []
    if words and thinking:
        thinking[1] = block(thought)
    if brief:
        text = answer_text if result.success else result.error_message or "failed"
        return [block("\n".join(filter(str.strip, text.splitlines())))]
    if result.success:
        answer = Block(answer_text, markdown=True) if markdown and not words else block(answer_text)
        return [*prompt, Block(""), Block("ANSWER", "answer"), *thinking, answer]
    title = f"✗ FAILED · {result.error_class or 'permanent'}"
    blocks = [Block(title, "error"), block(result.error_message or "failed"), Block(""), *prompt]
    if answer_text or thinking:
        blocks += [Block(""), Block("WHAT HAD COME", "title"), *thinking, block(answer_text)]
    return blocks


def answer_or_error(result: BatchResult) -> str:
    """The answer without what was thought before it; of an item that failed, its error."""
    if not result.success:
        return result.error_message or ""
    return thinking_apart(result.response_text, result.extra)[1]


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
    if isinstance(reasoning := (result.extra or {}).get("reasoning"), str):
        record["reasoning"] = reasoning
    record |= {"model": result.model, "attempts": result.attempts} if result.attempts else {}
    return json.dumps(record, ensure_ascii=False)
