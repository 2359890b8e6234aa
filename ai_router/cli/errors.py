"""Exit codes, and how an error of a command is told: one sentence, and the code that goes with it."""

from __future__ import annotations

from enum import IntEnum

from ai_router.cli.text import narrate


class Exit(IntEnum):
    """Exit codes are an API."""

    DONE = 0  # every prompt is answered
    SOME_FAILED = 1  # the job is over, some prompts have no answer
    USAGE = 2  # what was asked for cannot be done; nothing was written
    FAILED = 3  # an engine, a server or the disk failed
    WAITING = 75  # everything left is with a provider, whose answers are to be collected
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141  # whoever read stdout is gone
    TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM or SIGHUP came while nothing was running that could save itself."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def exit_code_of(error: BaseException) -> int:
    """The exit code that goes with an error. Imports the library, which whoever raised the error has done before."""
    from batch.errors import BatchError, EngineError, MissingExtraError

    if isinstance(error, BrokenPipeError):
        return Exit.PIPE
    if isinstance(error, EngineError) and not isinstance(error, MissingExtraError):
        return Exit.FAILED
    if isinstance(error, BatchError | FileNotFoundError) and not getattr(error, "disk", False):
        return Exit.USAGE
    return Exit.FAILED


def print_error(error: BaseException, *, verbose: bool) -> int:
    """Say on stderr what is wrong, with a traceback only if asked for one; returns the exit code."""
    from batch.errors import BatchError

    if verbose:
        import traceback

        narrate("".join(traceback.format_exception(error)).rstrip())
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, BatchError | FileNotFoundError):
        text = f"{type(error).__name__}: {text}" + ("" if verbose else " (-v shows where)")
    narrate(f"Error: {text}")
    return exit_code_of(error)
