"""A run's report, and two runs beside each other."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from batch.evaluation.bootstrap import interval, resampled
from batch.evaluation.edits import MOST_CELLS
from batch.evaluation.families import Metric, edit_f05
from batch.evaluation.measure import Measured, measure
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair, ResultsReader
from batch.evaluation.report import LengthBin, Report, Score, TypeScore
from batch.evaluation.tally import wilson
from batch.evaluation.tokens import EXTRA

_BINS = 8
_MOST_ERRORS = 10
_MOST_REASONS = 5


def evaluate(pairs: Iterable[Pair], options: EvaluationOptions | None = None, *, name: str = "run") -> Report:
    """Score a run in one pass; of `read_results` the report has its skipped lines as well."""
    options = options or EvaluationOptions()
    return report_of(measure(pairs, options), name, pairs if isinstance(pairs, ResultsReader) else None)


def report_of(
    measured: Measured, name: str, reader: ResultsReader | None = None, *, samples: int | None = None
) -> Report:
    """The report from a run's counts; by another number of bootstrap samples than that of its options, where given."""
    setup = measured.setup
    options = setup.options if samples is None else replace(setup.options, samples=samples)
    notes = list(setup.notes)
    if options.samples and not has_numpy():
        notes.append(f'Intervals by bootstrap need numpy: pip install "ai-router[{EXTRA}]".')
    if measured.long:
        notes.append(
            f"Of {measured.long:,} pairs over {math.isqrt(MOST_CELLS):,} characters long, a difference that spans "
            "more than that is one edit."
        )
    if measured.reasons:
        why = "; ".join(f"{count:,} × {reason}" for reason, count in measured.reasons.most_common(_MOST_REASONS))
        notes.append(f"Not scored: {why}.")
    return Report(
        name=name,
        total=measured.verdicts.total(),
        scored=measured.scored,
        verdicts=dict(measured.verdicts),
        scores=tuple(_scores(measured, options)),
        types=tuple(_types(measured)),
        lengths=tuple(_lengths(measured)),
        match=setup.match,
        task="correction" if setup.correction else "answer",
        tokeniser=setup.tokenise.name,
        normalisation=setup.normalise.names,
        level=options.level,
        samples=options.samples if has_numpy() else 0,
        seed=options.seed,
        notes=tuple(notes),
        signatures=setup.signatures,
        errors=tuple(measured.errors.most_common(_MOST_ERRORS)),
        skipped=reader.skipped if reader else 0,
        superseded=reader.superseded if reader else 0,
        problems=tuple(reader.problems) if reader else (),
        examples={verdict: tuple(kept) for verdict, kept in measured.examples.items() if kept},
        unchanged=measured.unchanged,
        lengthened=measured.lengthened,
    )


def metrics_of(measured: Measured) -> Iterator[tuple[Metric, slice]]:
    """Every metric with the columns it is made from."""
    begin = 0
    for family in measured.setup.families:
        for metric in family.metrics:
            yield metric, slice(begin, begin + family.columns)
        begin += family.columns


def has_numpy() -> bool:
    """Whether resampling is possible here."""
    return importlib.util.find_spec("numpy") is not None


def _scores(measured: Measured, options: EvaluationOptions) -> Iterator[Score]:
    sums = measured.sums()
    totals: Any = None
    if options.samples and measured.scored and has_numpy():
        totals = resampled(measured.counts(), options.samples, options.seed)
    for metric, columns in metrics_of(measured):
        own = sums[columns]
        low = high = None
        method = ""
        if metric.share:
            part, whole = metric.share
            if own[whole]:
                (low, high), method = wilson(own[part], own[whole]), "wilson"
        elif totals is not None:
            (low, high), method = interval(totals[:, columns], metric.score), "bootstrap"
        yield Score(metric.key, metric.title, metric.score(own), low, high, method, metric.lower_is_better)


def _types(measured: Measured) -> Iterator[TypeScore]:
    for name, (n, right, *edits) in sorted(measured.types.items(), key=lambda item: (-item[1][0], item[0])):
        low, high = wilson(right, n)
        # Where nothing was to be changed there is nothing to have recalled.
        f05 = edit_f05(edits) if edits[0] + edits[2] else None
        yield TypeScore(name, n, right, low, high, f05)


def _lengths(measured: Measured) -> Iterator[LengthBin]:
    """Neighbouring lengths together, so that each bin has about as many pairs."""
    wanted = measured.scored / _BINS
    known = sorted(measured.lengths.items())
    begin = n = right = 0
    for at, (length, (count, good)) in enumerate(known):
        begin = length if not n else begin
        n, right = n + count, right + good
        if n >= wanted or at == len(known) - 1:
            yield LengthBin(begin, length, n, right, *wilson(right, n))
            n = right = 0
