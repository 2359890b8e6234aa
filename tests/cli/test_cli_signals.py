"""Ctrl-C, SIGTERM and SIGHUP at a process of its own: saved, resumable, and said how."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from program import Program

from batch.checkpoint import CheckpointStore
from batch.job import JobStatus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def begin(program: Program, *words: str, done: int = 2) -> subprocess.Popen[str]:
    """A run of 40 prompts, some of which are answered and some in flight."""
    program.add_model("slow", step_seconds=0.1)
    source = program.prompts(*[f"number {n} of them" for n in range(40)])  # four or five steps each
    process = program.start("run", source, "--model", "slow", "--workers", "2", *words)
    program.wait_done(done)
    return process


def ended(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr."""
    _, err = process.communicate(timeout=200)
    assert "Traceback" not in err
    return err


def check_resumable(program: Program, err: str) -> None:
    """The printed command answers the rest, each prompt once."""
    job = program.job()
    assert job.status == JobStatus.RUNNING
    assert 0 < job.processed < 40
    assert [name for name in program.files() if not name.endswith(".db")] == []
    command = err.split("Resume with: ai-router ")[1].splitlines()[0].split()
    assert program.job().checkpoint_file is not None
    before = job.completed
    assert program(*command[2:], "--model", "quick", "--yes") == 0
    assert len(program.seen) == 40 - before and len(set(program.seen)) == len(program.seen)
    path = program.job().checkpoint_file
    assert path is not None
    with CheckpointStore(path) as store:
        answers = {result.prompt_index: result.response_text for result in store.iter_results()}
    assert answers == {n: f"NUMBER {n} OF THEM" for n in range(40)}


def test_one_ctrl_c_finishes_what_is_in_flight(program: Program) -> None:
    process = begin(program)
    process.send_signal(signal.SIGINT)
    err = ended(process)
    assert process.returncode == 130
    assert "in flight and saving; Ctrl-C again stops now." in err
    assert " stopped: " in err
    check_resumable(program, err)


def test_two_stop_now(program: Program) -> None:
    program.add_model("endless", step_seconds=0.05)
    source = program.prompts("a", "slow 100000", "slow 100000")
    process = program.start("run", source, "--model", "endless", "--output", "out.csv")
    program.wait_done(1)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGINT)
    err = ended(process)
    assert process.returncode == 130
    assert "Stopping now." in err
    job = program.job()
    assert (job.completed, job.status) == (1, JobStatus.RUNNING)
    assert not (program.home / "out.csv").exists()
    assert f"resume {job.job_id} --output={program.home / 'out.csv'}\n" in err


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_system_ends_it(program: Program, number: str, code: int) -> None:
    process = begin(program)
    process.send_signal(getattr(signal, number))
    err = ended(process)
    assert process.returncode == code
    check_resumable(program, err)


def test_a_lost_terminal_takes_stderr_with_it(program: Program) -> None:
    process = begin(program, "--display", "log", "--stream", "s.jsonl")
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(90) == 129
    assert 0 < program.job().processed < 40
    lines = (program.home / "s.jsonl").read_text().splitlines()
    assert len(lines) == program.job().processed


def test_nohup_is_heeded(program: Program) -> None:
    process = begin(program, done=1)
    process.kill()
    process.communicate()
    ignored = program.start(
        "resume",
        program.job().job_id,
        "--workers",
        "30",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    program.wait_for(lambda: any(name.endswith(".live") for name in program.files()))
    ignored.send_signal(signal.SIGHUP)
    ended(ignored)
    assert ignored.returncode == 0
    assert program.job().completed == 40


def test_ctrl_c_while_the_model_loads_does_not_wait_for_it(program: Program) -> None:
    program.add_model("heavy", load_seconds=60)
    process = program.start("run", program.prompts("a"), "--model", "heavy")
    program.wait_for(lambda: any(name.endswith(".live") for name in program.files()))
    process.send_signal(signal.SIGINT)
    err = ended(process)
    assert process.returncode == 130
    assert "Resume with: " in err


def test_ctrl_c_before_there_is_a_job_leaves_nothing(program: Program) -> None:
    process = program.start("run", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("one\n")
    process.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    err = ended(process)
    assert process.returncode == 130
    assert err == "Interrupted.\n"
    assert program.files() == []


def test_a_kill_loses_nothing_that_was_saved(program: Program) -> None:
    process = begin(program, done=5)
    process.kill()
    process.communicate()
    before = program.job().completed
    assert before >= 5
    assert program("jobs") == 0
    assert "interrupted" in program.out
    assert program("resume", program.job().job_id, "--model", "quick", "--yes") == 0
    assert len(program.seen) == 40 - before


def test_the_reader_of_stdout_goes_away(program: Program) -> None:
    source = program.prompts(*[f"{n} " + "x" * 4000 for n in range(200)])
    assert program("run", source) == 0
    job_id = program.job().job_id
    process = program.start("export", job_id, "--output", "-", "--format", "jsonl")
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"prompt_index": 0')
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(90) == 141
    assert err == ""


def test_the_reader_of_a_stream_goes_away(program: Program) -> None:
    process = begin(program, "--stream", "-", done=1)
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"prompt_index"')
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(90) == 141
    assert "Traceback" not in err and "whoever read the output is gone" in err
    assert f"resume {program.job().job_id} --stream=-\n" in err
