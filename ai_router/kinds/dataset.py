"""Jobs of the kind "dataset": prompts whose answers are known, scored while they run."""

from __future__ import annotations

from pathlib import Path

from ai_router.kinds.base import SCORE, JobKind, Output
from batch.engines.base import Engine
from batch.items import Answer, Request
from batch.job import BatchJob
from batch.running.handle import RunObserver
from batch.running.progress import Score


class Dataset(JobKind):
    """How a job with known answers differs from one of prompts."""

    name = "dataset"
    actions = frozenset({SCORE})

    def wrapped(self, engine: Engine[Request, Answer]) -> Engine[Request, Answer]:
        """Answers are kept as they are compared."""
        from batch.datasets.answers import CleaningEngine

        return CleaningEngine(engine)

    def observer(self, job: BatchJob) -> RunObserver | None:
        """Writes the rows and counts the score."""
        from batch.datasets.observer import DatasetObserver

        return DatasetObserver(job)

    def figures(self, job: BatchJob) -> list[tuple[str, str]]:
        """Adapter, rows, score, and what was left out."""
        details = job.config.get("details", {})
        score = Score.of(details.get("score"))
        found = [("adapter", details.get("adapter_path") or "none"), ("rows", details.get("output_file"))]
        found.append(("score", score.text if score else "not known before the end of a run"))
        if details.get("skipped"):
            found.append(("skipped", f"{details['skipped']:,} rows that are no examples"))
        return [(name, str(value)) for name, value in found if value]

    def written(self, job: BatchJob) -> Output:
        """The results file and its summary."""
        from batch.datasets.results import summary_path

        name = job.config["details"].get("output_name") or job.config["details"].get("output_file")
        return Output((Path(name), summary_path(Path(name))) if name else ())


KIND = Dataset()
