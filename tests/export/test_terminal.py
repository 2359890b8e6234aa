"""What an export gives a terminal: nothing that it would obey. Files and pipes get everything as it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.export import FORMATS, JsonlWriter, export
from batch.export.terminal import inert_json, inert_text
from batch.job import BatchJob, BatchResult

HOSTILE = (
    "\x1b]52;c;aGk=\x07\x1b[2J \x9b2J \x90q\x9c \u202eabc\u2066 \x7f \r\n\tkept 日本語 👩\u200d💻 \U000e0041 \u2028"
)
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[Path, Callable[[], str]]]:
    """The name of a terminal, and what was written to it so far; its own line ends are taken off."""
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)  # no \r before \n by the terminal itself
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                parts.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def written() -> str:
        nonlocal slave
        if slave >= 0:
            os.close(slave)
            slave = -1
        reader.join(90)
        return b"".join(parts).decode("utf-8")

    try:
        yield Path(os.ttyname(slave)), written
    finally:
        if slave >= 0:
            os.close(slave)
        reader.join(90)
        os.close(master)


def obeyed(text: str) -> set[str]:
    """The characters in it that a terminal acts on or hides text with."""
    return {
        c for c in text if c not in "\n\t\u200c\u200d" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def result(text: str) -> BatchResult:
    return BatchResult(0, text, text, custom_id=text, error_message=text, extra={"finish_reason": "stop"})


@unix
@pytest.mark.parametrize("format_", FORMATS)
def test_a_terminal_gets_nothing_to_obey(tmp_path: Path, format_: str) -> None:
    job = BatchJob("j", "demo", [], 1, created_at="2026-01-01T00:00:00+00:00")
    with terminal() as (path, written):
        assert export(job, [result(HOSTILE)], path, format_) == 1
        shown = written()
    assert not obeyed(shown)
    assert "日本語 👩\u200d💻" in shown
    export(job, [result(HOSTILE)], tmp_path / "o", format_)
    exact = (tmp_path / "o").read_bytes().decode()
    assert obeyed(exact) and shown != exact
    if format_ not in ("csv", "html"):
        assert list(map(json.loads, shown.splitlines() if format_ != "json" else [shown])) == list(
            map(json.loads, exact.split("\n")[:-1] if format_ != "json" else [exact])
        )


@unix
def test_a_stream_onto_a_terminal() -> None:
    with terminal() as (path, written):
        with JsonlWriter(path) as stream:
            stream.write([result(HOSTILE)])
        shown = written()
    assert not obeyed(shown)
    assert json.loads(shown)["prompt"] == HOSTILE


@pytest.mark.parametrize("on_terminal", [True, False])
def test_standard_output_is_asked_whether_it_is_one(monkeypatch: pytest.MonkeyPatch, on_terminal: bool) -> None:
    class Buffer(io.BytesIO):
        def isatty(self) -> bool:
            return on_terminal

    class Stdout:
        buffer = Buffer()

    monkeypatch.setattr("sys.stdout", Stdout)
    export(BatchJob("j", "demo", [], 1), [result(HOSTILE)], "-", "csv")
    with JsonlWriter("-") as stream:
        stream.write([result(HOSTILE)])
    text = Stdout.buffer.getvalue().decode()
    assert bool(obeyed(text)) is not on_terminal


@FAST
@given(st.text())
def test_inert_json_is_the_same_json(text: str) -> None:
    line = json.dumps({text: [text]}, ensure_ascii=False)
    shown = inert_json(line)
    assert json.loads(shown) == {text: [text]}
    assert not obeyed(shown)
    assert not obeyed(inert_text(text))
