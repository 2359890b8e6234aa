"""The reference's API, as its guide describes it: fields, methods, formats and the seven steps of its test script."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch import BatchJob, BatchProcessor, BatchResult
from batch.errors import CheckpointError, TransientError
from batch.options import OptionError

EXAMPLE = Path(__file__).parents[2] / "examples" / "batch_prompts.txt"


@pytest.fixture
def processor(tmp_path: Path) -> BatchProcessor:
    return BatchProcessor(tmp_path / "checkpoints")


def answer(prompt: str) -> str:
    return f"answer to {prompt}"


def test_the_seven_steps(processor: BatchProcessor, tmp_path: Path) -> None:
    # 1: load
    prompts = processor.load_prompts_from_file(EXAMPLE)
    assert len(prompts) == 25
    assert prompts[0] == "Explain what a linked list is and when to use one."
    # 2: create
    job = processor.create_job("mock-model", prompts[:5])
    assert len(job.job_id) == 8 and int(job.job_id, 16) >= 0
    assert (job.model_id, job.total_prompts, job.completed, job.failed, job.status) == (
        "mock-model",
        5,
        0,
        0,
        "pending",
    )
    assert job.prompts == prompts[:5]
    assert job.checkpoint_file is not None and job.checkpoint_file.name == f"batch_{job.job_id}.db"
    # 3: process
    calls: list[tuple[BatchJob, int]] = []
    results = processor.process_batch(job, answer, lambda j, n: calls.append((j, n)))
    assert [r.response_text for r in results] == [answer(p) for p in prompts[:5]]
    assert [n for _, n in calls] == [1, 2, 3, 4, 5] and all(j is job for j, _ in calls)
    assert (job.status, job.completed, job.failed) == ("completed", 5, 0)
    assert job.started_at and job.completed_at and job.started_at <= job.completed_at
    # 4 and 5: save and load
    processor.save_checkpoint(job, results)
    loaded, loaded_results = processor.load_checkpoint(job.checkpoint_file)
    assert loaded_results == results and loaded.prompts == prompts[:5]
    assert (loaded.job_id, loaded.status, loaded.completed) == (job.job_id, "completed", 5)
    # 6: list
    assert [c["job_id"] for c in processor.list_checkpoints()] == [job.job_id]
    # 7: export
    processor.export_results(job, results, tmp_path / "out.json")
    data = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert list(data) == ["job", "results", "summary"]
    assert data["summary"] == {"total": 5, "completed": 5, "failed": 0, "success_rate": 100.0}
    processor.export_results(job, results, tmp_path / "out.csv", "csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["index"]) for r in rows] == [0, 1, 2, 3, 4] and rows[0]["success"] == "True"


def test_fields_of_the_guide() -> None:
    job = BatchJob("abc123de", "m", ["a"], 1)
    assert (job.job_id, job.model_id, job.prompts, job.total_prompts) == ("abc123de", "m", ["a"], 1)
    assert (job.completed, job.failed, job.status) == (0, 0, "pending")
    assert (job.started_at, job.completed_at, job.checkpoint_file) == (None, None, None)
    result = BatchResult(prompt_index=0, prompt="a", response_text="b", tokens_input=1, tokens_output=2, duration=0.5)
    assert (result.success, result.error_message) == (True, None)


def test_objects_with_counts(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a", "b"])
    reply = SimpleNamespace(text="hello", tokens_input=7, tokens_output=11, duration_seconds=1.25)
    results = processor.process_batch(job, lambda prompt: reply)
    assert [(r.response_text, r.tokens_input, r.tokens_output, r.duration) for r in results] == [
        ("hello", 7, 11, 1.25)
    ] * 2
    assert (job.tokens_input, job.tokens_output) == (14, 22)


def test_an_async_function_runs_its_workers_at_once(processor: BatchProcessor) -> None:
    running, most = 0, 0

    async def slow(prompt: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return prompt

    job = processor.create_job("m", [str(i) for i in range(20)])
    results = processor.process_batch(job, slow, workers=4)
    assert [r.response_text for r in results] == [str(i) for i in range(20)]
    assert most == 4


def test_a_plain_function_runs_one_at_a_time_and_its_threads_end(processor: BatchProcessor) -> None:
    lock = threading.Lock()

    def alone(prompt: str) -> str:
        assert lock.acquire(blocking=False), "two at once"
        lock.release()
        return prompt

    job = processor.create_job("m", [str(i) for i in range(50)])
    assert all(r.success for r in processor.process_batch(job, alone))
    workers = [t for t in threading.enumerate() if t.name == "execute_fn"]
    for thread in workers:
        thread.join(10)
        assert not thread.is_alive()


def test_a_plain_function_that_returns_a_coroutine(processor: BatchProcessor) -> None:
    async def inner(prompt: str) -> str:
        return prompt.upper()

    job = processor.create_job("m", ["a"])
    assert processor.process_batch(job, lambda p: inner(p))[0].response_text == "A"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the function returned None"),
        (SimpleNamespace(text=None), "the function returned an object whose text is None"),
        ("", "the answer is empty"),
        ("  \n\t", "the answer is empty"),
        (SimpleNamespace(text=""), "the answer is empty"),
        (SimpleNamespace(text="x", tokens_input="many"), "ValueError: "),
        (Unprintable(), "RuntimeError: no text"),
    ],
)
def test_no_answer_is_a_failure_and_never_the_word_none(processor: BatchProcessor, value: Any, message: str) -> None:
    job = processor.create_job("m", ["a", "b"])
    results = processor.process_batch(job, lambda p: "fine" if p == "b" else value)
    assert [r.success for r in results] == [False, True]
    assert results[0].response_text == "" and str(results[0].error_message).startswith(message)
    assert (job.completed, job.failed, job.status) == (1, 1, "completed")


@pytest.mark.parametrize(
    ("error", "error_class", "message"),
    [
        (ValueError("bad"), "permanent", "ValueError: bad"),
        (ValueError(), "permanent", "ValueError"),
        (TimeoutError(), "transient", "timed out"),
        (ConnectionResetError("reset"), "transient", "reset"),
        (MemoryError(), "exhausted", "out of memory"),
        (TransientError("busy"), "transient", "busy"),
        (SystemExit(3), "permanent", "SystemExit: 3"),
        (asyncio.CancelledError(), "permanent", "CancelledError"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_exception_is_the_items_failure(
    processor: BatchProcessor, kind: str, error: BaseException, error_class: str, message: str
) -> None:
    def plain(prompt: str) -> str:
        if prompt == "a":
            raise error
        return "fine"

    async def coroutine(prompt: str) -> str:
        return plain(prompt)

    job = processor.create_job("m", ["a", "b"])
    results = processor.process_batch(job, plain if kind == "sync" else coroutine)
    assert [r.success for r in results] == [False, True]
    assert (results[0].error_class, results[0].error_message) == (error_class, message)


def test_a_call_that_takes_too_long(processor: BatchProcessor) -> None:
    gate = threading.Event()
    job = processor.create_job("m", ["a"])
    try:
        (result,) = processor.process_batch(job, lambda p: gate.wait(60), timeout=0.02)
    finally:
        gate.set()
    assert result.error_class == "transient" and result.error_message == "no answer within 0.02 s"


def test_callbacks_come_after_the_commit_in_order_with_true_counts(processor: BatchProcessor) -> None:
    job = processor.create_job("m", [str(i) for i in range(60)])
    seen: list[int] = []

    def look(current_job: BatchJob, current: int) -> None:
        assert threading.current_thread() is caller
        stored, results = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
        assert stored.processed >= current and len(results) >= current
        assert current_job.processed >= current and current_job.status == "running"
        seen.append(current)

    caller = threading.current_thread()

    def sometimes(prompt: str) -> str:
        if int(prompt) % 7 == 0:
            raise ValueError("seven")
        return prompt

    processor.process_batch(job, sometimes, look)
    assert seen == list(range(1, 61))
    assert (job.completed, job.failed) == (51, 9)


def test_a_callback_that_fails_ends_the_run_with_all_answers_safe(processor: BatchProcessor) -> None:
    job = processor.create_job("m", [str(i) for i in range(30)])

    def callback(_: BatchJob, current: int) -> None:
        raise RuntimeError("my own fault")

    with pytest.raises(RuntimeError, match="my own fault"):
        processor.process_batch(job, answer, callback)
    loaded, results = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
    assert len(results) >= 1 and loaded.processed == len(results)
    assert len(processor.process_batch(processor.open_job(job.checkpoint_file), answer)) == 30  # type: ignore[arg-type]


async def test_inside_a_running_event_loop(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a", "b"])
    results = processor.process_batch(job, answer)
    assert [r.success for r in results] == [True, True]

    async def coroutine(prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt

    job = processor.create_job("m", ["a", "b"])
    assert len(processor.process_batch(job, coroutine, workers=2)) == 2


async def test_a_job_that_cannot_start_inside_a_running_loop_says_so(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a"])
    assert job.checkpoint_file is not None
    job.checkpoint_file.write_bytes(b"rubbish" * 1000)
    with pytest.raises(CheckpointError, match="Damaged checkpoint"):
        processor.process_batch(job, answer)


def test_results_given_are_kept_and_not_run_again(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a", "b", "c", "d"])
    given = [
        BatchResult(1, "b", "from elsewhere", 3, 4, 0.5),
        BatchResult(2, "c", "", success=False, error_message="no", error_class="permanent"),
        BatchResult(1, "b", "a duplicate"),  # the first answer of an index holds
        BatchResult(2, "c", "better"),  # and an answer beats a failure
    ]
    ran: list[str] = []
    results = processor.process_batch(job, lambda p: ran.append(p) or p, results=given)
    assert ran == ["a", "d"]
    assert [r.response_text for r in results] == ["a", "from elsewhere", "better", "d"]
    assert (job.completed, job.failed, job.tokens_output) == (4, 0, 4)
    # Once more with its own results: nothing runs, nothing is counted twice.
    again = processor.process_batch(job, lambda p: ran.append(p) or p, results=results)
    assert again == results and ran == ["a", "d"] and job.completed == 4


@pytest.mark.parametrize("index", [-1, 4, 10**6])
def test_a_result_of_no_prompt_is_refused(processor: BatchProcessor, index: int) -> None:
    job = processor.create_job("m", ["a", "b", "c", "d"])
    with pytest.raises(CheckpointError, match=f"has no prompt {index}"):
        processor.process_batch(job, answer, results=[BatchResult(index, "x", "y")])
    assert len(processor.process_batch(job, answer)) == 4


def test_the_hand_written_loop_of_the_reference(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a", "b", "c"])
    results = [BatchResult(0, "a", "first")]
    job.status = "running"
    processor.save_checkpoint(job, results)
    loaded, kept = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
    assert (loaded.status, loaded.completed, len(kept)) == ("running", 1, 1)
    for index in range(len(kept), 3):
        kept.append(BatchResult(index, loaded.prompts[index], "later"))
    loaded.status = "completed"
    processor.save_checkpoint(loaded, kept)
    final, results = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
    assert [r.response_text for r in results] == ["first", "later", "later"] and final.status == "completed"
    final.status = "done"
    with pytest.raises(CheckpointError, match="Unknown job status 'done'"):
        processor.save_checkpoint(final, results)
    assert processor.open_job(job.checkpoint_file).status == "completed"  # type: ignore[arg-type]


def test_a_job_made_by_hand_gets_a_checkpoint_and_never_takes_anothers(processor: BatchProcessor) -> None:
    job = BatchJob("abc123de", "m", ["a", "b"], 2)
    assert len(processor.process_batch(job, answer)) == 2
    assert job.checkpoint_file == processor.checkpoint_dir / "batch_abc123de.db"
    with pytest.raises(CheckpointError, match="exists already"):
        processor.process_batch(BatchJob("abc123de", "m", ["other"], 1), answer)
    assert processor.load_checkpoint(job.checkpoint_file)[1][0].response_text == "answer to a"


def test_retry_failed(processor: BatchProcessor) -> None:
    job = processor.create_job("m", [str(i) for i in range(6)])

    def odd(prompt: str) -> SimpleNamespace:
        if int(prompt) % 2:
            raise ValueError("odd")
        return SimpleNamespace(text=prompt, tokens_input=1, tokens_output=1)

    processor.process_batch(job, odd)
    assert (job.completed, job.failed, job.status, job.success_rate) == (3, 3, "completed", 50.0)
    ran: list[str] = []
    processor.process_batch(job, lambda p: ran.append(p) or p)  # without the word, failures are done
    assert ran == []
    counts: list[int] = []

    def second(prompt: str) -> SimpleNamespace:
        ran.append(prompt)
        if prompt == "3":
            raise ValueError("still")
        return SimpleNamespace(text="now", tokens_input=1, tokens_output=2)

    results = processor.process_batch(job, second, lambda _, n: counts.append(n), retry_failed=True)
    assert ran == ["1", "3", "5"] and counts == [4, 5, 6]
    assert [r.success for r in results] == [True, True, True, False, True, True]
    assert [r.attempts for r in results] == [1, 2, 1, 2, 1, 2]
    assert (job.completed, job.failed, job.status) == (5, 1, "completed")
    assert (job.tokens_input, job.tokens_output) == (5, 7)


def test_list_checkpoints(processor: BatchProcessor) -> None:
    jobs = [processor.create_job("m", ["a"] * n) for n in (1, 2, 3)]
    processor.process_batch(jobs[1], answer)
    (processor.checkpoint_dir / "batch_bad.json").write_text("{", "utf-8")
    (processor.checkpoint_dir / "batch_empty.db").write_bytes(b"")
    (processor.checkpoint_dir / "notes.txt").write_text("not one", "utf-8")
    listed = processor.list_checkpoints()
    assert [c["job_id"] for c in listed] == [jobs[1].job_id, jobs[2].job_id, jobs[0].job_id]  # newest first
    assert list(listed[0]) == ["file", "job_id", "model_id", "status", "completed", "total", "failed", "timestamp"]
    assert (listed[0]["status"], listed[0]["completed"], listed[0]["total"], listed[0]["failed"]) == (
        "completed",
        2,
        2,
        0,
    )
    assert sorted(path.name for path, _ in listed.skipped) == ["batch_bad.json", "batch_empty.db"]
    assert all("Damaged checkpoint" in reason for _, reason in listed.skipped)


@pytest.mark.parametrize(
    "strategy",
    [
        "",
        "threshold",
        "threshold:",
        "threshold:0",
        "threshold:-1",
        "threshold:x",
        "threshold:1.5",
        "threshold:²",
        "stop:1",
        "continue:2",
        "stopp",
        "3",
    ],
)
def test_a_malformed_strategy_is_an_error_before_anything_runs(processor: BatchProcessor, strategy: str) -> None:
    job = processor.create_job("m", ["a"])
    ran: list[str] = []
    with pytest.raises(OptionError, match="bad error strategy"):
        processor.process_batch(job, lambda p: ran.append(p) or p, None, strategy)
    assert ran == [] and processor.open_job(job.checkpoint_file).status == "pending"  # type: ignore[arg-type]


def failing(*bad: int) -> Any:
    def function(prompt: str) -> str:
        if int(prompt) in bad:
            raise ValueError("bad")
        return prompt

    return function


@pytest.mark.parametrize(
    ("strategy", "bad", "processed", "status"),
    [
        ("continue", (0, 3, 5, 9), 10, "completed"),
        ("stop", (3,), 4, "failed"),
        ("STOP", (0,), 1, "failed"),
        ("stop", (9,), 10, "completed"),  # the last one fails: there is nothing left to stop
        ("threshold:2", (1, 4, 6), 5, "failed"),
        ("threshold: 2", (1, 9), 10, "completed"),
        ("threshold:3", (1, 4), 10, "completed"),
    ],
)
def test_strategies(
    processor: BatchProcessor, strategy: str, bad: tuple[int, ...], processed: int, status: str
) -> None:
    job = processor.create_job("m", [str(i) for i in range(10)])
    counts: list[int] = []
    results = processor.process_batch(job, failing(*bad), lambda _, n: counts.append(n), strategy)
    assert len(results) == processed and counts == list(range(1, processed + 1))
    assert job.status == status and (job.completed_at is not None) == (status == "completed")
    if status == "failed":
        assert job.reason is not None and job.reason.startswith("stopped after ")
    # A stopped job goes on where it stopped, and its failures of before do not count against the new run.
    resumed = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    assert (resumed.status, resumed.reason) == (status, job.reason)
    final = processor.process_batch(resumed, str, None, strategy)
    assert len(final) == 10 and resumed.status == "completed" and resumed.failed == sum(b < processed for b in bad)


def test_a_fatal_error_stops_everything_and_charges_nobody(processor: BatchProcessor) -> None:
    from batch.errors import FatalError

    job = processor.create_job("m", [str(i) for i in range(5)])

    def function(prompt: str) -> str:
        if prompt == "2":
            raise FatalError("wrong key")
        return prompt

    results = processor.process_batch(job, function)
    assert [r.prompt_index for r in results] == [0, 1]
    assert (job.status, job.reason, job.failed) == ("failed", "wrong key", 0)
    assert len(processor.process_batch(job, str)) == 5 and job.status == "completed" and job.reason is None


def test_attempts_tokens_and_time_add_up(processor: BatchProcessor) -> None:
    job = processor.create_job("m", ["a", "b"])
    tries: list[str] = []

    def function(prompt: str) -> SimpleNamespace:
        tries.append(prompt)
        if prompt == "b" and len(tries) < 4:
            raise TransientError("busy", retry_after=0.001)
        return SimpleNamespace(text="ok", tokens_input=10, tokens_output=20)

    results = processor.process_batch(job, function, retries=1)
    assert tries[0] == "a" and [(r.success, r.attempts) for r in results] == [(True, 1), (False, 2)]
    assert results[1].error_class == "transient"
    first = job.elapsed
    assert first > 0
    job = processor.open_job(job.checkpoint_file)  # type: ignore[arg-type]
    assert job.elapsed == pytest.approx(first, abs=0.5)
    results = processor.process_batch(job, function, retries=1, retry_failed=True)
    assert [(r.success, r.attempts) for r in results] == [(True, 1), (True, 3)]
    assert job.elapsed > first and (job.tokens_input, job.tokens_output) == (20, 40)


def test_an_empty_job_is_complete(processor: BatchProcessor) -> None:
    job = processor.create_job("m", [])
    assert processor.process_batch(job, answer) == [] and job.status == "completed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers: 0 is below the least allowed, 1"),
        ({"workers": "many"}, "workers: 'many' is not a whole number"),
        ({"retries": -1}, "retries: -1 is below"),
        ({"rate_limit": 0}, "requests-per-minute: 0 is below"),
        ({"timeout": float("nan")}, "timeout: nan is below"),
    ],
)
def test_bad_options(processor: BatchProcessor, options: dict[str, Any], message: str) -> None:
    job = processor.create_job("m", ["a"])
    with pytest.raises(OptionError, match=message):
        processor.process_batch(job, answer, **options)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(CheckpointError, match="Cannot make the folder"):
        BatchProcessor(tmp_path / "file" / "checkpoints")


def test_find_and_delete(processor: BatchProcessor) -> None:
    from batch.checkpoint import delete_checkpoint, find_job

    folder = processor.checkpoint_dir
    for job_id in ("abc12345", "abd00000"):
        processor.process_batch(BatchJob(job_id, "m", ["a"], 1), answer)
    assert find_job(folder, "abc").name == "batch_abc12345.db"
    assert find_job(folder, "abd00000") == find_job(folder, str(folder / "batch_abd00000.db"))
    for name, message in [
        ("ab", "ab is not unique: abc12345, abd00000"),
        ("zzz", "Unknown job: zzz"),
        ("**", r"Unknown job: \*\*"),
        ("[a]", "Unknown job"),
        ("~nobody-of-that-name", "Unknown job"),
        ("no/such.db", "Checkpoint not found"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            find_job(folder, name)
    delete_checkpoint(find_job(folder, "abc"))
    assert sorted(p.name for p in folder.iterdir()) == ["batch_abd00000.db"]
    with pytest.raises(CheckpointError, match="not found"):
        delete_checkpoint(folder / "batch_abc12345.db")
