"""How a job goes on of which something is with a provider."""

from __future__ import annotations

from collections.abc import Sequence

from ai_router.cli.session import Session
from batch.checkpoint import CheckpointStore
from batch.checkpoint.submissions import open_submissions
from batch.job import BatchJob

SETTLE = "A person has to say what became of what is with the provider"


def ways_on(session: Session, job: BatchJob, words: Sequence[str] = ()) -> dict[str, str | None]:
    """The commands `collect`, with these words, and `settle`, each where there is something for it to do."""
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        found = open_submissions(store)
    unclear = [submission for submission in found if submission.details.get("unclear")]
    # One without a name is looked for at each collect: some providers say whose a batch is when it is over.
    hopeless = bool(unclear) and all(submission.remote_id for submission in unclear) and len(unclear) == len(found)
    return {
        "collect": None if hopeless else session.command("collect", job, words),
        "settle": session.command("reconcile", job) if unclear else None,
    }
