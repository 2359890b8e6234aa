"""A report as one HTML file: nothing is loaded from anywhere, nothing in it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batch.evaluation.diff import Span, diff, spans
from batch.evaluation.forms import words
from batch.evaluation.forms.style import CSS
from batch.evaluation.forms.svg import Bar, Dot, bars, columns, dots
from batch.evaluation.forms.words import escaped
from batch.evaluation.pairs import Pair
from batch.evaluation.report import Change, Comparison, Difference, Report, Score
from batch.evaluation.verdicts import Verdict

_TAGS = {"same": "", "deleted": "del", "inserted": "ins"}
_MOST_TYPES = 40
_MOST_SHOWN = 4_000  # characters of a text
# As the screens have them.
SIGNS = {
    Verdict.RIGHT: "✓",
    Verdict.WRONG: "✗",
    Verdict.OVER_CORRECTED: "+",
    Verdict.UNDER_CORRECTED: "−",
    Verdict.NOT_CORRECTED: "○",
    Verdict.FAILED: "!",
    Verdict.UNSCORABLE: "?",
}


def html(report: Report, comparison: Comparison | None = None) -> str:
    """The whole page."""
    body = [
        f"<h1>{escaped(report.name)}</h1>",
        f'<p class="dim">{escaped(words.summary(report))}</p>',
        _tiles(report),
        *(f"<p>{escaped(note)}</p>" for note in report.notes),
        *_scores(report),
        *(_comparison(comparison) if comparison else ()),
        *_breakdown(report),
        *_rows(report),
        *_failures(report),
        "<h2>How it was measured</h2>",
        f'<div class="card"><dl>{"".join(_setting(n, v) for n, v in words.settings(report))}</dl></div>',
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(report.name)} · evaluation</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _tiles(report: Report) -> str:
    main = report.main
    chosen = [(main.title, words.percent(main.value), f"95 %: {words.range_of(main.low, main.high)}")]
    for key in ("edit_f0.5", "gleu", "bleu", "token_f1"):
        score = report.score(key)
        if score is not None and len(chosen) < 4:
            chosen.append((score.title, words.percent(score.value), f"95 %: {words.range_of(score.low, score.high)}"))
    chosen.append(("Scored", f"{report.scored:,}", f"of {report.total:,} pairs"))
    if report.failed:
        chosen.append(("Failed", f"{report.failed:,}", "not part of any score"))
    tiles = "".join(
        f'<div class="tile"><span>{escaped(title)}</span><b>{value}</b><span>{escaped(note)}</span></div>'
        for title, value, note in chosen
    )
    return f'<div class="tiles">{tiles}</div>'


def _scores(report: Report) -> list[str]:
    parts = []
    for lower, head in ((False, "Scores"), (True, "Rates and distances, lower is better")):
        rows = [_bar(score) for score in report.scores if score.lower_is_better is lower]
        if rows:
            parts += [f"<h2>{head}</h2>", _card(bars(rows, f"{head}, with 95 % intervals"))]
    return parts


def _bar(score: Score) -> Bar:
    note = words.percent(score.value)
    if score.low is not None:
        note += f"  ({words.range_of(score.low, score.high)})"
    return Bar(score.title, score.value, score.low, score.high, note)


def _breakdown(report: Report) -> list[str]:
    parts = ["<h2>What became of the pairs</h2>"]
    total = max(1, report.total)
    verdicts = [(v, report.verdicts[v]) for v in Verdict if report.verdicts.get(v)]
    rows = [
        Bar(f"{SIGNS[v]} {v}", count / total, None, None, f"{count:,}  ({words.percent(count / total)} %)")
        for v, count in verdicts
    ]
    parts.append(_card(bars(rows, "Pairs by verdict, in percent of all")))
    if report.types:
        types = [
            Bar(
                t.name,
                t.share,
                t.low,
                t.high,
                f"{words.percent(t.share)}  of {t.n:,}" + (f" · F {words.percent(t.edit_f05)}" if t.edit_f05 else ""),
            )
            for t in report.types[:_MOST_TYPES]
        ]
        parts += ["<h2>Right by error type</h2>", _card(bars(types, "Right predictions by error type, in percent"))]
        if len(report.types) > _MOST_TYPES:
            parts.append(f'<p class="dim">and {len(report.types) - _MOST_TYPES:,} rarer types</p>')
    if len(report.lengths) > 1:
        bins = [
            Bar(words.length_label(b), b.right / b.n, b.low, b.high, f"{words.percent(b.right / b.n)} % of {b.n:,}")
            for b in report.lengths
        ]
        plot = columns(bins, "Right predictions by length of the input, in percent", "characters of the input")
        parts += ["<h2>Right by length of the input</h2>", _card(plot)]
    return parts


def _comparison(comparison: Comparison) -> list[str]:
    parts = [
        f"<h2>Against {escaped(comparison.against)}</h2>",
        f'<p class="dim">{escaped(words.paired(comparison))}</p>',
        *(f"<p>{escaped(note)}</p>" for note in comparison.notes),
    ]
    tiles = "".join(
        f'<div class="tile"><span>{name}</span><b>{count:,}</b><span>{meaning}</span></div>'
        for name, count, meaning in words.outcomes(comparison)
    )
    parts.append(f'<div class="tiles">{tiles}</div>')
    if comparison.differences:
        plot = [
            Dot(
                d.title,
                d.change,
                d.low,
                d.high,
                _change_note(d),
                word if (word := words.verdict_on(d)) in ("better", "worse") else "",
            )
            for d in comparison.differences
        ]
        parts.append(_card(dots(plot, "Change of each score in points, with 95 % intervals")))
        parts.append(_differences(comparison))
        parts.append(f'<p class="dim">{escaped(words.tests(comparison))}</p>')
    for kind in ("fixed", "broken"):
        changes = comparison.changes.get(kind, ())
        count = comparison.fixed if kind == "fixed" else comparison.broken
        if changes:
            head = f"{kind}: {_of(len(changes), count)}"
            parts.append(_details("+" if kind == "fixed" else "x", head, _changes(changes), open_=kind == "broken"))
    return parts


def _change_note(difference: Difference) -> str:
    word = words.verdict_on(difference)
    said = word if word in ("better", "worse") else f"p {words.probability(difference.p)}"
    return f"{words.signed(difference.change)} · {said}"


def _differences(comparison: Comparison) -> str:
    rows = []
    for d in comparison.differences:
        word = words.verdict_on(d)
        interval = words.signed_range(d.low, d.high)
        kind = word if word in ("better", "worse") else "dim"
        numbers = (words.percent(d.theirs), words.percent(d.ours), words.signed(d.change), interval)
        rows.append(
            [
                f"<td>{escaped(d.title)}</td>",
                *(f'<td class="n">{value}</td>' for value in numbers),
                f'<td class="n">{escaped(words.probability(d.p))}</td>',
                f"<td>{d.test if d.p is not None else ''}</td>",
                f'<td class="{kind}">{word}</td>',
            ]
        )
    heads = ("Score", "Before", "Now", "Change", "95 %", "p", "Test", "")
    return _details("", "All differences", _table(heads, rows, numbers=range(1, 6)))


def _rows(report: Report) -> list[str]:
    parts = ["<h2>Rows</h2>"]
    for verdict in Verdict:
        pairs = report.examples.get(verdict, ())
        if not pairs or verdict is Verdict.UNSCORABLE:
            continue
        head = f"{verdict}: {_of(len(pairs), report.verdicts[verdict])}"
        correction = report.task == "correction"
        body = _failed(pairs) if verdict is Verdict.FAILED else _pairs(pairs, correction=correction)
        parts.append(_details(SIGNS[verdict], head, body, open_=verdict is Verdict.WRONG))
    if len(parts) == 1:
        return []
    parts.insert(
        1,
        '<p class="dim">Predictions are shown against the expected text: <del>missing</del> and '
        "<ins>too much</ins>.</p>",
    )
    return parts


def _pairs(pairs: Iterable[Pair], *, correction: bool) -> str:
    rows = []
    for pair in pairs:
        texts = map(_cut, (pair.input, pair.expected, pair.predicted))
        rows.append(_row(pair.example_id, *map(_spans, diff(*texts, correction=correction))))
    return _table(("Id", "Input", "Expected", "Predicted"), rows)


def _failed(pairs: Iterable[Pair]) -> str:
    rows = [_row(p.example_id, *(escaped(_cut(t)) for t in (p.input, p.expected, p.error or ""))) for p in pairs]
    return _table(("Id", "Input", "Expected", "Error"), rows)


def _changes(changes: Iterable[Change]) -> str:
    rows = []
    for change in changes:
        pair = change.pair
        wanted = _cut(pair.expected)
        texts = [spans(wanted, _cut(made)) for made in (change.before, pair.predicted)]
        rows.append(_row(pair.example_id, escaped(_cut(pair.input)), escaped(wanted), *map(_spans, texts)))
    return _table(("Id", "Input", "Expected", "Before", "Now"), rows)


def _failures(report: Report) -> list[str]:
    parts = []
    if report.errors:
        rows = [[f'<td class="n">{n:,}</td>', f'<td class="t">{escaped(_cut(e))}</td>'] for e, n in report.errors]
        parts += ["<h2>Why predictions failed</h2>", _card(_table(("Pairs", "Error"), rows, numbers=(0,)))]
    if report.problems:
        rows = [[f'<td class="n">{p.line:,}</td>', f'<td class="t">{escaped(p.message)}</td>'] for p in report.problems]
        parts += ["<h2>Lines skipped</h2>", _card(_table(("Line", "Problem"), rows, numbers=(0,)))]
    return parts


def _spans(parts: Iterable[Span]) -> str:
    found = []
    for text, kind in parts:
        tag = _TAGS[kind]
        found.append(f"<{tag}>{escaped(text)}</{tag}>" if tag else escaped(text))
    return "".join(found)


def _row(name: str, *cells: str) -> list[str]:
    texts = [f'<td class="t" dir="auto">{cell}</td>' for cell in cells]
    return [f'<td class="id" title="{escaped(name)}">{escaped(name)}</td>', *texts]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    right = set(numbers)
    cells = "".join(f'<th scope="col"{" class=n" if at in right else ""}>{head}</th>' for at, head in enumerate(heads))
    # Each cell carries its head: where the page is narrow a row is a list of them.
    body = "".join(
        "<tr>"
        + "".join(
            cell.replace("<td", f'<td data-head="{head}"', 1) if head else cell
            for head, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _details(sign: str, head: str, body: str, *, open_: bool = False) -> str:
    mark = f'<span class="sign">{escaped(sign)}</span>' if sign else ""
    state = " open" if open_ else ""
    return f'<details{state}><summary>{mark}{escaped(head)}</summary><div class="card">{body}</div></details>'


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _setting(name: str, value: str) -> str:
    return f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>"


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _of(shown: int, total: int) -> str:
    return f"{total:,}" if shown == total else f"the first {shown:,} of {total:,}"
