"""Two to four models over the same prompts: what each says, whether they agree, which is more often right.

A comparison of a file is as many linked jobs as models; each is an ordinary job, that resumes and exports as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations

from ai_router.kinds import kind_of
from ai_router.kinds.base import SCORE
from batch.checkpoint import CheckpointStore
from batch.datasets.results import pair_of, with_requests
from batch.errors import BatchError
from batch.evaluation.bootstrap import mcnemar_p
from batch.evaluation.diff import marked, spans_if_alike
from batch.evaluation.tally import ScoreTally, wilson
from batch.items import Request
from batch.job import BatchJob, BatchResult

FEWEST, MOST = 2, 4  # models


class ComparisonError(BatchError):
    """What cannot be compared; one sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """A model's answer to one prompt. `cost` is in billionths of a dollar; `right` is None where it is not known."""

    model: str
    text: str | None
    error: str | None = None
    tokens_input: int = 0
    tokens_output: int = 0
    seconds: float = 0.0
    cost: int | None = None
    right: bool | None = None

    @property
    def plain(self) -> str | None:
        """The text by which answers are the same: without case, and with single spaces."""
        return None if self.text is None else " ".join(self.text.casefold().split())


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with the answers of all models that have one, in the models' order."""

    number: int  # from 1
    prompt: str
    answers: tuple[Said | None, ...]
    expected: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the answers that are there are not all the same."""
        return len({answer.plain for answer in self.answers if answer is not None}) > 1


@dataclass(slots=True)
class Total:
    """All answers of a model together."""

    model: str
    job: str = ""
    answered: int = 0
    failed: int = 0
    scored: int = 0
    right: int = 0
    tokens_output: int = 0
    seconds: float = 0.0
    cost: int | None = 0

    def add(self, answer: Said) -> None:
        """Count an answer."""
        self.answered += answer.error is None
        self.failed += answer.error is not None
        self.scored += answer.right is not None
        self.right += bool(answer.right)
        self.tokens_output += answer.tokens_output
        self.seconds += answer.seconds
        self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share right (Wilson)."""
        return wilson(self.right, self.scored)


@dataclass(slots=True)
class Pairing:
    """Two models over the prompts that both have answered; and, where answers are known, who alone was right."""

    first: str
    second: str
    both: int = 0
    same: int = 0
    scored: int = 0
    only_first: int = 0
    only_second: int = 0

    @property
    def p(self) -> float | None:
        """McNemar's exact test of the two shares right; None where no answers are known."""
        return mcnemar_p(self.only_first, self.only_second) if self.scored else None


@dataclass(slots=True)
class Compared:
    """Totals, pairs of models, and the first rows in which they differ."""

    totals: list[Total]
    pairings: list[Pairing]
    items: int = 0
    differing: int = 0
    rows: list[Row] = field(default_factory=list)


def compared(
    rows: Iterable[Row], models: Sequence[str], jobs: Sequence[str] = (), *, keep: int = 10, same_too: bool = False
) -> Compared:
    """Everything that is said of a comparison, in one pass; `keep` rows that differ are kept, or just as many."""
    names = list(jobs) or [""] * len(models)
    made = Compared(
        [Total(model, job) for model, job in zip(models, names, strict=True)],
        [Pairing(first, second) for first, second in combinations(models, 2)],
    )
    for row in rows:
        made.items += 1
        for total, answer in zip(made.totals, row.answers, strict=True):
            if answer is not None:
                total.add(answer)
        for pairing, (a, b) in zip(made.pairings, combinations(row.answers, 2), strict=True):
            if a is not None and b is not None:
                _pair(pairing, a, b)
        made.differing += row.differs
        if len(made.rows) < keep and (row.differs or same_too):
            made.rows.append(row)
    return made


def _pair(pairing: Pairing, a: Said, b: Said) -> None:
    if a.plain is not None and b.plain is not None:
        pairing.both += 1
        pairing.same += a.plain == b.plain
    if a.right is not None and b.right is not None:
        pairing.scored += 1
        pairing.only_first += a.right and not b.right
        pairing.only_second += b.right and not a.right


def rows_of(jobs: Sequence[BatchJob]) -> Iterator[Row]:
    """The prompts that any of the jobs has a result of, in order. Raises ComparisonError where they ask other things.

    An answer counts as right as far as its job knows the expected one.
    """
    check_jobs(jobs)
    with ExitStack() as stack:
        lines = []
        for job in jobs:
            assert job.checkpoint_file is not None
            store = stack.enter_context(CheckpointStore(job.checkpoint_file, "snapshot"))
            lines.append(_answers(job, store))
        heads = [next(line, None) for line in lines]
        while found := [head for head in heads if head is not None]:
            number = min(head[0] for head in found)
            here = [head if head is not None and head[0] == number else None for head in heads]
            prompts = {head[1] for head in here if head is not None}
            if len(prompts) > 1:
                raise ComparisonError(f"The jobs ask different things: prompt {number} is not the same in all of them")
            expected = next((head[2] for head in here if head is not None and head[2] is not None), None)
            yield Row(number, prompts.pop(), tuple(head[3] if head is not None else None for head in here), expected)
            heads = [
                next(line, None) if head is not None and head[0] == number else head
                for line, head in zip(lines, heads, strict=True)
            ]


_Head = tuple[int, str, str | None, Said]


def _answers(job: BatchJob, store: CheckpointStore) -> Iterator[_Head]:
    known = SCORE in kind_of(job.kind).actions
    score = ScoreTally(str(job.config.get("details", {}).get("match", "exact")))  # type: ignore[arg-type]
    for request, result in with_requests(store, store.iter_results()):
        right = score.add(pair_of(request, result)) if known else None
        expected = str((request.extra or {}).get("expected", "")) if known else None
        yield result.prompt_index + 1, request.text, expected, said(job, result, right)


def said(job: BatchJob, result: BatchResult, right: bool | None) -> Said:
    """A job's result as an answer beside others."""
    return Said(
        result.model or job.model_id,
        result.response_text if result.success else None,
        None if result.success else result.error_message or "failed",
        result.tokens_input,
        result.tokens_output,
        result.duration,
        result.cost,
        right,
    )


def check_jobs(jobs: Sequence[BatchJob]) -> None:
    """Raise ComparisonError where these cannot stand side by side."""
    if not FEWEST <= len(jobs) <= MOST:
        raise ComparisonError(f"A comparison is of {FEWEST} to {MOST} models, not of {len(jobs)}")
    totals = {job.total_prompts for job in jobs}
    if len(totals) > 1:
        raise ComparisonError(
            f"The jobs ask different things: they have {' and '.join(f'{n:,}' for n in totals)} prompts"
        )
    again = [name for name, count in Counter(job.job_id for job in jobs).items() if count > 1]
    if again:
        raise ComparisonError(f"Job {again[0]} would be compared with itself")


def check_models(models: Sequence[str]) -> None:
    """Raise ComparisonError where these are no two to four different models."""
    if not FEWEST <= len(models) <= MOST:
        raise ComparisonError(f"A comparison is of {FEWEST} to {MOST} models, not of {len(models)}")
    again = [name for name, count in Counter(models).items() if count > 1]
    if again:
        raise ComparisonError(f"{again[0]} would be compared with itself")


def differences(row: Row) -> list[str]:
    """The answers as plain text, each after the first with what differs from it marked: [-gone-] {+come+}.

    One that has little of the first stands as it is: marked, it would be read below all of the first.
    """
    texts = [answer.text if answer is not None and answer.text is not None else None for answer in row.answers]
    first = next((text for text in texts if text is not None), None)
    found = []
    begun = False
    for text, answer in zip(texts, row.answers, strict=True):
        if text is None or first is None:
            found.append(f"({answer.error})" if answer is not None and answer.error else "(no answer)")
        elif not begun:
            found.append(text)
            begun = True
        else:
            found.append(text if text == first else marked(spans_if_alike(first, text)))
    return found


def request_of(prompt: str) -> Request:
    """One prompt to compare models by; raises ComparisonError for an empty one."""
    if not prompt.strip():
        raise ComparisonError("There is nothing to ask")
    return Request(prompt)
