"""Notifications reach where they should, and nothing they do can fail a job or give a secret away."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from batch.job import BatchJob, JobStatus
from batch.notify import Notifier, NotifyOptions, check_options, describe, inert
from batch.options import OptionError


def make_job(**changes: Any) -> BatchJob:
    values: dict[str, Any] = {
        "job_id": "abc123de",
        "model_id": "demo",
        "prompts": [],
        "total_prompts": 25,
        "completed": 23,
        "failed": 2,
        "status": JobStatus.COMPLETED,
    }
    return BatchJob(**{**values, **changes})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null"
            server.received.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
            if "slow" in self.path:
                server.go_on.wait(5)  # type: ignore[attr-defined]
            moved = self.path.partition("/moved/")[2]
            self.send_response(int(moved or 500 if moved or "broken" in self.path else 204))
            if moved:
                self.send_header("Location", f"{server.elsewhere}/SECRET")  # type: ignore[attr-defined]
            self.end_headers()

        do_GET = do_HEAD = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.received = []  # type: ignore[attr-defined]
    server.go_on = threading.Event()  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    server.elsewhere = f"http://localhost:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.go_on.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_multiplexer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)


def send(job: BatchJob | None = None, **options: Any) -> list[str]:
    reported: list[str] = []
    notifier = Notifier(NotifyOptions(**options), report=reported.append)
    notifier.notify(job or make_job())
    problems = notifier.wait()
    assert problems == reported
    return problems


def test_terminal() -> None:
    written: list[str] = []
    Notifier(NotifyOptions(bell=True, desktop=True), write=written.append).notify(make_job())
    assert written == ["\x1b]9;ai-router: job abc123de completed, 23 of 25 answered, 2 failed\x07\x07"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("TMUX", "\x1bPtmux;\x1b\x1b]9;{}\x07\x1b\\"), ("STY", "\x1bP\x1b]9;{}\x07\x1b\\"), ("", "\x1b]9;{}\x07")],
)
def test_a_multiplexer_is_asked_to_pass_it_on(monkeypatch: pytest.MonkeyPatch, name: str, wanted: str) -> None:
    written: list[str] = []
    if name:
        monkeypatch.setenv(name, "1")
    Notifier(NotifyOptions(desktop=True), write=written.append).notify(make_job())
    assert written == [wanted.format("ai-router: job abc123de completed, 23 of 25 answered, 2 failed")]


def test_nothing_is_written_when_standard_error_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert send(bell=True, desktop=True) == []
    assert capfd.readouterr() == ("", "")


def test_a_lost_terminal_is_a_problem_not_an_exception() -> None:
    def gone(text: str) -> None:
        raise OSError(5, "Input/output error")

    notifier = Notifier(NotifyOptions(bell=True), write=gone)
    notifier.notify(make_job())
    assert len(notifier.wait()) == 1


def test_text_is_inert() -> None:
    job = make_job(reason="engine said \x1b]52;c;aGk=\x07\x9b31m\u202eevil\u2028\n next \ud800" + "x" * 500)
    text = describe(job)
    assert text.isprintable()
    assert len(text) <= 200
    assert inert("a\tb\nc") == "a b c"


def test_only_problems() -> None:
    written: list[str] = []
    notifier = Notifier(NotifyOptions(bell=True, when="problem"), write=written.append)
    notifier.notify(make_job(completed=25, failed=0))
    assert not written
    notifier.notify(make_job())
    notifier.notify(make_job(failed=0, status=JobStatus.FAILED))
    assert len(written) == 2


def test_command_gets_facts_and_no_shell(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    script = tmp_path / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "facts = {k: v for k, v in os.environ.items() if k.startswith('AI_ROUTER_')}\n"
        f"open({str(out)!r}, 'w').write(json.dumps([sys.argv[1:], facts]))\n"
    )
    command = f"'{sys.executable}' '{script}' 'two words' '; touch {tmp_path}/pwned' '$(id)' '*'"
    assert send(make_job(model_id="m\0\nx; rm"), command=command, timeout=30) == []
    argv, facts = json.loads(out.read_text())
    assert argv == ["two words", f"; touch {tmp_path}/pwned", "$(id)", "*"]
    assert not (tmp_path / "pwned").exists()
    told = {key.removeprefix("AI_ROUTER_"): value for key, value in facts.items()}
    expected = {"JOB_ID": "abc123de", "STATUS": "completed", "COMPLETED": "23", "FAILED": "2", "TOTAL": "25"}
    assert expected.items() <= told.items()
    assert told["MODEL_ID"] == "m x; rm"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("no-such-program-here --token SECRET", "no-such-program-here was not found"),
        (f"'{sys.executable}' -c 'raise SystemExit(3)' SECRET", "ended with exit code 3"),
        (f"'{sys.executable}' -c 'import time; time.sleep(30)' SECRET", "ended after 0.5 s"),
        ("/ SECRET", "could not be run"),
        ("'SECRET", "no closing quotation"),
    ],
)
def test_command_problems(command: str, says: str) -> None:
    (problem,) = send(command=command, timeout=0.5 if "sleep" in command else 30)
    assert says in problem
    assert "SECRET" not in problem


def test_webhook(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert send(make_job(reason="日本 \ud800"), webhook=f"{server.url}/hook/SECRET") == []
    monkeypatch.setenv("MY_HOOK", f"{server.url}/from-environment")
    assert send(webhook="$MY_HOOK") == []
    assert send(webhook="${MY_HOOK}") == []
    assert [path for path, _ in server.received] == ["/hook/SECRET", "/from-environment", "/from-environment"]
    body = server.received[1][1]
    assert body["text"] == "ai-router: job abc123de completed, 23 of 25 answered, 2 failed"
    assert (body["job_id"], body["total"], body["completed"], body["failed"]) == ("abc123de", 25, 23, 2)


def test_webhook_problems_name_the_host_only(server: Any) -> None:
    (broken,) = send(webhook=f"{server.url}/broken/SECRET")
    assert broken == f"Webhook at 127.0.0.1:{server.server_port} answered with status 500"
    (slow,) = send(webhook=f"{server.url}/slow/SECRET", timeout=0.2)
    assert "did not answer within 0.2 s" in slow
    (closed,) = send(webhook="http://user:SECRET@127.0.0.1:1/SECRET")
    (missing,) = send(webhook="$NO_SUCH_VARIABLE_HERE")
    (invalid,) = send(webhook="file:///etc/SECRET")
    (spaces,) = send(webhook="http://host/a SECRET")
    (port,) = send(webhook="http://host:SECRET/")
    for problem in (broken, slow, closed, missing, invalid, spaces, port):
        assert "SECRET" not in problem
    assert "127.0.0.1:1 could not be reached" in closed
    assert "NO_SUCH_VARIABLE_HERE" in missing


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_webhook_is_never_sent_on(server: Any, code: int) -> None:
    (problem,) = send(webhook=f"{server.url}/SECRET/moved/{code}")
    assert problem.endswith(f"sends to another address ({code}), which is not followed; name that one")
    assert len(server.received) == 1 and "SECRET" not in problem


def test_notify_returns_at_once(server: Any) -> None:
    notifier = Notifier(NotifyOptions(webhook=f"{server.url}/slow"))
    notifier.notify(make_job())
    assert notifier.wait(0.01) == []
    server.go_on.set()
    assert notifier.wait(5) == []


def test_options_are_checked_before_a_job_starts() -> None:
    check_options(NotifyOptions(command="say done", webhook="https://example.org/x"))
    check_options(NotifyOptions(webhook="$HOOK"))
    for command in ("'", " "):
        with pytest.raises(OptionError):
            check_options(NotifyOptions(command=command))
    for webhook in ("example.org", "javascript:1"):
        with pytest.raises(OptionError):
            check_options(NotifyOptions(webhook=webhook))
