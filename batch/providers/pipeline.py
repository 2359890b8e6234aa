"""The six steps of the reference's pipeline, over any provider's page."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from batch.engines.provider.base import Page, Remote, Result
from batch.engines.provider.faults import Lost, Refused, asked
from batch.engines.provider.reading import Reading
from batch.errors import BatchError, FatalError
from batch.items import Request
from batch.options import SamplingOptions, nearest

MISSING, ERROR = "MISSING", "ERROR"  # for a row without text or answer, and for one that failed
COLUMNS = ("snippet_1", "snippet_2", "snippet_3", "snippet_4")
ID = "id_text"
DEPARTMENT_PROMPT = (
    "Given the following text about a professor or faculty member, extract their department name.\n"
    'If no department is mentioned, return "MISSING". Only return the department name, nothing else.\n'
    "Text: {rawText}\nDepartment:"
)


class PipelineError(BatchError, ValueError):
    """A step cannot be done; the text says what is wrong with what it was given."""


@dataclass(frozen=True, slots=True)
class ProviderJob:
    """A batch of a pipeline. `name` is the provider's name for it, `state` the provider's word."""

    name: str
    state: str
    remote: Remote = field(repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.remote.over


class BatchInferencePipeline(ABC):
    """What every provider's pipeline has. Tables are pandas frames; the caller's is never changed."""

    @abstractmethod
    def prepare_batch_file(self, df: Any, batch_file_path: str | Path) -> dict[str, Any]:
        """Write the requests of a table to a file; returns `batch_id`, `file_path`, `model_name`, `row_mapping` and
        `row_count`. Rows without text are left out."""

    @abstractmethod
    def upload_batch_file(self, batch_file_path: str | Path, bucket_name: str | None = None) -> str:
        """Send the file; returns where it is, for `create_batch_job`. The bucket is of use where there are buckets."""

    @abstractmethod
    def create_batch_job(self, source_uri: str, output_uri: str | None = None) -> ProviderJob:
        """Make the batch."""

    @abstractmethod
    def get_batch_status(self, job: ProviderJob) -> ProviderJob:
        """The batch as it stands now."""

    @abstractmethod
    def retrieve_and_merge_results(self, job: ProviderJob, df: Any, batch_info: Mapping[str, Any]) -> Any:
        """A new table with the answers in columns of their own, each in its row."""

    def wait_for_completion(
        self, job: ProviderJob, poll_interval: float = 30.0, timeout: float | None = None
    ) -> ProviderJob:
        """Look until the batch is over, or stands still until somebody helps; TimeoutError after so many seconds."""
        limit = None if timeout is None else time.monotonic() + timeout
        job = self.get_batch_status(job)
        while not job.over and job.state.lower() != "paused":
            if limit is not None and time.monotonic() + poll_interval > limit:
                raise TimeoutError(f"{job.name} is {job.state} after {timeout:g} s; look again with get_batch_status")
            time.sleep(poll_interval)
            job = self.get_batch_status(job)
        return job


class ProviderPipeline(BatchInferencePipeline):
    """A pipeline over a provider's page, which `open_page` makes (given the bucket) when it is needed.

    `prompt` has `{rawText}`, which are the texts of `columns` that are there, joined by a space. Answers go to
    `output_column`, what went wrong to a column of that name with `_error`.
    """

    def __init__(
        self,
        model_name: str,
        open_page: Callable[[str | None], Page],
        *,
        prompt: str = DEPARTMENT_PROMPT,
        columns: Sequence[str] = COLUMNS,
        id_column: str = ID,
        output_column: str = "department_llm",
        sampling: SamplingOptions | None = None,
    ) -> None:
        self.model_name = model_name
        self.prompt, self.columns, self.id_column, self.output_column = prompt, tuple(columns), id_column, output_column
        self._open_page = open_page
        self._sampling = sampling or SamplingOptions()
        self._bucket: str | None = None
        self._page: Page | None = None
        self._files: dict[str, tuple[Path, str]] = {}  # source -> the file and its batch id

    @property
    def page(self) -> Page:
        """The provider."""
        if self._page is None:
            self._page = self._open_page(self._bucket)
        return self._page

    def prepare_batch_file(self, df: Any, batch_file_path: str | Path) -> dict[str, Any]:
        """Write the requests of a table."""
        missing = [name for name in (self.id_column, *self.columns) if name not in df.columns]
        if missing:
            near = {name: found for name in missing if (found := nearest(name, [str(c) for c in df.columns]))}
            hint = f"; did you mean {', '.join(near.values())}?" if near else ""
            raise PipelineError(f"Missing required columns: {missing}{hint}")
        batch_id = str(uuid.uuid4())
        mapping: list[dict[str, Any]] = []
        with Path(batch_file_path).open("wb") as file:
            for label, row_id, text in self._texts(df):
                request = Request(self.prompt.replace("{rawText}", text))
                line = self.page.line(f"{batch_id}-{len(mapping)}", request, self._sampling, lambda option: None)
                file.write(orjson.dumps(line) + b"\n")
                mapping.append({"idx": label, "id_text": row_id})
        if not mapping:
            raise PipelineError("No row of the table has a text in " + ", ".join(self.columns))
        limits = self.page.limits
        size = Path(batch_file_path).stat().st_size
        if len(mapping) > limits.requests or size > limits.bytes:
            raise PipelineError(
                f"{len(mapping):,} requests of {size:,} bytes are more than one batch may have ({limits.requests:,}, "
                f"{limits.bytes:,}); ai-router submit splits them"
            )
        return {
            "batch_id": batch_id,
            "file_path": str(batch_file_path),
            "model_name": self.model_name,
            "row_mapping": mapping,
            "row_count": len(mapping),
        }

    def _texts(self, df: Any) -> Iterator[tuple[Any, Any, str]]:
        """Label, id and text of each row that has a text."""
        ids = df[self.id_column].tolist()
        columns = [df[name].tolist() for name in self.columns]
        for position, label in enumerate(df.index.tolist()):
            parts = [str(column[position]) for column in columns if not _empty(column[position])]
            if text := " ".join(parts).strip():
                yield label, ids[position], text

    def upload_batch_file(self, batch_file_path: str | Path, bucket_name: str | None = None) -> str:
        """Send the file."""
        path = Path(batch_file_path)
        key = _batch_id(path)
        if bucket_name and bucket_name != self._bucket:
            self._bucket = bucket_name
            if self._page is not None and getattr(self._page, "buckets", False):
                self._page.close()
                self._page = None
        source = self._asked(lambda: self.page.upload(path, key)) if self.page.uploads else ""
        source = source or str(path)
        self._files[source] = path, key
        return source

    def create_batch_job(self, source_uri: str, output_uri: str | None = None) -> ProviderJob:
        """Make the batch; its answers have a place of their own below `output_uri`, where there are places."""
        if source_uri not in self._files and Path(source_uri).is_file():
            self._files[source_uri] = Path(source_uri), _batch_id(Path(source_uri))
        if source_uri not in self._files:
            raise PipelineError(f"{source_uri} was not uploaded by this pipeline")
        path, key = self._files[source_uri]
        file = None if source_uri == str(path) else source_uri
        return _job(self._asked(lambda: self.page.create(path, file, key)))

    def get_batch_status(self, job: ProviderJob) -> ProviderJob:
        """The batch as it stands now."""
        return _job(self._asked(lambda: self.page.check(job.name)))

    def retrieve_and_merge_results(self, job: ProviderJob, df: Any, batch_info: Mapping[str, Any]) -> Any:
        """A new table: `MISSING` where a row has no text, `ERROR` where its request failed, and why beside it."""
        if not job.over:
            raise PipelineError(f"{job.name} is {job.state}: there are no results yet")
        if job.remote.error and not (job.remote.results or job.remote.inline):
            raise PipelineError(f"{job.name} is {job.state}: {job.remote.error}")
        rows = batch_info["row_mapping"]
        reading = Reading(str(batch_info["batch_id"]), range(len(rows)))
        answers: dict[int, tuple[str, str | None]] = {}
        for result in self._results(job.remote):
            place = reading.place(result)
            if isinstance(place, int):
                answers[place] = _text(result)
        texts, errors = [MISSING] * len(df), [None] * len(df)  # type: list[str], list[str | None]
        for place, position in enumerate(self._positions(df, rows)):
            texts[position], errors[position] = answers.get(place, (ERROR, "no answer came"))
        made = df.copy()
        made[self.output_column] = texts
        made[f"{self.output_column}_error"] = errors
        return made

    def _results(self, remote: Remote) -> Iterator[Result]:
        results = self.page.results(remote)
        while (result := self._asked(lambda: next(results, None))) is not None:
            yield result

    def _positions(self, df: Any, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Where the rows of a batch stand in a table now: by their labels, or, where these repeat, by id and order."""
        labels = df.index.tolist()
        if len(set(labels)) == len(labels):
            place = {label: position for position, label in enumerate(labels)}
            try:
                found = [place[row["idx"]] for row in rows]
            except KeyError as error:
                raise PipelineError(f"The table has no row {error} any more") from None
        else:
            found = [position for position, _ in self._with_text(df)]
        ids = df[self.id_column].tolist()
        if len(found) != len(rows) or any(ids[p] != row["id_text"] for p, row in zip(found, rows, strict=True)):
            raise PipelineError("The table is not the one that the batch was prepared from: its ids stand elsewhere")
        return found

    def _with_text(self, df: Any) -> list[tuple[int, str]]:
        plain = df.reset_index(drop=True)
        return [(label, text) for label, _, text in self._texts(plain)]

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return asked(self.model_name, call)
        except Refused as refusal:
            raise FatalError(refusal.failure.message) from None
        except Lost as lost:
            raise FatalError(f"{lost}; whether it was done is not known") from None


def _job(remote: Remote) -> ProviderJob:
    return ProviderJob(remote.id, remote.word, replace(remote))


def _text(result: Result) -> tuple[str, str | None]:
    if result.reply is None:
        return ERROR, result.failure.message if result.failure else "it was not tried"
    text = result.reply.text.strip()
    return (text, None) if text else (MISSING, "the answer is empty")


def _batch_id(path: Path) -> str:
    """The batch that a prepared file is of, as its first line says."""
    try:
        with path.open("rb") as file:
            line = orjson.loads(file.readline())
    except OSError as error:
        raise PipelineError(f"Cannot read {path}: {error.strerror or error}") from None
    except orjson.JSONDecodeError:
        raise PipelineError(f"{path} is no batch file: its first line is no JSON") from None
    labels = (line.get("request") or {}).get("labels") or {}
    name = line.get("custom_id") or line.get("key") or next(iter(labels.values()), "")
    return str(name).rpartition("-")[0]


def _empty(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()  # NaN is not itself
