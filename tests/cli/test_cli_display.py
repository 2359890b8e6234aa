"""The displays, fed with snapshots."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest

from ai_router.cli.display import Display, JsonDisplay, LogDisplay, Outcome, PlainDisplay, make_display
from ai_router.cli.following import follow
from ai_router.cli.signals import Signals
from batch.job import BatchJob
from batch.running.progress import RunState, Snapshot

RUNNING = Snapshot("1a2b", "demo", RunState.RUNNING, 6, 4, 0, in_flight=2, eta=135.0, tokens_per_second=12.0)
LINE = "Progress: [====================----------] 66.7% (4/6) | ETA: 2m 15s"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def outcome(snapshot: Snapshot, **changes: object) -> Outcome:
    plain = Outcome(snapshot, 0, 9, 15, 2.0, (), "ai-router show 1a2b", "ai-router export 1a2b", None)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_line_is_drawn_over_on_a_terminal() -> None:
    screen = Terminal()
    display = PlainDisplay(screen)
    display.update(replace(RUNNING, state=RunState.STARTING, completed=0, engine_status="loading model…"))
    display.update(RUNNING)
    display.update(RUNNING)
    assert screen.getvalue().rstrip(" ") == f"\rdemo: loading model…\r{LINE}"
    display.end(outcome(replace(RUNNING, state=RunState.FINISHED, completed=6, eta=0.0)))
    last = screen.getvalue().splitlines()
    assert "100.0% (6/6) | ETA: 0m 0s" in "".join(last)
    assert last[-1] == "Export:  ai-router export 1a2b"


def test_a_shorter_line_covers_a_longer_one() -> None:
    screen = Terminal()
    display = PlainDisplay(screen)
    display.update(RUNNING)
    display.update(replace(RUNNING, eta=5.0))
    assert screen.getvalue().endswith("ETA: 0m 5s ")


@pytest.mark.parametrize(
    ("about", "line"),
    [
        (
            {"device": "cpu", "precision": "int8", "runner": "native packed", "kernels_from": "shipped for avx2"},
            ["demo · cpu int8 · native packed (shipped for avx2)"],
        ),
        ({"runner": "packed", "notes": ["no compiler"]}, ["demo · packed · no compiler"]),
        ({"place": "127.0.0.1"}, []),
        ({}, []),
    ],
)
def test_the_models_line_says_what_runs_it(about: dict[str, object], line: list[str]) -> None:
    """Also of a run that is over before it is first looked at, and once only."""

    class Over:
        job = BatchJob("1a2b", "demo", [], 6)

        def __init__(self, *known: dict[str, object]) -> None:
            self.known = list(known)

        def snapshot(self) -> Snapshot:
            return replace(RUNNING, engine_about=self.known[0] if len(self.known) == 1 else self.known.pop(0))

        def wait(self, timeout: float) -> bool:
            return len(self.known) == 1

    for over in (Over(about), Over({}, about), Over(about, about)):
        screen = io.StringIO()
        display = PlainDisplay(screen)
        display.interval = 0
        follow(over, display, Signals())  # type: ignore[arg-type]
        assert [text for text in screen.getvalue().splitlines() if "demo" in text] == line


def test_a_cluster_is_told_of_when_it_changes() -> None:
    """Its nodes, its actors and what died, whatever is shown of the progress."""
    cluster, whole = {"cluster": {}}, "2 nodes · 2 of 2 actors"
    lost = "1 node · 1 of 2 actors · lost: 1 with its node"
    for screen in (io.StringIO(), Terminal()):
        display = PlainDisplay(screen)
        for status in ("ready", whole, "ready", whole, lost, lost):
            display.update(replace(RUNNING, engine_about=cluster, engine_status=status))
        display.update(replace(RUNNING, engine_status="restarting (1/3)"))  # no cluster's
        told = [line for line in re.split("[\\n\\r]", screen.getvalue()) if "Cluster" in line]
        assert told == [f"Cluster: {whole}", f"Cluster: {lost}"]


def test_a_note_does_not_tear_the_line() -> None:
    screen = Terminal()
    display = PlainDisplay(screen)
    display.update(RUNNING)
    display.note("Warning: mind the gap")
    assert screen.getvalue() == f"\r{LINE}\r{' ' * len(LINE)}\rWarning: mind the gap\n\r{LINE}"


def test_a_narrow_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.cli.display.width_of", lambda stream: 30)
    screen = Terminal()
    PlainDisplay(screen).update(RUNNING)
    assert screen.getvalue() == f"\r{LINE[:28]}…"


def test_lines_that_stay_come_seldom() -> None:
    log, clock = io.StringIO(), Clock()
    display = PlainDisplay(log, clock)
    total = replace(RUNNING, total=1000, completed=0, eta=None)
    for second in range(100):
        clock.now += 1
        display.update(replace(total, completed=second))
    lines = log.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[1] == "Progress: [------------------------------] 1.0% (10/1000) | ETA: —"


def test_a_fast_run_shows_its_tenths_but_not_each() -> None:
    log, clock = io.StringIO(), Clock()
    display = PlainDisplay(log, clock)
    for tenth in range(100):
        clock.now += 0.1
        display.update(replace(RUNNING, total=100, completed=tenth))
    assert len(log.getvalue().splitlines()) == 10


def test_nothing_changes_nothing_is_written() -> None:
    log, clock = io.StringIO(), Clock()
    display = PlainDisplay(log, clock)
    for _ in range(50):
        clock.now += 60
        display.update(RUNNING)
    assert log.getvalue() == LINE + "\n"


def test_a_stream_that_is_gone_does_not_stop_a_run() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    for display in (PlainDisplay(Gone()), LogDisplay(Gone()), JsonDisplay(Gone()), Display(Gone())):
        display.update(RUNNING)
        display.note("x")
        display.end(outcome(RUNNING, resume="ai-router resume 1a2b", error="x"))


def test_log_lines_say_more() -> None:
    log = io.StringIO()
    LogDisplay(log).update(replace(RUNNING, engine_status="ready"))
    first, second = log.getvalue().splitlines()
    assert first.endswith(" engine: ready")
    assert second[19:] == " running 4/6 66.7% done 4 failed 0 in flight 2 tokens/s 12.0 eta 2m 15s"


def test_json_of_hostile_text_is_one_line_of_ascii() -> None:
    log = io.StringIO()
    display = JsonDisplay(log)
    display.note("a\nb\x1b[31m\u202e\ud800")
    (line,) = log.getvalue().splitlines()
    assert line.isascii() and json.loads(line)["text"] == "a\nb\x1b[31m\u202e\ud800"


def test_an_end_with_errors() -> None:
    log = io.StringIO()
    end = outcome(
        replace(RUNNING, state=RunState.STOPPED, completed=3, failed=1),
        errors=(("transient", "timed\nout", 1),),
        resume="ai-router resume 1a2b",
        error="the engine died",
    )
    PlainDisplay(log).end(end)
    assert log.getvalue().splitlines()[1:] == [
        "Job 1a2b stopped: 3 done | 1 failed | 2 left | 15 tokens out, 9 in | 0m 2s | 7.5 tokens/s",
        "Errors:",
        "  1 × transient: timed out",
        "Results: ai-router show 1a2b",
        "Export:  ai-router export 1a2b",
        "Error: the engine died",
        "Resume with: ai-router resume 1a2b",
    ]


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("auto", PlainDisplay), ("plain", PlainDisplay), ("log", LogDisplay), ("json", JsonDisplay), ("none", Display)],
)
def test_names(kind: str, cls: type[Display]) -> None:
    assert type(make_display(kind)) is cls


def test_answers_cut_at_the_limit_stand_on_the_last_line() -> None:
    over = replace(RUNNING, state=RunState.FINISHED, completed=6)
    assert "cut" not in outcome(over).summary()
    assert outcome(over, cut=2).summary().endswith("| 2 cut at the token limit")
    stream = io.StringIO()
    JsonDisplay(stream).end(outcome(over, cut=2))
    assert json.loads(stream.getvalue())["cut"] == 2
