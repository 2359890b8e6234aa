"""Batches of prompts through any engine: resumable, measured, exportable. Usable without a terminal."""

from batch.job import BatchJob, BatchResult, JobStatus
from batch.processor import BatchProcessor
from batch.run import Run

__all__ = ["BatchJob", "BatchProcessor", "BatchResult", "JobStatus", "Run"]
