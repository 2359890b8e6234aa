"""The batch processor: create, run, resume, list and export jobs of one checkpoint folder."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from batch.checkpoint import CheckpointInfo, CheckpointStore, JobLock, ResultWriter, checkpoint_path, legacy, list_jobs
from batch.checkpoint.written import ResultRow
from batch.engines.base import Engine
from batch.engines.function import FunctionEngine
from batch.errors import BatchError, CheckpointError, Interrupted
from batch.items import Answer, Request
from batch.job import BatchJob, BatchResult, JobStatus, new_job_id
from batch.jsontext import dump_json
from batch.options import RunOptions, build_options
from batch.running.run import Run


class CheckpointDicts(list[dict[str, Any]]):
    """What `list_checkpoints` returns: newest first; `skipped` holds (file, reason) of what could not be read."""

    skipped: list[tuple[Path, str]]


class BatchProcessor:
    """Runs batches of prompts, keeping every answer in `checkpoint_dir` the moment it comes.

    The folder is made when missing. Each result is committed on its own, so there is no checkpoint interval to tune.
    """

    def __init__(self, checkpoint_dir: Path | str) -> None:
        self.checkpoint_dir = Path(checkpoint_dir)
        try:
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"Cannot make the folder {checkpoint_dir}: {error.strerror}") from error

    def load_prompts_from_file(self, file_path: Path | str) -> list[str]:
        """The prompts of a `.txt`, `.json`, `.jsonl` or `.csv` file; `FileNotFoundError` when there is none."""
        from batch.sources import load_prompts

        return load_prompts(file_path)

    def create_job(
        self,
        model_id: str,
        prompts: Iterable[str | Request],
        *,
        config: dict[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> BatchJob:
        """A new job, on disk with all its prompts before this returns; `prompts` may be a stream.

        `config` (JSON) is kept with the job; `progress` is called with the number of prompts written so far.
        """
        job = BatchJob(new_job_id(), model_id, [], 0, config=config or {})
        while checkpoint_path(self.checkpoint_dir, job.job_id).exists():
            job.job_id = new_job_id()
        with CheckpointStore.create(self.checkpoint_dir, job, prompts, progress=progress) as store:
            return store.job()

    def open_job(self, checkpoint_file: Path | str) -> BatchJob:
        """The job of a checkpoint, ready to run. A JSON checkpoint is turned into a database beside it first."""
        path = Path(checkpoint_file)
        if path.suffix == ".json":
            path = self._adopt(path)
        with CheckpointStore(path) as store:
            return store.job(recount=True)

    def run(self, job: BatchJob, engine: Engine[Request, Answer], options: RunOptions | None = None, **kw: Any) -> Run:
        """Start answering what is missing, in a thread of its own; keywords as of `Run`."""
        return Run(job, engine, options, **kw).start()

    def process_batch(
        self,
        job: BatchJob,
        execute_fn: Callable[[str], Any],
        progress_callback: Callable[[BatchJob, int], None] | None = None,
        error_strategy: str = "continue",
        *,
        results: Sequence[BatchResult] | None = None,
        retry_failed: bool = False,
        workers: int = 1,
        retries: int = 0,
        rate_limit: int | None = None,
        tokens_per_minute: int | None = None,
        timeout: float | None = None,
        checkpoint_on_error: bool = True,
    ) -> list[BatchResult]:
        """Answer every prompt that has no result yet and return all results in prompt order.

        `execute_fn(prompt)` is sync or async and returns text or an object with `.text`, `.tokens_input`,
        `.tokens_output`, `.duration_seconds`. `progress_callback(job, processed)` is called in this thread after each
        commit. `error_strategy` is `continue`, `stop` or `threshold:N`. Results given by `results` are kept and not run
        again; `retry_failed` runs failures again. `rate_limit` is requests a minute, `timeout` seconds a prompt.
        `checkpoint_on_error` commits a failure at once instead of with its group (at most 50 ms later).
        Ctrl-C saves and raises `KeyboardInterrupt`; the job stays `running`, which means resumable.
        """
        options = build_options(
            RunOptions,
            {
                "workers": workers,
                "on_error": error_strategy,
                "retries": retries,
                "requests_per_minute": rate_limit,
                "tokens_per_minute": tokens_per_minute,
                "timeout": timeout,
            },
        )
        engine = FunctionEngine(execute_fn, workers=options.workers or 1, timeout=options.timeout)
        self._ensure_stored(job, results or ())
        run = Run(
            job,
            engine,
            options,
            retry_failed=retry_failed,
            on_progress=progress_callback,
            checkpoint_on_error=checkpoint_on_error,
        )
        _execute(run)
        if isinstance(run.error, CheckpointError) or (run.error and not isinstance(run.error, BatchError)):
            raise run.error
        assert job.checkpoint_file is not None
        with CheckpointStore(job.checkpoint_file) as store:
            return list(store.iter_results())

    def save_checkpoint(self, job: BatchJob, results: Sequence[BatchResult]) -> None:
        """Put on disk the job as it is, and the results that are not there yet or that end a stored failure.

        `process_batch` does so by itself.
        """
        if job.checkpoint_file is None or not job.checkpoint_file.exists():
            CheckpointStore.create(self.checkpoint_dir, job, job.prompts).close()
        elif job.checkpoint_file.suffix == ".json":
            job.checkpoint_file = self._adopt(job.checkpoint_file)
        _put(job, results)

    def load_checkpoint(self, checkpoint_file: Path | str) -> tuple[BatchJob, list[BatchResult]]:
        """The job and its results in prompt order."""
        path = Path(checkpoint_file)
        if path.suffix == ".json":
            return legacy.read(path)
        with CheckpointStore(path) as store:
            return store.job(recount=True), list(store.iter_results())

    def list_checkpoints(self) -> CheckpointDicts:
        """All checkpoints, newest first: file, job_id, model_id, status, completed, total, failed, timestamp."""
        found = list_jobs(self.checkpoint_dir)
        dicts = CheckpointDicts(info.as_dict() for info in found)
        dicts.skipped = found.skipped
        return dicts

    def jobs(self) -> list[CheckpointInfo]:
        """All checkpoints, newest first, with who runs them."""
        return list_jobs(self.checkpoint_dir)

    def export_results(
        self,
        job: BatchJob,
        results: Iterable[BatchResult],
        output_file: Path | str,
        format: str = "json",  # noqa: A002 - the reference's name
        *,
        clip: int | None = None,
        inert_csv: bool = True,
    ) -> Path:
        """Write results to a file, whole or not at all, in input order; returns its path."""
        from batch.export import export

        path = Path(output_file)
        ordered = sorted(results, key=lambda r: r.prompt_index) if isinstance(results, Sequence) else results
        forbidden = [job.checkpoint_file] if job.checkpoint_file else []
        export(job, ordered, path, format, clip=clip, inert_csv=inert_csv, forbidden=forbidden)
        return path

    def _ensure_stored(self, job: BatchJob, results: Sequence[BatchResult]) -> None:
        if results or job.checkpoint_file is None or job.checkpoint_file.suffix == ".json":
            self.save_checkpoint(job, results)

    def _adopt(self, path: Path) -> Path:
        """A database of the same name for a JSON checkpoint of the reference; the JSON file stays as it is."""
        job_id = path.stem.removeprefix("batch_")
        database = checkpoint_path(path.parent, job_id)
        if not database.exists():
            job, results = legacy.read(path)
            job.job_id = job_id
            try:
                # Beside its place until its results are in: a job without them would be run from the start.
                with tempfile.TemporaryDirectory(prefix=f".{job_id}-", dir=path.parent) as folder:
                    CheckpointStore.create(Path(folder), job, job.prompts).close()
                    _put(job, results)
                    os.replace(checkpoint_path(Path(folder), job_id), database)
            except OSError as error:
                raise CheckpointError(f"Cannot write checkpoint {database}: {error.strerror or error}") from error
        return database


def _execute(run: Run) -> None:
    """Run here, or in a thread where this one has an event loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run.execute()
        return
    run.start()
    try:
        run.wait()
    except KeyboardInterrupt:
        run.stop("now")
        run.wait()
        raise
    if isinstance(run.error, Interrupted):
        raise KeyboardInterrupt


def _put(job: BatchJob, results: Sequence[BatchResult]) -> None:
    """Store results beside those that are stored, under the job's lock, and bring the job's counts up to date."""
    assert job.checkpoint_file is not None
    if job.status not in list(JobStatus):
        raise CheckpointError(f"Unknown job status {job.status!r}; use one of {', '.join(JobStatus)}")
    lock = JobLock(job.checkpoint_file)
    lock.acquire()
    try:
        with CheckpointStore(job.checkpoint_file) as store:
            stored = store.job()
            known = {r.prompt_index: r for r in store.iter_results()}
        chosen: dict[int, BatchResult] = {}
        for r in results:
            if not 0 <= r.prompt_index < stored.total_prompts:
                raise CheckpointError(f"Job {job.job_id} has no prompt {r.prompt_index}")
            old = chosen.get(r.prompt_index) or known.get(r.prompt_index)
            if old is None or (r.success and not old.success):
                chosen[r.prompt_index] = r
        job.elapsed = max(job.elapsed, stored.elapsed)
        job.completed, job.failed = stored.completed, stored.failed
        job.tokens_input, job.tokens_output = stored.tokens_input, stored.tokens_output
        job.cost, job.cost_unknown = stored.cost, stored.cost_unknown
        errors: list[CheckpointError] = []
        writer = ResultWriter(job, lambda rows: None, errors.append, lambda: job.elapsed)
        for r in chosen.values():
            failed_before = r.prompt_index in known
            writer.put(
                ResultRow(
                    r.prompt_index,
                    r.prompt,
                    r.response_text,
                    r.success,
                    r.tokens_input,
                    r.tokens_output,
                    r.duration,
                    max(1, r.attempts),
                    r.error_class,
                    r.error_message,
                    dump_json(r.extra),
                    int(failed_before),
                    r.model,
                    r.cost,
                    r.tokens_cached,
                    r.tokens_reasoning,
                    r.units,
                )
            )
        writer.close()
        if errors:
            raise errors[0]
    finally:
        lock.release()
