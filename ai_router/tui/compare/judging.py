"""What one thinks of several answers to a prompt, said by a key, is evidence for routing."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from ai_router.comparing.answers import Row
from ai_router.tui.base import BaseScreen
from ai_router.tui.widgets.text import harmless, plural


class JudgingScreen(BaseScreen[None]):
    """A screen with a row of answers, and a line `#compare-status` for what is said of them."""

    @property
    def row(self) -> Row | None:
        """The prompt with its answers, where all that are to come are there."""
        return None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only answers that are there can be chosen."""
        if action != "choose":
            return True
        row, which = self.row, parameters[0]
        if row is None or which in ("all", "none"):
            return row is not None
        at = int(str(which))
        answer = row.answers[at] if at < len(row.answers) else None
        return answer is not None and answer.text is not None

    def action_choose(self, which: str) -> None:
        """Keep which answer is best: its place, `all` or `none`."""
        from ai_router.comparing.choice import choose
        from ai_router.routing.evidence import Evidence

        row = self.row
        if row is None:
            return
        evidence = Evidence.of(self.services.workspace)
        there = {at for at, answer in enumerate(row.answers) if answer is not None and answer.text is not None}
        best = there if which == "all" else set() if which == "none" else {int(which)}
        self.in_thread(
            lambda: choose(evidence, row, best),
            lambda count: self.say(f"✓ Kept as evidence: {plural(count, 'graded answer')}"),
            group="choose",
        )

    def ask_for_best(self, row: Row) -> None:
        """Say whether the answers differ, and which keys judge them."""
        same = (
            "The answers differ; where alike: [-less-] {+more+} than the first." if row.differs else "All say the same."
        )
        self.say(f"{same} Which is best? 1–{len(row.answers)}; a: all are right, n: none")

    def say(self, text: str) -> None:
        """In the line under the answers."""
        self.query_one("#compare-status", Static).update(Content(harmless(text)))

    def say_error(self, text: str) -> None:
        """In the line under the answers, as an error."""
        self.query_one("#compare-status", Static).update(Content.styled(f"✗ {harmless(text)}", "$text-error"))
