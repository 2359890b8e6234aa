"""Models that items name: which are honoured, and which another answers for, said before the first token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MOST = 1000  # names that are kept apart
SHOWN = 5


@dataclass(slots=True)
class NamedModels:
    """How many items name which models; what is beyond `MOST` names stands under ""."""

    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str) -> None:
        """One more item names it."""
        kept = name if name in self.counts or len(self.counts) < MOST else ""
        self.counts[kept] = self.counts.get(kept, 0) + 1

    def findings(
        self, model: str | None, answers: Callable[[str], bool], unit: str
    ) -> Iterator[tuple[str, str, int, str]]:
        """(severity, code, count, sentence): first those whose own model answers, then those that `model` answers."""
        own = {name: count for name, count in self.counts.items() if name and answers(name)}
        others = {name: count for name, count in self.counts.items() if name not in own}
        if own:
            count = sum(own.values())
            verb, it = ("names", "it") if count == 1 else ("name", "them")
            text = f"{_count(count, unit)} {verb} a model of their own, which answers {it}: {_listed(own)}"
            yield "warning", "own_model", count, text
        if others:
            count = sum(others.values())
            verb, it = ("names", "it") if count == 1 else ("name", "them")
            text = f"{_count(count, unit)} {verb} another model, and {model} answers {it}: {_listed(others)}"
            yield "warning", "other_model", count, text


def _listed(names: dict[str, int]) -> str:
    shown = sorted((name for name in names if name), key=lambda name: (-names[name], name))
    more = ", …" if len(shown) > SHOWN or "" in names else ""
    return ", ".join(f"{name} ({names[name]:,})" for name in shown[:SHOWN]) + more


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
