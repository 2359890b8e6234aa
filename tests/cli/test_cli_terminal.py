"""The program on a terminal of its own: what is drawn, Ctrl-C typed, the terminal lost."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

import pytest
from program import Program

from batch.job import JobStatus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


class Screen:
    """A pseudo-terminal with the program in it."""

    def __init__(self, program: Program, *words: str) -> None:
        import pty

        self.text = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(program.home)
            command = [sys.executable, "-m", "ai_router", "--workspace", str(program.home), *words]
            os.execve(sys.executable, command, program.env)

    def read_until(self, sign: str, seconds: float = 60.0) -> str:
        deadline = time.monotonic() + seconds
        while sign not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.terminal, 65536).decode("utf-8", "replace")
                except OSError:  # the program has ended
                    assert sign in self.text, self.text
        return self.text

    def rest(self) -> str:
        """All it says until it ends well."""
        data = b""
        with suppress(OSError):
            while got := os.read(self.terminal, 65536):
                data += got
        assert self.wait() == 0, data
        return data.decode("utf-8")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def close(self) -> int:
        """Take the terminal away; the exit code."""
        os.close(self.terminal)
        return self.wait()

    def wait(self) -> int:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("it did not end")


def slow(program: Program) -> list[str]:
    program.add_model("slow", step_seconds=0.1)
    program.prompts(*[f"number {n:02} \x1b[31m x" for n in range(40)])
    return ["run", "prompts.txt", "--model", "slow", "--workers", "2"]


def test_the_line_is_redrawn_and_ctrl_c_drains(program: Program) -> None:
    screen = Screen(program, *slow(program))
    screen.read_until("(2/40)")
    screen.type("\x03")
    text = screen.read_until("Resume with: ")
    assert screen.wait() == 130
    assert text.count("\rProgress: [") >= 2
    assert "in flight and saving; Ctrl-C again stops now." in text
    assert "\x1b[31m" not in text
    assert 0 < program.job().processed < 40


def test_a_lost_terminal_leaves_the_job_resumable(program: Program) -> None:
    screen = Screen(program, *slow(program))
    screen.read_until("(2/40)")
    assert screen.close() == 129
    job = program.job()
    assert job.status == JobStatus.RUNNING and 2 <= job.processed < 40
    assert [name for name in program.files() if not name.endswith(".db")] == []


def test_it_asks_before_a_file_is_replaced(program: Program) -> None:
    program.prompts("one")
    target = program.home / "answers.csv"
    target.write_text("precious")
    screen = Screen(program, "run", "prompts.txt", "--output", "answers.csv")
    screen.read_until("Replace it when the job ends? [y/N] ")
    screen.type("n\n")
    screen.read_until("Nothing was run")
    assert screen.wait() == 2
    assert target.read_text() == "precious" and program.files() == []
    again = Screen(program, "run", "prompts.txt", "--output", "answers.csv", "--yes")
    again.read_until("Wrote ")
    assert again.wait() == 0
    assert "ONE" in target.read_text()


def test_it_asks_before_a_job_is_deleted(program: Program) -> None:
    assert program("run", program.prompts("one")) == 0
    screen = Screen(program, "delete", program.job().job_id)
    screen.read_until("[y/N] ")
    screen.type("y\n")
    screen.read_until("Deleted job")
    assert screen.wait() == 0
    assert program.files() == []


def test_answers_on_a_terminal_cannot_steer_it(program: Program) -> None:
    screen = Screen(program, "ask", "\x1b]52;c;aGk=\x07")
    screen.read_until("read, ")
    assert screen.wait() == 0
    assert "\x1b" not in screen.text and "\x07" not in screen.text
    assert "␛]52;C;AGK=␇" in screen.text


HOSTILE = "\x1b]52;c;aGk=\x07 \x9b2J \u202eabc \x7f"
COMMANDS = [
    *(("export", "--output", "-", "--format", form) for form in ("json", "csv", "jsonl", "openai")),
    ("resume", "--stream", "-"),
    ("resume", "--output", "-", "--format", "csv"),
    ("show", "--full"),
    ("show", "--json"),
]


def test_data_on_a_terminal_cannot_steer_it_and_is_exact_in_a_pipe(program: Program) -> None:
    path = program.home / "hostile.jsonl"
    path.write_text(json.dumps(HOSTILE) + "\n", encoding="utf-8")
    assert program("run", path) == 0
    job = program.job().job_id
    for verb, *words in COMMANDS:
        assert program(verb, job, *words) == 0
        exact = program.out
        screen = Screen(program, verb, job, *words)
        shown = screen.rest()
        assert not set(shown) & set("\x1b\x07\x9b\u202e\x7f"), (verb, words)
        if "csv" in words:
            assert set("\x1b\x07\x9b\u202e\x7f") <= set(exact)
