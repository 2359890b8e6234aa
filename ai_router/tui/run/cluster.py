"""A run on a cluster: its nodes, what each actor does, at what rate, and what died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from ai_router.tui.widgets.panel import Panel, fit, rate, right
from ai_router.tui.widgets.text import one_line, pad, plural

STATES: Mapping[
    str, tuple[str, str, str]
] = {  # of an actor: sign, its style, a word where it says more than the figures
    "starting": ("◌", "$text-muted", "starting"),
    "ready": ("▶", "$text-accent", ""),
    "leaving": ("◷", "$text-warning", "its node is to go"),
    "unseen": ("?", "$text-warning", "out of reach"),
}
_Row = Mapping[str, Any]  # of an actor, as the run says it
LEAST_NODE, MOST_NODE = 4, 24  # cells
LEAST_WORDS = 12


class ClusterPanel(Panel):
    """A line of the nodes, then a line an actor: node, items it holds, items a second, items done, what it is at."""

    MOST = 8

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - the word of Textual
        super().__init__(id=id)
        self.there: Mapping[str, Any] = {}

    def show(self, about: Mapping[str, Any]) -> bool:
        """Draw what a run says of its cluster; whether it says anything."""
        there = about.get("cluster")
        self.there = there if isinstance(there, Mapping) else {}
        if not self.there:
            return False
        nodes, actors = self.node_texts, self.actors
        ready = sum(actor.get("state") == "ready" for actor in actors)
        speed = sum(map(_speed, actors))
        parts = [plural(len(nodes), "node"), f"{ready:,} of {plural(len(actors), 'actor')}", f"{rate(speed)} items/s"]
        self.set_title("Cluster · " + " · ".join(parts), self.lost)
        most = self.MOST if self.screen.has_class("-tall") else 3 if self.screen.has_class("-tiny") else 4
        self.styles.height = min(len(actors) + 1, most) + 2
        self.redraw()
        return True

    @property
    def node_texts(self) -> list[str]:
        """The nodes, each with what it has."""
        return [str(node) for node in self.there.get("nodes") or ()]

    @property
    def actors(self) -> list[_Row]:
        """What is said of each actor."""
        return [actor for actor in self.there.get("actors") or () if isinstance(actor, Mapping)]

    @property
    def lost(self) -> str:
        """`lost: 2 with its node, 1 crashed`, and what ran twice; "" where nothing did."""
        died = [f"{count:,} {why}" for why, count in (self.there.get("died") or {}).items()]
        said = ["lost: " + ", ".join(died)] if died else []
        if twice := self.there.get("duplicates"):
            said.append(f"{twice:,} answered twice, counted once")
        return one_line(" · ".join(said), 100)

    def lines(self, width: int, height: int) -> Sequence[Content]:
        """As many actors as fit, and how many more there are."""
        actors = self.actors
        room = max(1, height - 1)
        shown = actors if len(actors) <= room else actors[: max(1, room - 1)]
        drawn = [self._head(width), *(self._line(actor, shown, width) for actor in shown)]
        if (more := len(actors) - len(shown)) > 0 and room > 1:
            drawn.append(Content.styled(f"and {plural(more, 'actor')} more", "$text-muted"))
        return drawn

    def _head(self, width: int) -> Content:
        text = " · ".join(self.node_texts) or "no node yet"
        return Content.styled(pad(one_line(text, width), width), "$text-muted")

    @staticmethod
    def _line(actor: _Row, shown: Sequence[_Row], width: int) -> Content:
        numbers, held, done = (max(len(text) for text in texts) for texts in zip(*map(_figures, shown), strict=True))
        nodes = min(MOST_NODE, max(LEAST_NODE, *(len(_node(one)) for one in shown)))
        sign, style, word = STATES.get(str(actor.get("state")), ("?", "$text-muted", str(actor.get("state"))))
        number, holds, did = _figures(actor)
        figures = (
            Content.assemble((f"{sign} ", style), (right(number, numbers), "bold")),
            Content(pad(one_line(_node(actor), nodes), nodes)),
            Content.assemble(right(holds, held), (" held", "$text-muted")),
            Content.assemble(right(rate(_speed(actor)), 5), ("/s", "$text-muted")),
            Content.assemble(right(did, max(3, done)), (" done", "$text-muted")),
        )
        made = fit(figures, width, "  ")
        rest = width - made.cell_length - 2
        if rest < LEAST_WORDS:
            return made
        words = (one_line(word, rest), style) if word else (one_line(str(actor.get("on") or ""), rest), "$text-muted")
        return Content.assemble(made, "  ", words)


def _figures(actor: _Row) -> tuple[str, str, str]:
    """Its number, what it holds, what it has done."""
    return str(actor.get("actor", "")), f"{int(actor.get('held') or 0):,}", f"{int(actor.get('done') or 0):,}"


def _node(actor: _Row) -> str:
    return str(actor.get("node") or "—")


def _speed(actor: _Row) -> float:
    return float(actor.get("items_per_second") or 0)
