"""The beginning of long texts, read without the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=4), length=st.integers(1, 12))
def test_a_preview_is_the_beginning_of_every_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int
) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    processor = BatchProcessor(folder)
    job = processor.create_job("demo", [f"{text}?" for text in texts])

    def answer(prompt: str) -> str:
        if len(prompt) % 3 == 0:
            raise ValueError(f"error {prompt}")
        return f"{prompt}!"

    whole = processor.process_batch(job, answer)
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        page = store.results(preview=length)
    for cut, full in zip(page, whole, strict=True):
        assert cut.prompt == full.prompt[:length]
        assert cut.response_text == full.response_text[:length]
        assert cut.error_message == (full.error_message[:length] if full.error_message else full.error_message)
        assert (cut.success, cut.attempts, cut.error_class) == (full.success, full.attempts, full.error_class)
