"""One model through the whole pipeline in this process: fetch, encode, write, upload."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batch.semantic_ids import layout
from batch.semantic_ids.hub import NO_TOKEN, Hub, HuggingFaceHub, MissingTokenError
from batch.semantic_ids.task import CodebookOptions, Task, open_task, prepare

if TYPE_CHECKING:
    from batch.semantic_ids.blocks import StoredCodes
    from batch.semantic_ids.report import CodesReport

Progress = Callable[[str, int, int], object]  # what is done ("encode", "write"), rows done, rows in all


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What became of one model: either `report` or `error` is set."""

    model: str
    report: CodesReport | None = None
    files: tuple[Path, ...] = ()  # that are kept
    uploaded: tuple[str, ...] = ()  # addresses
    error: str | None = None
    exception: Exception | None = field(default=None, repr=False)

    @property
    def success(self) -> bool:
        """Whether it has codebooks."""
        return self.error is None


class BatchInferenceProcessor:
    """Encodes a dataset with a model and puts the codebooks where they belong.

    Without a `hub` that is the Hugging Face Hub, with the token given or that of HF_TOKEN. With `output_dir` the files
    stay there; without it they only live until they are uploaded. `upload` None uploads unless there is an
    `output_dir`. The rows are never shuffled, and the codebook stands still, so that codes depend on nothing but the
    features and the model.
    """

    def __init__(
        self,
        hf_token: str | None = None,
        *,
        hub: Hub | None = None,
        output_dir: Path | str | None = None,
        upload: bool | None = None,
        options: CodebookOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.hub: Hub = hub or HuggingFaceHub(hf_token)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.upload = self.output_dir is None if upload is None else upload
        self.options = options or CodebookOptions()
        self._progress = progress or (lambda what, done, total: None)

    def process_model(self, model_name: str) -> ModelResult:
        """All of it for one model; raises BatchError, one sentence, where something is missing or does not fit."""
        from batch.semantic_ids.output import write_codebooks
        from batch.semantic_ids.report import report_of

        if self.upload:
            check_token(self.hub)
        task = prepare(model_name, self.hub, self.options)
        stored = self._process_batches(task)
        keep = self.output_dir
        with nullcontext(keep) if keep is not None else tempfile.TemporaryDirectory(prefix="codebooks-") as folder:
            written = write_codebooks(task, stored, Path(folder), progress=partial(self._wrote, task))
            uploaded = self._upload_results(task, written.files) if self.upload else ()
        files = written.files if self.output_dir is not None else ()
        return ModelResult(model_name, report_of(task.config.run_name, stored), files, uploaded)

    def _wrote(self, task: Task, done: int) -> None:
        self._progress("write", done, task.rows)

    def _process_batches(self, task: Task) -> StoredCodes:
        """Encode all rows, a block at a time."""
        import numpy as np

        from batch.semantic_ids.blocks import StoredCodes

        model, encoder, table = open_task(task)  # says what is missing where torch is
        from batch.semantic_ids.encode import encode_table

        stored = StoredCodes(np.full((task.rows, model.levels), -1, np.int32), model.codewords)
        for first, codes in encode_table(encoder, table, block=task.options.block_rows, reconstruction=True):
            stop = first + len(codes.codes)
            stored.codes[first:stop] = codes.codes
            stored.bad += [first + int(row) for row in codes.bad]
            stored.encoded += codes.encoded
            stored.quantization_error_sum += codes.quantization_error_sum
            stored.reconstruction_error_sum += codes.reconstruction_error_sum or 0.0
            stored.exact += codes.exact
            self._progress("encode", stop, task.rows)
        encoder.close()
        return stored

    def _upload_results(self, task: Task, files: tuple[Path, ...]) -> tuple[str, ...]:
        """Put the files into the dataset's repository; returns their addresses."""
        return upload_files(self.hub, task.config.dataset_name, files)


def upload_files(hub: Hub, dataset: str, files: tuple[Path, ...]) -> tuple[str, ...]:
    """Put files of codebooks into a dataset's repository, below `LLM Dataset/Intermediate Files`."""
    repo = layout.dataset_repo(dataset)
    return tuple(hub.upload(file, repo, layout.upload_path(file.name), "dataset") for file in files)


def upload_addresses(hub: Hub, dataset: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Where `upload_files` would put files of these names."""
    repo = layout.dataset_repo(dataset)
    return tuple(hub.address(repo, layout.upload_path(name), "dataset") for name in names)


def check_token(hub: Hub) -> None:
    """Raise where something is to be uploaded and there is no token for it, before hours are spent."""
    if hub.needs_token and not getattr(hub, "has_token", True):
        raise MissingTokenError(NO_TOKEN)
