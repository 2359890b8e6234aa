"""`ai-router evidence`: what scored jobs have shown of each model, by category."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, emit_json, inert, narrate, plural, table

DESCRIPTION = """\
Show how often each model was right in each category, with the 95 % interval and the graded answers it is known from.

Jobs whose answers are known (`ai-router dataset run`) are taken in by themselves; a results file from elsewhere by
--add.
"""
EXAMPLES = """\
examples:
  ai-router evidence
  ai-router evidence --quality
  ai-router evidence --add results.jsonl --model big
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quality", action="store_true", help="how good the stated chances are (Brier score, ECE)")
    parser.add_argument(
        "--add", metavar="FILE", help="take in a results file (JSONL: input, expected, predicted, example_id)"
    )
    parser.add_argument("--model", metavar="ID", help="the model that gave the answers of --add")
    parser.add_argument(
        "--match", metavar="HOW", default="exact", help="when an answer of --add is right (default exact)"
    )


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    from ai_router.routing.evidence import Evidence, gather

    evidence = Evidence.of(session.workspace)
    if args.model and not args.add:
        raise UsageError("--model names who gave the answers of a file; say which with --add FILE")
    for note in gather(session.workspace, session.registry):
        narrate(f"Not counted: {note}")
    if args.add:
        taken, double = _add(args, session, evidence)
        jobs = f"; {plural(double, 'answer')} of jobs here were counted already" if double else ""
        narrate(f"Took in {plural(taken, 'graded answer')}{jobs}")
    rates = evidence.rates()
    known = {spec.id for spec in session.registry.all()}
    gone = sorted(model for model in rates.overall if model not in known)
    every = [*rates.overall.values(), *rates.by_category.values()]
    every.sort(key=lambda rate: (rate.model, rate.category))
    if args.json:
        emit_json([{**asdict(rate), "enough": rate.enough, "gone": rate.model in gone} for rate in every])
        return Exit.DONE
    if not every:
        emit("There is no evidence yet. Score a dataset, and it is there: ai-router dataset run --test-file FILE")
        return Exit.DONE
    emit(table(*_table(every), right=("GRADED", "RIGHT", "95 %", "COST", "SECONDS")))
    if args.quality:
        for line in _quality(evidence, [model for model in rates.overall if model in known]):
            emit(line)
    for model in gone:
        narrate(f"{inert(model)} is no model of this workspace any more; nothing goes to it")
    return Exit.DONE


def _table(every: list[Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    from batch.prices import dollars

    rows = []
    for rate in every:
        share = f"{rate.mean:.1%}" if rate.enough else "not enough evidence"
        between = f"{rate.low:.1%}–{rate.high:.1%}" if rate.enough else "—"
        cost = "unknown" if rate.cost is None else dollars(round(rate.cost))
        rows.append(
            [inert(rate.model), rate.category or "all", f"{rate.n:,}", share, between, cost, f"{rate.seconds:.2f}"]
        )
    return ("MODEL", "CATEGORY", "GRADED", "RIGHT", "95 %", "COST", "SECONDS"), rows


def _quality(evidence: Any, models: list[str]) -> Iterator[str]:
    import importlib.util

    if importlib.util.find_spec("numpy") is None:
        yield 'The chances of single prompts need numpy: pip install "ai-router[evaluation]"'
        return
    from ai_router.routing.predictor import fit

    for model in models:
        if (made := fit(evidence, model)) is not None:
            good = made.quality
            by = "category and features" if made.weights is not None else "category alone"
            yield (
                f"{inert(model)}: by {by}, Brier {good.brier:.3f} (the overall rate alone: {good.plain:.3f}), "
                f"ECE {good.ece:.3f} ({good.by_chance:.3f} by chance alone), on {good.n:,} rows left out of the fit"
            )


def _add(args: argparse.Namespace, session: Session, evidence: Any) -> tuple[int, int]:
    """Take in a file; how many of its answers are new, and how many are those of jobs here."""
    from ai_router.routing.evidence import Graded, answer_key, answers_of_jobs
    from batch.evaluation.pairs import read_results
    from batch.evaluation.tally import ScoreTally
    from batch.sources import user_path

    if not args.model:
        raise UsageError("Which model gave these answers? Say it with --model ID")
    model = session.registry.get(args.model).id
    if args.match not in ("exact", "contains", "regex", "number", "json", "choice"):
        raise UsageError(f"--match is exact, contains, regex, number, json or choice, not {args.match}")
    score = ScoreTally(args.match)
    path = user_path(args.add)
    counted = answers_of_jobs(session.workspace, session.registry, model)
    double = 0

    def rows() -> Iterator[Graded]:
        nonlocal double
        for pair in read_results(path):
            if answer_key(pair) in counted:
                double += 1
            elif (right := score.add(pair)) is not None and pair.input.strip():
                yield Graded(pair.input, model, float(right), f"file {path.absolute()}")

    return int(evidence.add(rows())), double
