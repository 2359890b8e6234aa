"""`ai-router evaluate`: the scores of a results file, or of two beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, emit_json, narrate, plural
from batch.evaluation.options import EvaluationOptions

if TYPE_CHECKING:
    from batch.evaluation.report import Comparison, Report

USAGE = "RESULTS [--against OTHER] [--json | --markdown | --html [FILE]] [options]"
DESCRIPTION = """\
Score the predictions of a results file against the expected answers: JSONL rows with input, expected, predicted,
example_id and, where there is no prediction, error. Every score has its 95 % interval. With --against two files are
compared question by question, and the differences tested.
"""
EXAMPLES = """\
examples:
  ai-router evaluate results.jsonl
  ai-router evaluate tuned.jsonl --against base.jsonl
  ai-router evaluate tuned.jsonl --against base.jsonl --html report.html
  ai-router evaluate answers.jsonl --match number --json | jq .scores
  ai-router evaluate results.jsonl --tokeniser character --normalise nfkc,whitespace

matches: exact, contains (the expected text is in the prediction), regex (the expected text is a pattern),
number (the last one in each), json (the same value), choice (the same letter)
tokenisers: mecab (Japanese words, as sacrebleu's ja-mecab), 13a (as sacrebleu's), script, character
"""
DEFAULT_SHOWN = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("results", metavar="RESULTS", nargs="?", help="a results file")
    parser.add_argument("--against", metavar="OTHER", help="another run over the same questions, to compare with")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    form.add_argument(
        "--html", metavar="FILE", nargs="?", const="", help="as one HTML file (default: RESULTS with the suffix .html)"
    )
    parser.add_argument(
        "--show", type=_count, metavar="N", default=DEFAULT_SHOWN, help=f"most rows of a kind (default {DEFAULT_SHOWN})"
    )
    add_flags(parser, EvaluationOptions)


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    # A file after --html alone is what is to be scored: there is nothing else to write about.
    if args.results is None and args.html:
        args.results, args.html = args.html, ""
    if args.results is None:
        raise UsageError("name the results file to score: ai-router evaluate RESULTS")
    options = _options(args)
    results = _results_file(args.results)
    against = None if args.against is None else _results_file(args.against)
    target = _html_target(args.html, results, against)
    report, comparison = _evaluated(results, against, options)
    if not report.total:
        raise UsageError(f"{results} holds no results to score" + _first_problem(report))
    _narrate_problems(report)
    if comparison is not None:
        _narrate_problems(comparison.theirs)
    if args.json:
        from batch.evaluation.forms import document

        emit_json(document(report, comparison))
    elif args.markdown:
        from batch.evaluation.forms import markdown

        emit(markdown(report, comparison, rows=args.show).rstrip("\n"))
    elif args.html is not None:
        _write_html(report, comparison, target, [path for path in (results, against) if path])
    else:
        from ai_router.cli.scores import write

        write(report, comparison, rows=args.show)
    return Exit.DONE


def _count(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")


def _options(args: argparse.Namespace) -> EvaluationOptions:
    from batch.evaluation.normalise import Normalisation

    options = EvaluationOptions(**given(args, EvaluationOptions))
    try:
        Normalisation.of(options.normalise)
    except ValueError as error:
        raise UsageError(f"--normalise: {error}") from None
    options.rows = max(options.rows, args.show)
    return options


def _results_file(name: str) -> Path:
    from batch.export.atomic import is_checkpoint
    from batch.sources import user_path

    path = user_path(name)
    if path.is_file() and is_checkpoint(path):
        raise UsageError(f"{path} is a job's checkpoint; name its results file, JSONL with expected and predicted")
    return path


def _evaluated(results: Path, against: Path | None, options: EvaluationOptions) -> tuple[Report, Comparison | None]:
    from batch.evaluation.pairs import read_results

    name = results.name
    if against is None:
        from batch.evaluation.evaluate import evaluate

        return evaluate(read_results(results), options, name=name), None
    from batch.evaluation.compare import compare

    other = against.name
    if name == other:
        # base/results.jsonl and tuned/results.jsonl
        name, other = f"{results.absolute().parent.name}/{name}", f"{against.absolute().parent.name}/{other}"
    return compare(lambda: read_results(results), lambda: read_results(against), options, name=name, against=other)


def _html_target(given_name: str | None, results: Path, against: Path | None) -> Path | None:
    """The file to write, checked before anything is computed; None is stdout."""
    from batch.export.atomic import check_target, explained
    from batch.sources import user_path

    if given_name is None or given_name == "-":
        return None
    path = user_path(given_name) if given_name else results.with_suffix(".html")
    with explained(path):
        check_target(path, [kept for kept in (results, against) if kept])
    return path


def _write_html(report: Report, comparison: Comparison | None, target: Path | None, kept: list[Path]) -> None:
    from batch.evaluation.forms import html
    from batch.export.atomic import atomic_file

    page = html(report, comparison)
    if target is None:
        emit(page.rstrip("\n"))
        return
    with atomic_file(target, forbidden=kept) as file:
        file.write(page.encode())
    narrate(f"Wrote the report: {target}")
    emit(str(target))


def _narrate_problems(report: Report) -> None:
    for problem in report.problems[:3]:
        narrate(f"{report.name}, line {problem.line}: {problem.message}; skipped")
    if report.skipped > 3:
        narrate(f"{report.name}: {plural(report.skipped, 'line')} skipped in all")


def _first_problem(report: Report) -> str:
    if not report.problems:
        return ""
    first = report.problems[0]
    return f"; {plural(report.skipped, 'line')} skipped, the first is line {first.line}: {first.message}"
