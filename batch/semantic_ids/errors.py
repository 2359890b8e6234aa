"""What can go wrong with semantic IDs."""

from __future__ import annotations

from batch.errors import BatchError


class SemanticIdError(BatchError):
    """A model, a dataset or features cannot be used; the text is one sentence that says which and why."""
