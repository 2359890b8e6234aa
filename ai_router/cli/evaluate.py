"""`ai-router evaluate`: the scores of a results file, or of two beside each other."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.scored import Scored, find
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, emit_json, is_terminal, narrate, plural
from batch.evaluation.options import EvaluationOptions

if TYPE_CHECKING:
    from batch.evaluation.report import Comparison, Report

USAGE = "RESULTS [--against OTHER] [--json | --markdown | --html [FILE]] [options]"
DESCRIPTION = """\
Score predictions against the expected answers: of a results file (JSONL rows with input, expected, predicted,
example_id and, where there is no prediction, error), or of a job of `ai-router dataset run`, also while it runs. Every
score has its 95 % interval. With --against two runs are compared question by question, and the differences tested.
"""
EXAMPLES = """\
examples:
  ai-router evaluate results.jsonl
  ai-router evaluate 1a2b3c4d
  ai-router evaluate tuned.jsonl --against base.jsonl
  ai-router evaluate tuned.jsonl --against base.jsonl --html report.html
  ai-router evaluate answers.jsonl --match number --json | jq .scores
  ai-router evaluate results.jsonl --tokeniser character --normalise nfkc,whitespace

matches: exact, contains (the expected text is in the prediction), regex (the expected text is a pattern; a search over
a second leaves the row unscored), number (the same one, as fractions), json (the same value), choice (the same letter);
docs/evaluation.md says what is read from an answer
tokenisers: mecab (Japanese words, as sacrebleu's ja-mecab), 13a and zh (sacrebleu's), script, character
"""
DEFAULT_SHOWN = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("results", metavar="RESULTS", nargs="?", help="a results file, or a job with known answers")
    parser.add_argument("--against", metavar="OTHER", help="another run over the same questions, to compare with")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--markdown", action="store_true", help="as Markdown")
    form.add_argument(
        "--html", metavar="FILE", nargs="?", const="", help="as one HTML file (default: beside the results)"
    )
    parser.add_argument(
        "--show", type=_count, metavar="N", default=DEFAULT_SHOWN, help=f"most rows of a kind (default {DEFAULT_SHOWN})"
    )
    add_flags(parser, EvaluationOptions)
    for ours, theirs in (("tokeniser", "tokenizer"), ("normalise", "normalize")):
        dest = f"{EvaluationOptions.__name__}.{ours}"
        parser.add_argument(f"--{theirs}", dest=dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    # A file after --html alone is what is to be scored: there is nothing else to write about.
    if args.results is None and args.html:
        args.results, args.html = args.html, ""
    if args.results is None:
        raise UsageError("name the results file to score: ai-router evaluate RESULTS")
    options = _options(args)
    ours = find(args.results, session)
    theirs = None if args.against is None else find(args.against, session)
    target = _html_target(args.html, ours, theirs)
    report, comparison = _evaluated(ours, theirs, options)
    if not report.total:
        raise UsageError(f"{ours.name} holds no results to score" + _first_problem(report))
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
        _write_html(report, comparison, target, [run.path for run in (ours, theirs) if run])
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
        raise UsageError(f"normalise: {error}") from None
    options.rows = max(options.rows, args.show)
    return options


def _evaluated(ours: Scored, theirs: Scored | None, options: EvaluationOptions) -> tuple[Report, Comparison | None]:
    with _progress() as progress:
        if theirs is None:
            from batch.evaluation.evaluate import evaluate

            return evaluate(ours.pairs(progress), options, name=ours.name), None
        from batch.evaluation.compare import compare

        name, against = ours.name, theirs.name
        if name == against:
            # base/results.jsonl and tuned/results.jsonl
            name, against = (f"{run.path.absolute().parent.name}/{run.name}" for run in (ours, theirs))
        return compare(
            lambda: ours.pairs(progress), lambda: theirs.pairs(progress), options, name=name, against=against
        )


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """Says how far the scoring is, where there is somebody to read it and it takes long enough."""
    if not is_terminal(sys.stderr):
        yield None
        return
    begin = shown = time.monotonic()

    def progress(line: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - begin > 0.5 and now - shown > 0.1:
            shown = now
            sys.stderr.write(f"\rScoring … {line:,} \x1b[K")
            sys.stderr.flush()

    try:
        yield progress
    finally:
        if shown > begin:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _html_target(given_name: str | None, ours: Scored, theirs: Scored | None) -> Path | None:
    """The file to write, checked before anything is computed; None is stdout."""
    from batch.export.atomic import check_target, explained
    from batch.sources import user_path

    if given_name is None or given_name == "-":
        return None
    path = user_path(given_name) if given_name else ours.page
    with explained(path):
        for kept in (ours, theirs):
            if kept is not None and path.exists() and kept.path.exists() and path.samefile(kept.path):
                raise UsageError(f"{path} holds the results and is not written over; choose another file")
        check_target(path)
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
