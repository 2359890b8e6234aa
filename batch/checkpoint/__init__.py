"""The store: one SQLite file a job, and who may run it."""

from batch.checkpoint.listing import CheckpointInfo, CheckpointList, delete_checkpoint, find_job, list_jobs
from batch.checkpoint.lock import JobLock, LockOwner, lock_owner
from batch.checkpoint.store import CheckpointStore, checkpoint_path
from batch.checkpoint.writer import ResultWriter

__all__ = [
    "CheckpointInfo",
    "CheckpointList",
    "CheckpointStore",
    "JobLock",
    "LockOwner",
    "ResultWriter",
    "checkpoint_path",
    "delete_checkpoint",
    "find_job",
    "list_jobs",
    "lock_owner",
]
