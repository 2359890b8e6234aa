"""Tables through a provider's batch API, step by step, as in the reference's pipeline.

    pipeline = BatchInferencePipelineFactory.get_pipeline("gemini-2.0-flash-001")
    info = pipeline.prepare_batch_file(df, "batch.jsonl")
    source = pipeline.upload_batch_file("batch.jsonl", "dess-llm-jobs")
    job = pipeline.wait_for_completion(pipeline.create_batch_job(source, "gs://dess-llm-jobs"))
    df = pipeline.retrieve_and_merge_results(job, df, info)

These steps keep nothing between them: a job (`ai-router submit`) is what survives a crash. Importing this package
imports no provider's library.
"""

from batch.providers.factory import BatchInferencePipelineFactory
from batch.providers.pipeline import (
    DEPARTMENT_PROMPT,
    ERROR,
    MISSING,
    BatchInferencePipeline,
    ProviderJob,
    ProviderPipeline,
)

__all__ = [
    "DEPARTMENT_PROMPT",
    "ERROR",
    "MISSING",
    "BatchInferencePipeline",
    "BatchInferencePipelineFactory",
    "ProviderJob",
    "ProviderPipeline",
]
