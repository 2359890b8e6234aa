"""The program `ai-router`: finds the verb and leaves the rest to its module.

Only the chosen verb's module is imported: `--help` and `--version` import nothing of the library.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from ai_router import __version__
from ai_router.cli.errors import Exit, Terminated, print_error
from ai_router.cli.text import is_terminal, narrate

VERBS = {
    "run": "answer every prompt of a file",
    "resume": "go on with a job that stopped early",
    "submit": "hand the prompts of a file to a provider, and leave",
    "poll": "how a job's batches with a provider stand",
    "collect": "take the answers of what is with a provider",
    "cancel": "end a job's batches with a provider",
    "reconcile": "say what became of an order that nobody answered",
    "jobs": "list all jobs",
    "stats": "all jobs together: items, tokens, cost, latency, failures",
    "show": "a job's figures and first results",
    "export": "write a job's results to a file",
    "watch": "follow a job that runs elsewhere, or steer it",
    "stop": "stop a job that runs elsewhere",
    "merge": "make one job of the shards of an input",
    "cluster": "the nodes and actors of a Ray cluster",
    "label": "give a job a name, tags or a note",
    "delete": "remove a job and its results",
    "restore": "take a job back from the trash",
    "dataset": "answer a test set with known answers and score it",
    "evaluate": "score a results file, or compare two",
    "semantic-ids": "turn item features into semantic IDs; check and publish them",
    "models": "list the models that can be chosen",
    "route": "which model would answer what, why, and for how much",
    "evidence": "what scored jobs have shown of each model",
    "compare": "two to four models side by side, over one prompt or a file",
    "ask": "one prompt, its answer on stdout",
    "trust": "let a folder's files name commands, webhooks and modules",
}

HELP = f"""\
usage: ai-router [--workspace DIR] [--no-mouse] [-v] [VERB …]

Run batches of prompts through models: resumable, measured, exportable.
Without a verb it opens its screens.

verbs:
{chr(10).join(f"  {name:<14}{text}" for name, text in VERBS.items())}

options:
  --workspace DIR  the folder that holds checkpoints/ and outputs/
  --no-mouse       leave the mouse to the terminal while the screens are open
  -v, --verbose    say more; show where an error comes from
  --version        print the version
  -h, --help       print this, or the help of a verb: ai-router run --help

examples:
  ai-router run prompts.txt
  ai-router run prompts.csv --output answers.csv --model demo
  ai-router resume 1a2b3c4d
  ai-router export 1a2b3c4d --format csv --output answers.csv

A job is named by its id, the beginning of it, or its file.
Data goes to stdout, everything else to stderr.
Exit codes: 0 all answered, 1 some failed, 2 usage or input, 3 engine or disk failed,
75 waiting for a provider, 130 interrupted.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence."""

    def error(self, message: str) -> NoReturn:
        narrate(f"Error: {message} (see {self.prog} --help)")
        raise SystemExit(Exit.USAGE)


class MainParser(Parser):
    """The program's own parser, whose help is written by hand."""

    def format_help(self) -> str:
        return HELP


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of the verbs, only those among `words` are imported and get their flags."""
    # With a width given, argparse does not go to look for the terminal's, which costs an import.
    formatter = partial(argparse.HelpFormatter, width=100)
    parser = MainParser(prog="ai-router", allow_abbrev=False, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"ai-router {__version__}")
    _add_globals(parser, suppress=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", prog="ai-router", parser_class=Parser)
    for name, summary in VERBS.items():
        if name not in words:
            verbs.add_parser(name, add_help=False)
            continue
        module = importlib.import_module(f"ai_router.cli.{name.replace('-', '_')}")
        verb = verbs.add_parser(
            name,
            usage=f"ai-router {name} {getattr(module, 'USAGE', '[options]')}",
            description=getattr(module, "DESCRIPTION", summary),
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(verb)
        _add_globals(verb, suppress=True)
        verb.set_defaults(main=module.main)
    return parser


def _add_globals(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
    # After the verb they have no defaults, which would undo what stands before it.
    default: Any = argparse.SUPPRESS if suppress else None
    hidden = argparse.SUPPRESS if suppress else None
    parser.add_argument("--workspace", metavar="DIR", default=default, help=hidden)
    parser.add_argument("--no-mouse", dest="mouse", action="store_false", default=default, help=hidden)
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help=hidden)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _prepare_stdio()
    verbose = False
    try:
        unknown = _unknown_verb(words)
        if unknown:
            narrate(unknown)
            return Exit.USAGE
        args = build_parser(words).parse_args(words)
        verbose = bool(args.verbose)
        code = int(_screens(args.workspace, mouse=args.mouse is not False) if args.verb is None else _verb(args))
        sys.stdout.flush()
        return code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else Exit.USAGE
    except KeyboardInterrupt:
        narrate("Interrupted.")
        return Exit.INTERRUPTED
    except Terminated as error:
        return error.code
    except BrokenPipeError:
        _drop_stdout()
        return Exit.PIPE
    except Exception as error:
        return print_error(error, verbose=verbose)


def _verb(args: argparse.Namespace) -> int:
    from ai_router.cli.session import Session

    return int(args.main(args, Session(args.workspace, bool(args.verbose))))


def _screens(folder: str | None, *, mouse: bool) -> int:
    """Open the terminal application. By name, so that the command line stands without it."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        narrate("Error: there is no terminal here to open the screens in; run prompts with: ai-router run FILE")
        return Exit.USAGE
    gc.disable()  # until the first frame: what is imported stays, and looking through it again and again takes a tenth
    try:
        from ai_router.settings import load_workspace

        workspace = load_workspace(folder)
        importlib.import_module("ai_router.tui").surround()
        tour = importlib.import_module("ai_router.tui.tour").tour_is_due()
        app = importlib.import_module("ai_router.tui.app").RouterApp(workspace, tour=tour)
        app.run(mouse=mouse)
    finally:
        gc.enable()
    return int(app.return_code or 0)


def _unknown_verb(words: Sequence[str]) -> str | None:
    """A sentence where the first word that should be a verb is none; argparse would list all of them."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--workspace":
            skip = True
        elif not word.startswith("-"):
            if word in VERBS:
                return None
            import difflib

            near = difflib.get_close_matches(word, VERBS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(VERBS)}"
            if not near and os.path.isfile(word):
                hint = f"to answer the prompts of a file: ai-router run {word}"
            return f"Error: unknown verb {word}; {hint}"
    return None


def _prepare_stdio() -> None:
    """Whatever the locale, data in a pipe is UTF-8, and no character is a reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is None:
            continue
        with suppress(OSError, ValueError):
            if stream is sys.stdout and not is_terminal(stream):
                reconfigure(encoding="utf-8", errors="replace")
            else:
                reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Nobody reads stdout any more; without this the interpreter would try again to flush it, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
