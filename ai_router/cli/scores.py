"""An evaluation on a terminal: tables that fit 80 columns, and rows with their differences marked and coloured."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from ai_router.cli.text import clip, inert, is_terminal, one_line, table, width_of
from batch.evaluation.diff import MARKS, Span, diff, spans
from batch.evaluation.forms import words
from batch.evaluation.report import Change, Comparison, Report
from batch.evaluation.verdicts import SIGNS, Verdict

_BAR = 20
_MOST_TYPES = 12
_MOST_TEXT = 400  # characters of a text; whole ones are in the other forms
_COLOURS = {"deleted": "\x1b[31m", "inserted": "\x1b[32m", "same": ""}
_WRONG = (Verdict.WRONG, Verdict.OVER_CORRECTED, Verdict.UNDER_CORRECTED, Verdict.NOT_CORRECTED)


def write(report: Report, comparison: Comparison | None, *, rows: int) -> None:
    """All of it to stdout."""
    width = max(60, min(100, width_of(sys.stdout))) if is_terminal(sys.stdout) else 80
    _line(f"{inert(report.name)}: {words.summary(report)}")
    _paragraph(" · ".join(f"{name} {value}" for name, value in words.settings(report)[:4]), width)
    for note in report.notes:
        _paragraph(note, width)
    _scores(report)
    if comparison is not None:
        _comparison(comparison, rows, width)
    _verdicts(report)
    _types(report, width)
    _lengths(report)
    if report.errors:
        _head("Failures")
        for error, count in report.errors[:5]:
            _line(f"  {count:>7,}  {one_line(error, width - 11)}")
    for verdict in _WRONG:
        pairs = report.examples.get(verdict, ())[:rows]
        if pairs and comparison is None:
            _head(f"{str(verdict).capitalize()} ({len(pairs):,} of {report.verdicts[verdict]:,})")
            for pair in pairs:
                texts = map(_cut, (pair.input, pair.expected, pair.predicted))
                shown = diff(*texts, correction=report.task == "correction")
                _row(
                    f"{SIGNS[verdict]} {pair.example_id}" + (f"  {pair.error_type}" if pair.error_type else ""),
                    [
                        ("input", shown.input),
                        ("expected", shown.expected),
                        ("predicted", shown.predicted),
                    ],
                )
    if report.signatures:
        _head("sacrebleu")
        for name, signature in report.signatures.items():
            _line(f"  {name:<5}  {signature}")


def _scores(report: Report) -> None:
    _line("")
    found = []
    for score in report.scores:
        found.append(
            [
                score.title + (" ↓" if score.lower_is_better else ""),
                words.percent(score.value),
                words.range_of(score.low, score.high),
                _bar(score.value),
            ]
        )
    _line(table(("SCORE", "VALUE", "95 % INTERVAL", ""), found, right={"VALUE", "95 % INTERVAL"}))
    if any(score.lower_is_better for score in report.scores):
        _line("↓ lower is better")


def _verdicts(report: Report) -> None:
    _line("")
    found = [
        [f"{SIGNS[verdict]} {verdict}", f"{count:,}", words.percent(count / report.total), _bar(count / report.total)]
        for verdict in Verdict
        if (count := report.verdicts.get(verdict, 0))
    ]
    _line(table(("VERDICT", "PAIRS", "%", ""), found, right={"PAIRS", "%"}))


def _types(report: Report, width: int) -> None:
    if not report.types:
        return
    _line("")
    correction = report.task == "correction"
    found = []
    for kind in report.types[:_MOST_TYPES]:
        row = [
            clip(inert(kind.name), 24),
            f"{kind.n:,}",
            words.percent(kind.share),
            words.range_of(kind.low, kind.high),
            *([words.percent(kind.edit_f05)] if correction else []),
            _bar(kind.share, 12),
        ]
        found.append(row)
    heads = ["ERROR TYPE", "PAIRS", "RIGHT", "95 % INTERVAL", *(["EDITS F0.5"] if correction else []), ""]
    _line(table(heads, found, right={"PAIRS", "RIGHT", "95 % INTERVAL", "EDITS F0.5"}, width=width))
    if len(report.types) > _MOST_TYPES:
        _line(f"and {len(report.types) - _MOST_TYPES:,} rarer types (--json has them all)")


def _lengths(report: Report) -> None:
    if len(report.lengths) < 2:
        return
    _line("")
    found = [
        [
            words.length_label(b),
            f"{b.n:,}",
            words.percent(b.right / b.n),
            words.range_of(b.low, b.high),
            _bar(b.right / b.n),
        ]
        for b in report.lengths
    ]
    heads = ("INPUT LENGTH", "PAIRS", "RIGHT", "95 % INTERVAL", "")
    _line(table(heads, found, right={"INPUT LENGTH", "PAIRS", "RIGHT", "95 % INTERVAL"}))


def _comparison(comparison: Comparison, rows: int, width: int) -> None:
    _head(f"Against {inert(comparison.against)}: {words.paired(comparison)}")
    for note in comparison.notes:
        _paragraph(note, width)
    for name, count, meaning in words.outcomes(comparison):
        _line(f"  {name:<11} {count:>8,}  {meaning}".rstrip())
    if comparison.differences:
        _line("")
        found = [
            [
                d.title,
                words.percent(d.theirs),
                words.percent(d.ours),
                words.signed(d.change),
                words.signed_range(d.low, d.high),
                words.probability(d.p),
                words.verdict_on(d).replace("no clear difference", "unclear"),
            ]
            for d in comparison.differences
        ]
        heads = ("SCORE", "BEFORE", "NOW", "CHANGE", "95 %", "P", "")
        _line(table(heads, found, right=set(heads[1:6])))
        if said := words.tests(comparison):
            _paragraph(said, width)
    for kind, sign in (("fixed", "+"), ("broken", "x")):
        changes = comparison.changes.get(kind, ())[:rows]
        if changes:
            count = comparison.fixed if kind == "fixed" else comparison.broken
            _head(f"{kind.capitalize()} ({len(changes):,} of {count:,})")
            for change in changes:
                _change(change, sign)


def _change(change: Change, sign: str) -> None:
    pair = change.pair
    wanted = _cut(pair.expected)
    _row(
        f"{sign} {pair.example_id}" + (f"  {pair.error_type}" if pair.error_type else ""),
        [
            ("input", [(_cut(pair.input), "same")]),
            ("expected", [(wanted, "same")]),
            ("before", spans(wanted, _cut(change.before))),
            ("now", spans(wanted, _cut(pair.predicted))),
        ],
    )


def _row(head: str, texts: Sequence[tuple[str, Iterable[Span]]]) -> None:
    _line(inert(head))
    for name, parts in texts:
        _line(f"  {name:<10} {_coloured(parts)}")


def _coloured(parts: Iterable[Span]) -> str:
    """Marks always, colour where somebody sees it."""
    colours = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    found = []
    for text, kind in parts:
        begin, end = MARKS[kind]
        shown = f"{begin}{inert(text)}{end}"
        found.append(f"{_COLOURS[kind]}{shown}\x1b[0m" if colours and _COLOURS[kind] else shown)
    return "".join(found)


def _bar(share: float, width: int = _BAR) -> str:
    eighths = round(8 * width * min(1.0, max(0.0, share)))
    whole, part = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _head(text: str) -> None:
    _line(f"\n{text}")


def _paragraph(text: str, width: int) -> None:
    import textwrap

    for line in textwrap.wrap(inert(text), width):
        _line(line)


def _line(text: str) -> None:
    # Not `emit`: what comes from outside was made inert part by part, and the colours are our own.
    sys.stdout.write(text + "\n")
