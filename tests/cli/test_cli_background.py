"""Jobs in the background: detached, watched, steered and stopped from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from program import Program
from servers.waiting import until

from batch.checkpoint import lock_owner
from batch.running.live import Watch


def detached(program: Program, *words: str, prompts: int = 60) -> tuple[str, int]:
    """A job in the background, four steps of 0.1 s a prompt: its id and pid."""
    program.add_model("slow", step_seconds=0.1)
    source = program.prompts(*[f"number {n:03} x" for n in range(prompts)])
    process = program.start("run", source, "--model", "slow", "--workers", "2", "--detach", *words)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    job_id = out.strip()
    pid = re.search(rf"Job {job_id} goes on in the background as process (\d+); log: (.*)\n", err)
    assert pid, err
    assert f"watch {job_id}\n" in err and f"stop {job_id}\n" in err
    assert Path(pid[2]).is_file()
    return job_id, int(pid[1])


def watch_of(program: Program) -> Watch:
    path = program.job().checkpoint_file
    assert path is not None
    return Watch(path)


def test_detached_watched_steered_and_stopped(program: Program) -> None:
    job_id, pid = detached(program)
    watch = watch_of(program)
    try:
        assert program("jobs") == 0
        assert f"running ({pid})" in program.out
        assert program("show", job_id, "--json") == 0
        assert json.loads(program.out)["pid"] == pid
        assert program("watch", job_id, "--workers", "5") == 0
        program.wait_for(lambda: watch.snapshot().concurrency == 5)
        assert program("watch", job_id, "--pause") == 0
        program.wait_for(lambda: watch.snapshot().state == "paused")
        assert program("watch", job_id, "--resume", "--workers", "3") == 0
        program.wait_for(lambda: watch.snapshot().state == "running" and watch.snapshot().concurrency == 3)
        assert program("delete", job_id, "--yes") == 2
        assert program("stop", job_id) == 0
        assert re.search(rf"Job {job_id} stopped: \d+ of 60 done\.\nResume with: .* resume {job_id}\n", program.err)
        assert lock_owner(watch.path) is None
        assert 0 < program.job().processed < 60
        log = watch.path.with_suffix(".log")
        program.wait_for(lambda: "Resume with: " in log.read_text())  # which comes after the job is free again
    finally:
        kill(pid)
    assert re.search(r"^\d{4}-\d\d-\d\dT\S+ Job \w+ stopped: ", log.read_text(), re.MULTILINE)


def kill(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGTERM)


def test_a_watcher_sees_the_end_and_its_exit_code(program: Program) -> None:
    job_id, pid = detached(program, prompts=10)
    try:
        assert program("watch", job_id) == 0
    finally:
        kill(pid)
    assert "100.0% (10/10)" in program.err
    assert f"Job {job_id} finished: 10 done | 0 failed" in program.err


def test_stop_now_through_watch(program: Program) -> None:
    program.add_model("endless", step_seconds=0.05)
    process = program.start("run", program.prompts("a", "slow 100000"), "--model", "endless")
    program.wait_done(1)
    assert program("watch", program.job().job_id, "--stop", "now") == 0
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Resume with: " in err
    assert program.job().completed == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_watching_and_the_job_goes_on(program: Program) -> None:
    job_id, pid = detached(program)
    watch = watch_of(program)
    try:
        watcher = program.start("watch", job_id)
        assert watcher.stderr is not None
        assert watcher.stderr.readline().startswith("Progress: [")
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=200)
        assert watcher.returncode == 130
        assert f"Left; job {job_id} goes on." in err
        assert watch.running
        until(lambda: watch.snapshot().processed > 0)
    finally:
        kill(pid)
    assert watch.wait(90)
    assert 0 < program.job().processed < 60


def test_a_second_runner_is_refused(program: Program) -> None:
    job_id, pid = detached(program)
    try:
        second = program.start("resume", job_id)
        _, err = second.communicate(timeout=200)
        assert second.returncode == 2
        assert err == f"Error: Job {job_id} is being run by process {pid}; follow it with: ai-router watch {job_id}\n"
    finally:
        kill(pid)


def test_resume_in_the_background_with_changes_and_an_output(program: Program) -> None:
    assert program("run", program.prompts("fail x", "two", "three"), "--on-error", "stop", "--workers", "1") == 1
    job_id = program.job().job_id
    words = ["--retry-failed", "--max-tokens", "3", "--on-error", "continue", "--output", "answers.csv"]
    process = program.start("resume", job_id, "--detach", *words)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (0, f"{job_id}\n"), err
    assert watch_of(program).wait(90)
    program.wait_for((program.home / "answers.csv").exists)
    assert "1,two,TWO,True" in (program.home / "answers.csv").read_text()
    assert "2,three,THR,True" in (program.home / "answers.csv").read_text()
    assert program.job().config["sampling"] == {"max_tokens": 3}


def test_a_background_run_that_cannot_begin_says_why(program: Program) -> None:
    program.add_model("refuses", refuse="the weights are torn")
    process = program.start("run", program.prompts("a"), "--model", "refuses", "--detach")
    _, err = process.communicate(timeout=200)
    if process.returncode == 0:  # it held the lock when it was looked at, and ended then
        program.wait_for(lambda: program.job().reason == "the weights are torn")
        return
    assert process.returncode == 2 and "The background run ended at once: " in err


def test_a_pipe_goes_in_and_out(program: Program) -> None:
    process = program.start(
        "run", "-", "--output", "-", "--format", "jsonl", stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate("ein Gruß\n日本語\n", timeout=60)
    assert process.returncode == 0, err
    assert [json.loads(line)["response_text"] for line in out.splitlines()] == ["EIN GRUSS", "日本語"]


def test_a_pipe_into_the_background(program: Program) -> None:
    process = program.start("run", "-", "--detach", stdin=subprocess.PIPE)
    out, err = process.communicate("one\ntwo\n", timeout=60)
    assert process.returncode == 0, err
    assert watch_of(program).wait(90)
    assert program.job().completed == 2
    assert out.strip() == program.job().job_id
