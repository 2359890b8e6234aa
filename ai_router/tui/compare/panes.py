"""The answers of several models to one prompt, a pane each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content

from ai_router.comparing.answers import MOST
from ai_router.tui.widgets.text import harmless
from ai_router.tui.widgets.text_view import TextView
from ai_router.tui.widgets.wrapping import Block

if TYPE_CHECKING:
    from ai_router.comparing.answers import Row
    from ai_router.models import ModelSpec


def facts_of(spec: ModelSpec) -> list[Block]:
    """What is known of a model, where its answer will stand."""
    rows = (
        ("engine", spec.engine),
        ("parameters", spec.parameters_text),
        ("context", f"{spec.context:,} tokens" if spec.context else "—"),
        ("sampling", ", ".join(f"{key} {value}" for key, value in spec.sampling.items()) or "the model's own"),
        ("from", spec.source),
    )
    lines = "\n".join(f"{name:<11} {harmless(str(value))}" for name, value in rows)
    return [Block(lines, "muted"), Block(""), Block("Its answer will stand here.", "muted")]


class AnswerPanes(Container):
    """Beside each other where the screen is wide, else one over the other."""

    def compose(self) -> ComposeResult:
        """As many as there may be; those that are not needed are hidden."""
        for at in range(MOST):
            view = TextView(id=f"compare-{at}", classes="panel")
            view.display = False
            yield view

    def pane(self, at: int) -> TextView:
        """The pane of a model."""
        return self.query_one(f"#compare-{at}", TextView)

    def set_models(self, models: Sequence[str], facts: Sequence[Sequence[Block]] = ()) -> None:
        """Panes of these models, with what is known of each where its answer will stand."""
        for at in range(MOST):
            view = self.pane(at)
            view.display = at < len(models)
            if at < len(models):
                view.border_title = Content(f"{at + 1}  {harmless(models[at])}")
                view.border_subtitle = ""
                view.show(*(facts[at] if facts else (Block(""),)))

    def show(self, row: Row, *, home: bool = False) -> None:
        """The answers there are; each after the first with what differs from it marked."""
        from ai_router.comparing.answers import differences
        from ai_router.comparing.forms import figures

        for at, (answer, shown) in enumerate(zip(row.answers, differences(row), strict=True)):
            view, style = self.pane(at), "error" if answer is None or answer.error else ""
            view.border_subtitle = Content(figures(answer) if answer is not None else "")
            view.show(Block(shown, style), home=home)
