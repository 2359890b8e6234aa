"""Two runs over the same questions: what got fixed, what broke, and whether the difference is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from batch.evaluation.bootstrap import mcnemar_p, percentiles, randomisation_p, resampled, swapped
from batch.evaluation.evaluate import has_numpy, metrics_of, report_of
from batch.evaluation.measure import VERDICTS, Measured, measure
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair, ResultsReader
from batch.evaluation.report import Change, Comparison, Difference, Report
from batch.evaluation.verdicts import Verdict

Source = Callable[[], Iterable[Pair]]
_RIGHT = VERDICTS.index(Verdict.RIGHT)


def compare(
    ours: Source,
    theirs: Source,
    options: EvaluationOptions | None = None,
    *,
    name: str = "run",
    against: str = "other",
) -> tuple[Report, Comparison]:
    """Score our run and set it beside theirs, matched by example id; each source is called once for a pass or two.

    Differences are ours less theirs over the pairs scored in both. Shares are tested by McNemar, other metrics by
    approximate randomisation; the intervals of the differences are from a paired bootstrap.
    """
    options = options or EvaluationOptions()
    our_pairs = ours()
    mine = measure(our_pairs, options, keep_ids=True)
    their_pairs = theirs()
    other = measure(their_pairs, options, setup=mine.setup, keep_ids=True)
    report = report_of(mine, name, our_pairs if isinstance(our_pairs, ResultsReader) else None)
    their_report = report_of(other, against, their_pairs if isinstance(their_pairs, ResultsReader) else None)
    return report, compared(mine, other, report, their_report, ours, theirs)


def matched(mine: Measured, other: Measured) -> list[tuple[int, int]]:
    """The rows of both runs that hold the same question, by example id; both must have kept their ids."""
    assert mine.ids is not None and other.ids is not None
    return [(a, b) for a, b in _shared(mine, other) if mine.questions[a] == other.questions[b]]


def compared(
    mine: Measured, other: Measured, report: Report, their_report: Report, ours: Source, theirs: Source
) -> Comparison:
    """What `compare` says of two runs that were measured with the same setup and their ids kept."""
    shared, rows = _shared(mine, other), matched(mine, other)
    cells = [(mine.row_verdicts[a] == _RIGHT, other.row_verdicts[b] == _RIGHT) for a, b in rows]
    return Comparison(
        name=report.name,
        against=their_report.name,
        paired=len(rows),
        fixed=cells.count((True, False)),
        broken=cells.count((False, True)),
        both_right=cells.count((True, True)),
        both_wrong=cells.count((False, False)),
        unchanged=sum(mine.predictions[a] == other.predictions[b] for a, b in rows),
        only_ours=mine.scored - len(shared),
        only_theirs=other.scored - len(shared),
        differing=len(shared) - len(rows),
        differences=tuple(_differences(mine, other, rows)),
        changes=_changes(mine, other, rows, ours, theirs),
        theirs=their_report,
        notes=_notes(len(rows)),
    )


def _shared(mine: Measured, other: Measured) -> list[tuple[int, int]]:
    assert mine.ids is not None and other.ids is not None
    return [(row, other.ids[key]) for key, row in mine.ids.items() if key in other.ids]


def _notes(paired: int) -> tuple[str, ...]:
    if not paired:
        return ("The runs have no question in common, so there is nothing to compare.",)
    return () if has_numpy() else ("Tests other than McNemar's need numpy.",)


def _differences(mine: Measured, other: Measured, rows: list[tuple[int, int]]) -> Iterator[Difference]:
    options = mine.setup.options
    if not rows or not has_numpy():
        return
    import numpy as np

    index = np.array(rows)
    a, b = mine.counts()[index[:, 0]], other.counts()[index[:, 1]]
    drawn: Any = resampled(np.hstack([a, b]), options.samples, options.seed) if options.samples else None
    moved: Any = swapped(a - b, options.samples, options.seed) if options.samples else None
    for metric, columns in metrics_of(mine):
        # As wide integers, or the sums of many pairs would not fit.
        our_sums = a[:, columns].sum(axis=0, dtype=np.int64).tolist()
        their_sums = b[:, columns].sum(axis=0, dtype=np.int64).tolist()
        low = high = p = None
        test = "randomisation"
        if drawn is not None:
            their_columns = slice(columns.start + mine.columns, columns.stop + mine.columns)
            low, high = percentiles(
                [
                    metric.score(x) - metric.score(y)
                    for x, y in zip(drawn[:, columns].tolist(), drawn[:, their_columns].tolist(), strict=True)
                ]
            )
            p = randomisation_p(our_sums, their_sums, moved[:, columns], metric.score)
        if metric.share and _same_whole(a[:, columns], b[:, columns], metric.share[1]):
            part = metric.share[0]
            better = a[:, columns][:, part] - b[:, columns][:, part]
            test, p = "mcnemar", mcnemar_p(int((better > 0).sum()), int((better < 0).sum()))
        yield Difference(
            metric.key,
            metric.title,
            metric.score(our_sums),
            metric.score(their_sums),
            low,
            high,
            p,
            test,
            metric.lower_is_better,
        )


def _same_whole(a: Any, b: Any, whole: int) -> bool:
    return bool((a[:, whole] == b[:, whole]).all())


def _changes(
    mine: Measured, other: Measured, rows: list[tuple[int, int]], ours: Source, theirs: Source
) -> dict[str, tuple[Change, ...]]:
    """The first pairs of each kind with their texts, which another pass over both runs gives."""
    most = mine.setup.options.rows
    wanted: dict[str, list[int]] = {"fixed": [], "broken": []}
    partner = dict(rows)
    for a, b in rows:
        right, was_right = mine.row_verdicts[a] == _RIGHT, other.row_verdicts[b] == _RIGHT
        kind = "fixed" if right and not was_right else "broken" if was_right and not right else ""
        if kind and len(wanted[kind]) < most:
            wanted[kind].append(a)
    assert mine.ids is not None
    needed = {row for kept in wanted.values() for row in kept}
    ids = {key: row for key, row in mine.ids.items() if row in needed}
    now, before = _texts(ours, ids), _texts(theirs, ids)
    by_row = {row: key for key, row in ids.items()}
    return {
        kind: tuple(
            Change(
                now[by_row[row]],
                before[by_row[row]].predicted,
                VERDICTS[mine.row_verdicts[row]],
                VERDICTS[other.row_verdicts[partner[row]]],
            )
            for row in kept
        )
        for kind, kept in wanted.items()
    }


def _texts(source: Source, ids: dict[str, int]) -> dict[str, Pair]:
    return {pair.example_id: pair for pair in source() if pair.example_id in ids} if ids else {}
