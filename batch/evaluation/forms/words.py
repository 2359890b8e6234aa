"""Numbers and texts as every form of a report says them."""

from __future__ import annotations

import html

from batch.evaluation.report import Comparison, Difference, LengthBin, Report

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
# C1 controls and what turns the direction of text around.
_NAMED = (*range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
_SHOWN = _PICTURES | {code: f"\\u{code:04x}" for code in _NAMED} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def inert(text: str) -> str:
    """A text from outside with what a reader of it would obey made visible."""
    return text.translate(_SHOWN)


def escaped(text: str) -> str:
    """A text from outside for HTML, content or attribute."""
    return html.escape(inert(text), quote=True)


def percent(value: float | None) -> str:
    """0.923 -> 92.3; — where there is none."""
    return "—" if value is None else f"{100 * value:.1f}"


def range_of(low: float | None, high: float | None) -> str:
    """An interval: 90.1 – 94.2; — where there is none."""
    return "—" if low is None or high is None else f"{percent(low)} – {percent(high)}"


def signed(value: float | None) -> str:
    """A difference in points: +1.2; one that rounds to nothing has no sign."""
    if value is None:
        return "—"
    shown = f"{100 * value:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def signed_range(low: float | None, high: float | None) -> str:
    """The interval of a difference: -1.7 to +0.4."""
    return "—" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def probability(p: float | None) -> str:
    """A p-value; the smallest ones only as such."""
    if p is None:
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict_on(difference: Difference) -> str:
    """What a difference means at the 5 % level."""
    if difference.p is None:
        return ""
    if difference.p >= 0.05:
        return "no clear difference"
    return "better" if (difference.change > 0) is not difference.lower_is_better else "worse"


def length_label(bin_: LengthBin) -> str:
    """The lengths of a bin: 12–15."""
    return f"{bin_.shortest}" if bin_.shortest == bin_.longest else f"{bin_.shortest}–{bin_.longest}"


def summary(report: Report) -> str:
    """How many pairs there were and what became of them."""
    parts = [f"{report.total:,} pairs", f"{report.scored:,} scored", f"{report.failed:,} failed"]
    if report.unscorable:
        parts.append(f"{report.unscorable:,} that cannot be scored")
    if report.skipped:
        parts.append(f"{report.skipped:,} lines skipped")
    if report.superseded:
        parts.append(f"{report.superseded:,} rows replaced by later ones of their id")
    return ", ".join(parts)


def settings(report: Report) -> list[tuple[str, str]]:
    """How it was measured, by name."""
    found = [
        ("match", report.match),
        ("task", report.task),
        ("tokens", report.tokeniser),
        ("normalisation", ", ".join(report.normalisation) or "none"),
    ]
    if report.task == "correction":
        found.append(("edits of verdicts", f"{report.level}s"))
    shares = "shares by Wilson"
    rest = f", others by bootstrap ({report.samples:,} samples, seed {report.seed})" if report.samples else ""
    found.append(("95 % intervals", shares + rest))
    return found + [(f"sacrebleu {name}", text) for name, text in report.signatures.items()]


def paired(comparison: Comparison) -> str:
    """What of two runs could be compared."""
    parts = [f"{comparison.paired:,} questions scored in both"]
    if comparison.only_ours:
        parts.append(f"{comparison.only_ours:,} only in {comparison.name}")
    if comparison.only_theirs:
        parts.append(f"{comparison.only_theirs:,} only in {comparison.against}")
    if comparison.differing:
        parts.append(f"{comparison.differing:,} with the same id but another text, left out")
    return ", ".join(parts)


def tests(comparison: Comparison) -> str:
    """How differences were tested."""
    used = {d.test for d in comparison.differences if d.p is not None}
    names = {"mcnemar": "McNemar's test for shares", "randomisation": "approximate randomisation for the rest"}
    said = " and ".join(names[test] for test in names if test in used)
    return f"p by {said}, of each score alone: among many, one in twenty is below 0.05 by chance" if said else ""


def outcomes(comparison: Comparison) -> list[tuple[str, int, str]]:
    """What changed from one run to the other: name, count, meaning."""
    return [
        ("fixed", comparison.fixed, "right now, not before"),
        ("broken", comparison.broken, "right before, not now"),
        ("both right", comparison.both_right, ""),
        ("both wrong", comparison.both_wrong, ""),
        ("same text", comparison.unchanged, "part of the above"),
    ]
