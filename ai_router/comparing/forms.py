"""A comparison as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ai_router.comparing.answers import Compared, Pairing, Row, Said, Total, differences
from batch.evaluation.forms.markdown import table, text
from batch.prices import NANOS, dollars

TOTALS = ("Model", "Answered", "Failed", "Right", "95 %", "Tokens", "Seconds", "Cost")
PAIRS = ("Models", "Both answered", "The same", "Only the first right", "Only the second right", "McNemar p")


def totals_cells(total: Total) -> tuple[str, ...]:
    """A row under `TOTALS`."""
    low, high = total.interval
    return (
        f"{total.model}{f' (job {total.job})' if total.job else ''}",
        f"{total.answered:,}",
        f"{total.failed:,}",
        f"{total.right / total.scored:.1%}" if total.scored else "—",
        f"{low:.1%}–{high:.1%}" if total.scored else "—",
        f"{total.tokens_output:,}",
        f"{total.seconds:,.1f}",
        "unknown" if total.cost is None else dollars(total.cost),
    )


def pair_cells(pair: Pairing) -> tuple[str, ...]:
    """A row under `PAIRS`."""
    share = f"{pair.same:,} ({pair.same / pair.both:.0%})" if pair.both else "—"
    tested = pair.p is not None
    return (
        f"{pair.first}, {pair.second}",
        f"{pair.both:,}",
        share,
        f"{pair.only_first:,}" if tested else "—",
        f"{pair.only_second:,}" if tested else "—",
        f"{pair.p:.3g}" if pair.p is not None else "—",
    )


def figures(answer: Said) -> str:
    """`12 tokens, 0.8 s, $0.0001, right`."""
    parts = [f"{answer.tokens_output:,} tokens", f"{answer.seconds:.1f} s"]
    if answer.cost:
        parts.append(dollars(answer.cost))
    if answer.right is not None:
        parts.append("right" if answer.right else "wrong")
    return ", ".join(parts)


def markdown(made: Compared, rows: Iterable[Row], title: str = "") -> str:
    """The tables, and the answers to each of these rows."""
    lines = [f"# Comparison{f' of {text(title)}' if title else ''}", ""]
    lines += table(TOTALS, [tuple(map(text, totals_cells(total))) for total in made.totals], "lrrrrrrr")
    lines += ["", f"The answers to {made.differing:,} of {made.items:,} prompts are not all the same.", ""]
    lines += table(PAIRS, [tuple(map(text, pair_cells(pair))) for pair in made.pairings], "lrrrrr")
    for row in rows:
        lines += ["", f"## Prompt {row.number}", "", *quoted(row.prompt)]
        if row.expected is not None:
            lines += ["", "Expected:", "", *quoted(row.expected)]
        for answer, shown in zip(row.answers, differences(row), strict=True):
            if answer is not None:
                lines += ["", f"**{text(answer.model)}** ({text(figures(answer))})", "", *quoted(shown)]
    return "\n".join(lines) + "\n"


def quoted(what: str) -> list[str]:
    """A text as a quotation, with nothing in it that Markdown or HTML would obey."""
    return [f"> {text(line)}  " if line.strip() else ">" for line in what.splitlines()] or [">"]


def document(made: Compared, rows: Iterable[Row]) -> dict[str, Any]:
    """All of it as JSON has it: costs in dollars, times in seconds."""
    return {**figures_document(made), "rows": [row_document(row) for row in rows]}


def figures_document(made: Compared) -> dict[str, Any]:
    """The figures alone."""
    return {
        "items": made.items,
        "differing": made.differing,
        "models": [
            {
                "model": total.model,
                **({"job": total.job} if total.job else {}),
                "answered": total.answered,
                "failed": total.failed,
                "scored": total.scored,
                "right": total.right,
                "interval": list(total.interval) if total.scored else None,
                "tokens_output": total.tokens_output,
                "seconds": round(total.seconds, 3),
                "cost": None if total.cost is None else total.cost / NANOS,
            }
            for total in made.totals
        ],
        "pairs": [
            {
                "models": [pair.first, pair.second],
                "both_answered": pair.both,
                "same": pair.same,
                "scored": pair.scored,
                "only_first_right": pair.only_first,
                "only_second_right": pair.only_second,
                "mcnemar_p": pair.p,
            }
            for pair in made.pairings
        ],
    }


def row_document(row: Row) -> dict[str, Any]:
    """One prompt with its answers."""
    return {
        "number": row.number,
        "prompt": row.prompt,
        **({"expected": row.expected} if row.expected is not None else {}),
        "differs": row.differs,
        "answers": [
            None
            if answer is None
            else {
                "model": answer.model,
                "text": answer.text,
                "error": answer.error,
                "right": answer.right,
                "tokens_output": answer.tokens_output,
                "seconds": round(answer.seconds, 3),
                "cost": None if answer.cost is None else answer.cost / NANOS,
            }
            for answer in row.answers
        ],
    }
