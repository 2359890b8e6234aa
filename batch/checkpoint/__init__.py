"""The store: one SQLite file a job, and who may run it."""

from batch.checkpoint.creating import checkpoint_path
from batch.checkpoint.listing import CheckpointInfo, CheckpointList, delete_checkpoint, find_job, list_jobs
from batch.checkpoint.lock import JobLock, LockOwner, lock_owner
from batch.checkpoint.store import DONE, WITH_PROVIDER, CheckpointStore, Plan
from batch.checkpoint.writer import AttemptRow, ResultRow, ResultWriter

__all__ = [
    "DONE",
    "WITH_PROVIDER",
    "AttemptRow",
    "CheckpointInfo",
    "CheckpointList",
    "CheckpointStore",
    "JobLock",
    "LockOwner",
    "Plan",
    "ResultRow",
    "ResultWriter",
    "checkpoint_path",
    "delete_checkpoint",
    "find_job",
    "list_jobs",
    "lock_owner",
]
