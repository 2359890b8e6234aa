"""Word that a job has ended: a bell, a desktop notification of the terminal, a command, a webhook."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from batch.job import BatchJob, JobStatus
from batch.options import OptionError, option

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LONGEST_TEXT = 200
_SHOWN_ERROR = 200


@dataclass(slots=True)
class NotifyOptions:
    """How a person hears that a job has ended, well or not."""

    bell: bool = option(False, "ring the terminal's bell")
    desktop: bool = option(False, "show a notification through the terminal (OSC 9)")
    command: str | None = option(None, "run this command; the job is in AI_ROUTER_* variables", metavar="COMMAND")
    webhook: str | None = option(None, "POST the job as JSON to this URL, or to the one in $NAME", metavar="URL")
    when: str = option("always", "always, or only if not all was answered", choices=("always", "problem"))
    timeout: float = option(10.0, "seconds a command or webhook may take", minimum=0.1, maximum=3600, advanced=True)


def check_options(options: NotifyOptions) -> None:
    """Raise OptionError for a command or webhook that can never work."""
    if options.command:
        _argv(options.command)
    if options.webhook and not _VARIABLE.fullmatch(options.webhook):
        _host(options.webhook)


def through_multiplexer(codes: str) -> str:
    """Codes as they reach the terminal behind tmux (where `allow-passthrough` is on) or GNU screen, if there is one.

    Both drop what they do not know. tmux(1), "allow-passthrough"; screen(1), "DCS: outputs a string to the terminal".
    """
    if os.environ.get("TMUX"):
        return f"\x1bPtmux;{codes.replace(chr(27), chr(27) * 2)}\x1b\\"
    return f"\x1bP{codes}\x1b\\" if os.environ.get("STY") else codes


class Notifier:
    """Tells of jobs that ended. Nothing it does can fail the job: what went wrong is a text for `report`.

    A command and a webhook run in threads; `wait` waits for them, as a program does before it exits. `write` takes
    what goes to the terminal; without it, it goes to standard error if that is one.
    """

    def __init__(
        self,
        options: NotifyOptions,
        *,
        write: Callable[[str], object] | None = None,
        report: Callable[[str], object] | None = None,
    ) -> None:
        self.options = options
        self.problems: list[str] = []
        self._write = write
        self._report = report
        self._threads: list[threading.Thread] = []

    def notify(self, job: BatchJob) -> None:
        """Tell of a job that has ended; returns at once."""
        options = self.options
        if options.when == "problem" and job.status == JobStatus.COMPLETED and not job.failed:
            return
        facts = job_facts(job)
        if options.bell or options.desktop:
            self._to_terminal(describe(job))
        if options.command:
            self._start(_run_command, options.command, facts, options.timeout)
        if options.webhook:
            self._start(_post, options.webhook, {"text": describe(job), **facts}, options.timeout)

    def wait(self, timeout: float | None = None) -> list[str]:
        """Wait for commands and webhooks under way; the problems so far, each one sentence."""
        for thread in self._threads:
            thread.join(timeout)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return list(self.problems)

    def _to_terminal(self, text: str) -> None:
        codes = through_multiplexer(f"\x1b]9;{text}\x07") if self.options.desktop else ""
        codes += "\a" if self.options.bell else ""
        try:
            if self._write is not None:
                self._write(codes)
            elif sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write(codes)
                sys.stderr.flush()
        except (OSError, ValueError) as error:  # the terminal is gone, or the stream is closed
            self._problem(f"The terminal could not be notified: {error}")

    def _start(self, send: Callable[..., str | None], *args: Any) -> None:
        def work() -> None:
            problem = send(*args)
            if problem:
                self._problem(problem)

        thread = threading.Thread(target=work, name="notify", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        if self._report is not None:
            self._report(text)


def describe(job: BatchJob) -> str:
    """One line about how a job ended, without anything a terminal could take for a command."""
    parts = [f"ai-router: job {job.job_id} {job.status}", f"{job.completed:,} of {job.total_prompts:,} answered"]
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    if job.reason:
        parts.append(job.reason)
    return inert(", ".join(parts))


def job_facts(job: BatchJob) -> dict[str, Any]:
    """What commands and webhooks are told: figures and times, no prompt and no answer."""
    return {
        "job_id": job.job_id,
        "model_id": job.model_id,
        "status": str(job.status),
        "total": job.total_prompts,
        "completed": job.completed,
        "failed": job.failed,
        "success_rate": job.success_rate,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "reason": job.reason,
    }


def inert(text: str) -> str:
    """One line without control, format (bidi) and surrogate characters, cut to what a notification shows."""
    kept = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else " " for c in text)
    line = " ".join(kept.split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"


def _argv(command: str) -> list[str]:
    try:
        argv = shlex.split(command, posix=os.name != "nt")  # on Windows a backslash is part of a path
    except ValueError as error:
        raise OptionError(f"command: {str(error).lower()}") from None
    if os.name == "nt":
        argv = [word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word for word in argv]
    if not argv:
        raise OptionError("command: there is nothing to run")
    return argv


def _run_command(command: str, facts: dict[str, Any], timeout: float) -> str | None:
    """Run the user's command, without a shell; returns what went wrong. Arguments may be secret and are not shown."""
    import subprocess

    try:
        argv = _argv(command)
    except OptionError as error:
        return f"Notification {error}"
    name = inert(argv[0])
    told = ("job_id", "model_id", "status", "total", "completed", "failed")
    variables = {f"AI_ROUTER_{key.upper()}": inert(str(facts[key])) for key in told}
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"Notification command {name} was ended after {timeout:g} s"
    except FileNotFoundError:
        return f"Notification command {name} was not found"
    except (OSError, ValueError) as error:
        return (
            f"Notification command {name} could not be run: {getattr(error, 'strerror', None) or 'not a valid command'}"
        )
    return f"Notification command {name} ended with exit code {done.returncode}" if done.returncode else None


def _host(url: str) -> str:
    """The host of a web address: the one part of it that is never secret. Raises OptionError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OptionError("webhook: this is not a web address") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise OptionError("webhook: this is not an http:// or https:// address")
    return inert(f"{host}:{port}" if port else host)


def _post(webhook: str, body: dict[str, Any], timeout: float) -> str | None:
    """POST JSON; returns what went wrong, naming the host only, for the rest of the address may be a secret."""
    import http.client
    import json
    import urllib.error
    import urllib.request

    if variable := _VARIABLE.fullmatch(webhook):
        name = variable[1] or variable[2]
        webhook = os.environ.get(name, "")
        if not webhook:
            return f"Webhook: the environment has no {name}"
    try:
        host = _host(webhook)
    except OptionError as error:
        return str(error).capitalize()

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        # A redirect could take the note to another host, and makes a GET without it of the POST.
        def redirect_request(self, *args: Any) -> None:
            return None

    data = json.dumps(body).encode("ascii")
    headers = {"Content-Type": "application/json", "User-Agent": "ai-router"}
    try:
        request = urllib.request.Request(webhook, data, headers, method="POST")
        with urllib.request.build_opener(NoRedirects).open(request, timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 400:
            return f"Webhook at {host} sends to another address ({error.code}), which is not followed; name that one"
        return f"Webhook at {host} answered with status {error.code}"
    except TimeoutError:
        return f"Webhook at {host} did not answer within {timeout:g} s"
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or type(error.reason).__name__
        return f"Webhook at {host} could not be reached: {inert(str(reason))[:_SHOWN_ERROR]}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"Webhook at {host} failed: {type(error).__name__}"  # the text may hold the address
