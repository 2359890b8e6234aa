"""A batch job and its results, as the library hands them out."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

LONGEST_ID = 200  # characters: names of files have at most 255 bytes


class JobStatus(StrEnum):
    """Where a job stands. An interrupted job stays `running`, which means: resumable.

    `waiting`: all that is left is with a provider, and some later process collects it.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"


def new_job_id() -> str:
    """Eight hexadecimal digits."""
    return uuid.uuid4().hex[:8]


def check_job_id(job_id: str) -> str:
    """The id, if files can be named by it wherever it comes from; ValueError if it would lead to another folder."""
    if not 0 < len(job_id) <= LONGEST_ID or not job_id.isprintable() or "/" in job_id or "\\" in job_id:
        raise ValueError(f"{job_id[:LONGEST_ID]!r} is no job id")
    return job_id


def now_iso() -> str:
    """Local time without zone, ISO 8601, as checkpoints and exports carry it."""
    return datetime.now().isoformat()


@dataclass(slots=True)
class BatchResult:
    """What became of one prompt. `duration` is seconds of the last attempt; the first eight fields are exported."""

    prompt_index: int
    prompt: str
    response_text: str
    tokens_input: int = 0
    tokens_output: int = 0
    duration: float = 0.0
    success: bool = True
    error_message: str | None = None
    error_class: str | None = None
    attempts: int = 1
    extra: dict[str, Any] | None = None  # what the engine said beside the text
    custom_id: str | None = None  # the item's name in the input file
    model: str | None = None  # who answered; None where a store of format 1 did not keep it
    cost: int | None = None  # billionths of a dollar, of all attempts; None is unknown
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    units: int = 1
    meant_for: str | None = None  # the model that the plan chose, None: the job's
    meant_why: str | None = None
    columns: dict[str, Any] | None = None  # carried through from a table's row
    endpoint: str | None = None  # of the item's line in an OpenAI batch file; None: a chat


@dataclass(slots=True)
class BatchJob:
    """A batch of prompts. `completed` counts successes, `failed` failures; recounted from results.

    `model_id` is the model of the last run, `asked_model` the one that the job was made for. Tokens and `cost` (whole
    billionths of a dollar) are of all tries, superseded ones included.
    """

    job_id: str
    model_id: str
    prompts: Sequence[str]
    total_prompts: int
    completed: int = 0
    failed: int = 0
    status: str = JobStatus.PENDING
    started_at: str | None = None
    completed_at: str | None = None
    checkpoint_file: Path | None = None
    created_at: str = field(default_factory=now_iso)
    updated_at: str | None = None
    tokens_input: int = 0
    tokens_output: int = 0
    elapsed: float = 0.0  # seconds of running, over all resumes; without those in which a model was loaded
    reason: str | None = None  # why the last run ended before the end
    config: dict[str, Any] = field(default_factory=dict)  # source, options, …; JSON
    cost: int = 0  # of what is known
    cost_unknown: int = 0  # answers, and tries that used tokens, whose cost is not known
    with_provider: int = 0  # items handed to a provider that have no result yet
    asked_model: str | None = None  # None before the job is stored

    @property
    def models(self) -> list[str]:
        """Its own model, and those beside it that its items are meant for, as its config names them."""
        return list(dict.fromkeys((self.model_id, *map(str, self.config.get("lanes") or ()))))

    @property
    def kind(self) -> str:
        """What the items are: `prompts`, or what another part of the library calls its own (`dataset`, …)."""
        return str(self.config.get("kind", "prompts"))

    @property
    def processed(self) -> int:
        """Items with a result, good or bad."""
        return self.completed + self.failed

    @property
    def success_rate(self) -> float:
        """Successes as a percentage of all prompts."""
        return self.completed / self.total_prompts * 100 if self.total_prompts else 0.0
