"""`ai-router dataset run`: a test set with known answers, a model with or without an adapter, and how well it does."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ai_router import datasets, jobs
from ai_router.cli.display import Both, Display, LogDisplay, WarningDisplay, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.following import AfterRun, detach, run_job
from ai_router.cli.run import add_display_flags, notify_options
from ai_router.cli.session import Session, UsageError
from ai_router.cli.signals import Signals
from ai_router.cli.text import can_ask, confirm, emit, plural
from batch.datasets.config import DEFAULT_CONFIG, DEFAULTS
from batch.datasets.example import Columns
from batch.datasets.results import check_output
from batch.datasets.source import FORMATS
from batch.engines import registry as engines
from batch.evaluation.match import MATCHES
from batch.job import BatchJob
from batch.notify import NotifyOptions
from batch.options import OptionError, RunOptions, SamplingOptions, parse_option
from batch.running.policy import ErrorStrategy

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
SHOWN_SKIPPED = 10

USAGE = "run [options]"
DESCRIPTION = """\
Answer every example of a test set and score the answers against those that are known. Rows go to the results file as
they finish; whatever happens, the printed `ai-router resume …` goes on where it stopped.

The test set is JSON lines (or JSON, CSV, Parquet) of `messages` whose last assistant turn is the expected answer, of
`prompt` and `completion`, or of `text` that holds a chat. The configuration is the YAML file that trained the adapter,
as mlx-lm has it; a flag wins over it.
"""
EXAMPLES = f"""\
examples:
  ai-router dataset run --config examples/japanese_gec/config/lora_config.yaml
  ai-router dataset run --model-path demo --test-file test.jsonl --no-adapter
  ai-router dataset run --test-file test.csv --input-column wrong --expected-column right --until-interval 0.02
  ai-router dataset run --check-only

without a flag and a configuration: {DEFAULTS["model"]}, adapter {DEFAULTS["adapter_path"]},
{DEFAULTS["test_file"]} -> {DEFAULTS["output_file"]}, temperature {DEFAULTS["temperature"]}, \
top-p {DEFAULTS["top_p"]}, max-tokens {DEFAULTS["max_tokens"]}

exit codes: 0 all answered or the score is sure enough, 1 some failed, 2 usage or input, 3 engine or disk failed,
130 interrupted
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("action", choices=("run",), metavar="run", help="answer and score a test set")
    files = parser.add_argument_group("files")
    files.add_argument("--config", metavar="FILE", help=f"YAML file (default {DEFAULT_CONFIG}, where there is one)")
    files.add_argument("--test-file", "--input-file", metavar="FILE", help="the test set")
    files.add_argument("--model-path", "--model", metavar="MODEL", help="a folder, or a name of `ai-router models`")
    adapter = files.add_mutually_exclusive_group()
    adapter.add_argument("--adapter-path", metavar="DIR", help="folder of a LoRA adapter, of mlx-lm or PEFT")
    adapter.add_argument("--no-adapter", action="store_true", help="run the model as it is")
    files.add_argument("--output-file", metavar="FILE", help="the results; the summary goes beside it")
    files.add_argument("--engine", choices=engines.names(), help="what runs the model (default: what suits it)")
    data = parser.add_argument_group("data")
    data.add_argument("--input-format", choices=FORMATS, help="of the test set (default: as its name says)")
    data.add_argument("--input-column", metavar="NAME", help="column or key with the prompt")
    data.add_argument("--expected-column", metavar="NAME", help="column or key with the known answer")
    data.add_argument(
        "--prompt-template", metavar="TEXT", help="what to put around bare inputs; {input_text} is their place"
    )
    run = parser.add_argument_group("how")
    run.add_argument("--batch-size", metavar="N", help="examples answered at once (default 1)")
    run.add_argument("--match", choices=MATCHES, default="exact", help="when an answer is right (default exact)")
    run.add_argument(
        "--until-interval",
        metavar="X",
        help="stop when the score's 95 %% interval reaches no further than X to either side, such as 0.02; for files "
        "in no particular order",
    )
    run.add_argument("--check-only", "--check", action="store_true", help="only look whether all is there, and tell")
    run.add_argument("--temp", dest="SamplingOptions.temperature", metavar="X", help=argparse.SUPPRESS, **_SILENT)
    add_flags(parser, SamplingOptions, defaults=False)
    add_flags(parser, RunOptions, skip=["workers"])
    add_flags(parser, NotifyOptions, defaults=False)
    add_display_flags(parser)
    parser.add_argument("--log-level", choices=LEVELS, type=str.upper, default="INFO", help="how much is told")
    parser.add_argument("--log-file", metavar="FILE", help="write what is told to this file too, with times")
    parser.add_argument("--yes", action="store_true", help="ask nothing")


_SILENT: dict[str, Any] = {"default": argparse.SUPPRESS}


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    with _display(args) as display, Signals() as signals:
        prepared = _prepare(args, session)
        prepared.warnings += session.workspace.withheld
        if not args.check_only:
            for line in prepared.lines():
                display.note(line)
        return _run(prepared, args, session, display, signals)


def _display(args: argparse.Namespace) -> Display:
    display = make_display(args.display)
    if args.log_level == "ERROR":
        display = Display()
    elif args.log_level == "WARNING":
        display = WarningDisplay()
    if not args.log_file:
        return display
    path = Path(args.log_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Both(display, LogDisplay(path.open("a", encoding="utf-8", errors="backslashreplace")))
    except OSError as error:
        raise UsageError(f"The log file {path} cannot be written: {error.strerror or error}") from None


def _prepare(args: argparse.Namespace, session: Session) -> datasets.Prepared:
    flags: dict[str, Any] = {
        "model": args.model_path,
        "adapter_path": args.adapter_path,
        "test_file": args.test_file,
        "output_file": args.output_file,
        "engine": args.engine,
        "prompt_template": args.prompt_template,
        "batch_size": None if args.batch_size is None else _batch_size(args.batch_size),
        **given(args, SamplingOptions),
    }
    columns = None
    if args.input_column or args.expected_column:
        if not (args.input_column and args.expected_column):
            raise UsageError("--input-column and --expected-column go together; give both")
        columns = Columns(prompt=args.input_column, expected=args.expected_column)
    return datasets.prepare(
        session.registry,
        flags,
        config_path=args.config,
        adapter=not args.no_adapter,
        format=args.input_format,
        columns=columns,
    )


def _batch_size(text: str) -> int:
    try:
        return int(parse_option(RunOptions, "workers", text))
    except OptionError as error:
        raise UsageError(str(error).replace("workers", "batch-size", 1)) from None


def _interval(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 0.5:
        raise UsageError(f"until-interval: {text!r} is not a number between 0 and 0.5, such as 0.02")
    return value


def _run(
    prepared: datasets.Prepared, args: argparse.Namespace, session: Session, display: Display, signals: Signals
) -> int:
    until = _interval(args.until_interval)
    options = RunOptions(workers=prepared.settings["batch_size"].value, **given(args, RunOptions))
    ErrorStrategy.parse(options.on_error)
    notify, notify_given = notify_options(args, session.workspace.settings)
    source = prepared.source
    exists = check_output(prepared.output, [source.file])
    plan = prepared.plan(options)
    report = jobs.check(source, prepared.spec, plan, lambda n: display.busy(f"Reading… {n:,} examples"))
    display.busy("")
    notes = [f"Warning: {text}" for text in prepared.warnings]
    notes += _skipped(source, everything=args.log_level == "DEBUG")
    told = ("malformed", "empty_source")
    problems = [problem for problem in report.problems if problem.code not in told]
    notes += [f"Warning: {problem.text.replace('custom_id', 'id')}" for problem in problems]
    if args.check_only:
        return _print_check(prepared, report.total, notes)
    for note in notes:
        display.note(note)
    if not report.total:
        raise UsageError(_no_examples(prepared))
    if exists and not args.yes and can_ask() and not confirm(f"{prepared.output} has results. Replace them?"):
        raise UsageError("Nothing was run; name another file with --output-file")
    plan = prepared.plan(options, {"match": args.match, "until_interval": until, "log_level": args.log_level})
    job = jobs.create_job(
        session.workspace,
        plan,
        source,
        lambda n: display.busy(f"Writing the job… {n:,} examples"),
        prepared.spec,
    )
    display.busy("")
    after = AfterRun(notify=notify, notify_given=notify_given)
    if args.detach:
        return detach(session, job, after, display)
    _print_start(job, prepared, display)
    return run_job(session, job, plan, after, display, signals)


def _print_start(job: BatchJob, prepared: datasets.Prepared, display: Display) -> None:
    adapter = f", {prepared.about_adapter}" if prepared.adapter else ""
    display.note(f"Job {job.job_id}: {plural(job.total_prompts, 'example')}, model {prepared.model}{adapter}")


def _print_check(prepared: datasets.Prepared, total: int, notes: list[str]) -> int:
    """What is there, on stdout: every setting, the examples, the adapter."""
    for line in prepared.lines():
        emit(line)
    schemas = ", ".join(f"{count:,} {name}" for name, count in prepared.source.schemas.most_common())
    emit(f"examples: {total:,}" + (f" ({schemas})" if schemas else "") + f"; skipped {prepared.source.skipped:,}")
    emit(f"adapter: {prepared.about_adapter} fits {prepared.model}" if prepared.adapter else "adapter: none")
    for note in notes:
        emit(note)
    if not total:
        emit(f"Error: {_no_examples(prepared)}")
        return Exit.USAGE
    emit("All is there; leave out --check-only to run it.")
    return Exit.DONE


def _skipped(source: Any, *, everything: bool) -> list[str]:
    """A warning for each row that is left out; the first of them, unless all are wanted."""
    problems = source.problems if everything else source.problems[:SHOWN_SKIPPED]
    lines = [f"Warning: {source.name}, {source.unit} {line} skipped: {reason}" for line, reason in problems]
    if source.skipped > len(problems):
        lines.append(f"Warning: {plural(source.skipped - len(problems), 'more row')} skipped")
    if len(source.schemas) > 1:
        kinds = ", ".join(f"{name} ({count:,})" for name, count in source.schemas.most_common())
        lines.append(f"Warning: the rows are of different kinds: {kinds}")
    return lines


def _no_examples(prepared: datasets.Prepared) -> str:
    source = prepared.source
    if not source.problems:
        return f"There are no examples in {source.name}"
    line, reason = source.problems[0]
    return f"{source.name} has no example that can be used: {source.unit} {line}: {reason}"
