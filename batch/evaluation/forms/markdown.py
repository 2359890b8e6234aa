"""A report as Markdown, for a pull request or a model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from batch.evaluation.diff import Span, diff
from batch.evaluation.forms import words
from batch.evaluation.report import Comparison, Report
from batch.evaluation.verdicts import Verdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>])")
_TAGS = {"same": ("", ""), "deleted": ("<del>", "</del>"), "inserted": ("<ins>", "</ins>")}
_SHOWN = (
    Verdict.WRONG,
    Verdict.OVER_CORRECTED,
    Verdict.UNDER_CORRECTED,
    Verdict.NOT_CORRECTED,
)


def markdown(report: Report, comparison: Comparison | None = None, *, rows: int = 5) -> str:
    """The report with at most so many rows of each kind of mistake."""
    lines = [f"# Evaluation of {text(report.name)}", "", f"{words.summary(report)}.", ""]
    lines += table(
        ("Score", "Value", "95 % interval"),
        [
            (
                score.title + (" (lower is better)" if score.lower_is_better else ""),
                words.percent(score.value),
                words.range_of(score.low, score.high),
            )
            for score in report.scores
        ],
        "lrr",
    )
    if comparison is not None:
        lines += _comparison(comparison, rows)
    lines += ["", "## Verdicts", ""]
    lines += table(
        ("Verdict", "Pairs"), [(str(v), f"{report.verdicts[v]:,}") for v in Verdict if report.verdicts.get(v)], "lr"
    )
    if report.types:
        lines += ["", "## By error type", ""]
        types = [
            (text(t.name), f"{t.n:,}", words.percent(t.share), words.range_of(t.low, t.high), words.percent(t.edit_f05))
            for t in report.types
        ]
        lines += table(("Error type", "Pairs", "Right", "95 % interval", "Edits F0.5"), types, "lrrrr")
    if len(report.lengths) > 1:
        lines += ["", "## By length of the input", ""]
        bins = [
            (words.length_label(b), f"{b.n:,}", words.percent(b.right / b.n), words.range_of(b.low, b.high))
            for b in report.lengths
        ]
        lines += table(("Characters", "Pairs", "Right", "95 % interval"), bins, "lrrr")
    lines += _examples(report, rows)
    if report.errors:
        lines += ["", "## Failures", ""]
        lines += [f"- {count:,} × {text(error)}" for error, count in report.errors]
    lines += ["", "## How it was measured", ""]
    lines += [f"- {name}: {text(value)}" for name, value in words.settings(report)]
    lines += [f"- {text(note)}" for note in report.notes]
    lines += [f"- line {problem.line} skipped: {text(problem.message)}" for problem in report.problems]
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    """A text from outside as Markdown that says just that, on one line."""
    value = words.inert(" ".join(value.split("\n"))).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """A table; `align` has l or r for each column."""
    rule = "|".join("---:" if side == "r" else "---" for side in align)
    return [f"| {' | '.join(heads)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _spans(parts: Iterable[Span]) -> str:
    return "".join(f"{_TAGS[kind][0]}{text(value)}{_TAGS[kind][1]}" for value, kind in parts)


def _examples(report: Report, rows: int) -> list[str]:
    lines: list[str] = []
    for verdict in _SHOWN:
        pairs = report.examples.get(verdict, ())[:rows]
        if not pairs:
            continue
        lines += ["", f"## {str(verdict).capitalize()}: {len(pairs):,} of {report.verdicts[verdict]:,}", ""]
        found = []
        for pair in pairs:
            shown = diff(pair.input, pair.expected, pair.predicted, correction=report.task == "correction")
            found.append((text(pair.example_id), *map(_spans, shown)))
        lines += table(("Id", "Input", "Expected", "Predicted against expected"), found, "llll")
    return lines


def _comparison(comparison: Comparison, rows: int) -> list[str]:
    lines = ["", f"## Against {text(comparison.against)}", "", f"{words.paired(comparison)}.", ""]
    lines += table(
        ("", "Questions", ""),
        [(name, f"{count:,}", meaning) for name, count, meaning in words.outcomes(comparison)],
        "lrl",
    )
    lines += [""]
    lines += table(
        ("Score", "Before", "Now", "Change", "95 % interval", "p", ""),
        [
            (
                d.title,
                words.percent(d.theirs),
                words.percent(d.ours),
                words.signed(d.change),
                words.signed_range(d.low, d.high),
                words.probability(d.p).replace("<", "&lt;"),
                words.verdict_on(d),
            )
            for d in comparison.differences
        ],
        "lrrrrrl",
    )
    if said := words.tests(comparison):
        lines += ["", f"{text(said)}."]
    for kind in ("fixed", "broken"):
        changes = comparison.changes.get(kind, ())[:rows]
        if changes:
            lines += ["", f"### {kind.capitalize()}", ""]
            found = [
                (
                    text(c.pair.example_id),
                    text(c.pair.input),
                    text(c.pair.expected),
                    text(c.before),
                    text(c.pair.predicted),
                )
                for c in changes
            ]
            lines += table(("Id", "Input", "Expected", "Before", "Now"), found, "lllll")
    return lines + [f"\n{text(note)}" for note in comparison.notes]
