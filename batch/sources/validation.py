"""What a source holds and what is wrong with it, found in one pass before the first token is paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from batch.errors import SourceError
from batch.items import Request
from batch.sources.entries import is_empty, other_parts
from batch.sources.named import NamedModels
from batch.sources.repeats import Repeats
from batch.sources.source import Source

ERROR = "error"
WARNING = "warning"
_PROGRESS_EVERY = 4096


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of trouble: an error keeps the job from starting, a warning does not. `text` is one sentence."""

    severity: str
    code: (
        str  # unreadable, empty_source, malformed, empty, duplicate, duplicate_id, too_long, replaced, not_passed_on, …
    )
    count: int
    text: str


@dataclass(slots=True)
class Validation:
    """What one pass over a source found. Positions count from 1 in `unit`s; lengths are in characters."""

    name: str
    format: str
    encoding: str
    bytes: int
    unit: str
    total: int = 0  # prompts that will run
    empty: int = 0
    empty_at: list[int] = field(default_factory=list)
    malformed: int = 0
    malformed_at: list[tuple[int, str]] = field(default_factory=list)
    duplicates: int = 0  # prompts that repeat an earlier one
    duplicate_pairs: list[tuple[int, int]] = field(default_factory=list)  # (first, repeated)
    duplicate_ids: int = 0
    duplicate_ids_at: list[tuple[int, int]] = field(default_factory=list)
    not_compared: str | None = None  # why nobody looked for repeated prompts, or ids
    too_long: int = 0
    too_long_at: list[tuple[int, int]] = field(default_factory=list)  # (position, tokens)
    context: int | None = None
    tokens: int | None = None  # of all prompts, with room for a template in each; None where none were counted
    not_passed_on: int = 0  # OpenAI batch lines that ask for more than is mapped
    not_passed_on_names: list[str] = field(default_factory=list)
    known_answers: int = 0  # chats that end in the answer, which is not sent
    openai_batch: int = 0  # lines of the OpenAI batch form
    replaced_characters: int = 0
    named: NamedModels = field(default_factory=NamedModels)  # by items, and not the one that answers the rest
    not_text: int = 0  # chats with parts that are no text
    not_text_kinds: list[str] = field(default_factory=list)
    without_system: int = 0  # completions, which have no place for a system prompt
    without_text: int = 0  # rows of a table that are not sent
    comments: int = 0
    blank: int = 0
    longest: int = 0
    longest_at: int = 0
    mean_length: float = 0.0
    mean_bytes: float = 0.0  # of a prompt in UTF-8
    skip_invalid: bool = False
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the source can run as it is."""
        return not any(problem.severity == ERROR for problem in self.problems)

    def lines(self) -> list[str]:
        """The report as plain text, most important first."""
        about = [self.name, self.format, self.encoding, _size(self.bytes)]
        lines = [" · ".join(part for part in about if part)]
        if self.total:
            lines.append(
                f"{_count(self.total, 'prompt')}; longest {self.longest:,} characters "
                f"({self.unit} {self.longest_at:,}), mean {self.mean_length:,.0f}"
            )
        seen = ((self.comments, "comment"), (self.blank, "blank line"), (self.without_text, "row without text"))
        passed = [_passed(n, what) for n, what in seen if n]
        if passed:
            lines.append(f"passed over: {', '.join(passed)}")
        lines += [f"{problem.severity}: {problem.text}" for problem in self.problems]
        return lines


class _Pass:
    """One pass over a source: what is known of the requests so far."""

    def __init__(
        self,
        report: Validation,
        limit: int,
        count_tokens: Callable[[Request], int] | None,
        context: int | None,
        model: str | None,
        system: str | None,
    ) -> None:
        self.report = report
        self.model = model
        self.system = system
        self.limit = limit
        self.count_tokens = count_tokens
        self.context = context
        self.seen = Repeats()
        self.seen_ids = Repeats()
        self.characters = self.bytes = 0
        self.names: set[str] = set()
        self.kinds: set[str] = set()

    def look_at(self, request: Request, position: int) -> None:
        report = self.report
        if is_empty(request):
            report.empty += 1
            if len(report.empty_at) < self.limit:
                report.empty_at.append(position)
            if report.skip_invalid:
                return
        else:
            self.seen.add(*_key(request, position))
        report.total += 1
        length = len(request.text)
        self.characters += length
        self.bytes += length if request.text.isascii() else len(request.text.encode("utf-8", "replace"))
        if length > report.longest or not report.longest_at:
            report.longest, report.longest_at = length, position
        if self.count_tokens:
            tokens = self.count_tokens(request)
            report.tokens = (report.tokens or 0) + tokens
            if self.context is not None and tokens >= self.context:  # nothing is left for an answer
                report.too_long += 1
                if len(report.too_long_at) < self.limit:
                    report.too_long_at.append((position, tokens))
        if request.model and self.model and request.model != self.model:
            report.named.count(request.model)
        if request.extra:
            self._look_at_extra(request, position)

    def finish(self) -> None:
        """What only shows when all has been read."""
        report = self.report
        report.duplicates, report.duplicate_pairs = self.seen.found(self.limit)
        report.duplicate_ids, report.duplicate_ids_at = self.seen_ids.found(self.limit)
        report.not_compared = self.seen.lost or self.seen_ids.lost

    def close(self) -> None:
        """Let go of the keys."""
        self.seen.close()
        self.seen_ids.close()

    def _look_at_extra(self, request: Request, position: int) -> None:
        report = self.report
        extra = request.extra or {}
        if (custom_id := request.custom_id) is not None:
            self.seen_ids.add(custom_id, position)
        report.known_answers += bool(extra.get("known_answer"))
        report.openai_batch += bool(extra.get("openai_batch"))
        if body := extra.get("body"):
            report.not_passed_on += 1
            self.names.update(body)
        if self.system and request.endpoint == "completions":
            report.without_system += 1
        if "messages" in extra and (kinds := other_parts(extra["messages"])):
            report.not_text += 1
            self.kinds |= kinds


def validate(
    source: Source,
    *,
    count_tokens: Callable[[Request], int] | None = None,
    context: int | None = None,
    model: str | None = None,
    answers: Callable[[str], bool] | None = None,
    system: str | None = None,
    limit_examples: int = 5,
    progress: Callable[[int], None] | None = None,
) -> Validation:
    """Read a source once and report on it, in memory that does not grow with it.

    `model` is the one that will answer: items that name another are counted by name; `answers(name)` says of which of
    those the item's own model will answer. `system` is the run's system
    prompt: items that have no place for it are counted.
    `count_tokens` with `context` (tokens) finds prompts that the model cannot take. `progress` is told the number of
    entries read, now and then. A file that cannot be read to its end is a problem in the report, not an exception.
    """
    report = Validation(
        source.name,
        source.format,
        source.encoding,
        source.bytes,
        source.unit,
        context=context,
        skip_invalid=source.skip_invalid,
    )
    work = _Pass(report, limit_examples, count_tokens, context, model, system)
    with closing(work):
        unreadable = _read(source, work, progress)
        work.finish()
    tally = source.tally
    report.comments, report.blank = tally.comments, tally.blank
    report.replaced_characters = tally.replaced_characters
    report.mean_length = work.characters / report.total if report.total else 0.0
    report.mean_bytes = work.bytes / report.total if report.total else 0.0
    report.not_passed_on_names = sorted(work.names)
    report.not_text_kinds = sorted(work.kinds)
    report.without_text = tally.without_text
    report.problems = _problems(report, unreadable, tally.taken_whole)
    for severity, code, count, text in report.named.findings(model, answers or (lambda name: False), report.unit):
        report.problems.append(Problem(severity, code, count, text))
    return report


def _read(source: Source, work: _Pass, progress: Callable[[int], None] | None) -> str | None:
    """Look at all entries; returns why they cannot be read to the end, if so."""
    report, read, unreadable = work.report, 0, None
    try:
        for entry in source.entries():
            read += 1
            if entry.request is not None:
                work.look_at(entry.request, entry.position)
            else:
                report.malformed += 1
                if len(report.malformed_at) < work.limit:
                    report.malformed_at.append((entry.position, entry.error or ""))
            if progress and not read % _PROGRESS_EVERY:
                progress(read)
    except SourceError as error:
        unreadable = str(error)
    if progress:
        progress(read)
    return unreadable


def _problems(report: Validation, unreadable: str | None, taken_whole: bool) -> list[Problem]:
    found: list[Problem] = []

    def add(severity: str, kind: str, count: int, text: str) -> None:
        if count:
            found.append(Problem(severity, kind, count, text))

    if unreadable:
        add(ERROR, "unreadable", 1, unreadable)
    invalid = WARNING if report.skip_invalid else ERROR
    left_out = " and left out" if report.skip_invalid else ""
    if report.malformed:
        where = "; ".join(f"{report.unit} {position}: {text}" for position, text in report.malformed_at)
        more = "; …" if report.malformed > len(report.malformed_at) else ""
        what = _count(report.malformed, report.unit)
        add(
            invalid,
            "malformed",
            report.malformed,
            f"{what} {_are(report.malformed)} malformed{left_out}: {where}{more}",
        )
    at = _places(report.unit, report.empty_at, report.empty)
    add(invalid, "empty", report.empty, f"{_count(report.empty, 'prompt')} {_are(report.empty)} empty{left_out}: {at}")
    if not report.total and not any(problem.severity == ERROR for problem in found):
        add(ERROR, "empty_source", 1, f"There are no prompts in {report.name}")
    if taken_whole:
        add(WARNING, "taken_whole", 1, 'the JSON is neither a list nor has "prompts"; all of it is taken as one prompt')
    _add_warnings(report, add)
    return found


def _add_warnings(report: Validation, add: Callable[[str, str, int, str], None]) -> None:
    tokens = [f"{report.unit} {position} ({count:,} tokens)" for position, count in report.too_long_at]
    at = ", ".join(tokens) + (", …" if report.too_long > len(tokens) else "")
    what = f"{_count(report.too_long, 'prompt')} {_are(report.too_long)} longer than the model's context"
    add(WARNING, "too_long", report.too_long, f"{what} of {report.context or 0:,} tokens and will fail: {at}")
    repeat = "repeats" if report.duplicates == 1 else "repeat"
    pairs = _pairs(report.unit, report.duplicate_pairs, report.duplicates)
    what = _count(report.duplicates, "prompt")
    add(WARNING, "duplicate", report.duplicates, f"{what} {repeat} an earlier one: {pairs}")
    pairs = _pairs(report.unit, report.duplicate_ids_at, report.duplicate_ids)
    what = _count(report.duplicate_ids, "custom_id")
    add(WARNING, "duplicate_id", report.duplicate_ids, f"{what} {_are(report.duplicate_ids)} used before: {pairs}")
    text = f"nobody looked for repeated prompts and ids: {report.not_compared}"
    add(WARNING, "not_compared", int(report.not_compared is not None), text)
    names = ", ".join(report.not_passed_on_names)
    what = _count(report.not_passed_on, "line")
    ask = "asks" if report.not_passed_on == 1 else "ask"
    text = f"{what} {ask} for what not every engine heeds: {names}"
    add(WARNING, "not_passed_on", report.not_passed_on, text)
    ends = "ends" if report.known_answers == 1 else "end"
    text = f"{_count(report.known_answers, 'chat')} {ends} in the answer; it is kept as `reference`, and not sent"
    add(WARNING, "known_answer", report.known_answers, text)
    what = _count(report.not_text, "prompt")
    has = "has" if report.not_text == 1 else "have"
    text = f"{what} {has} parts that are no text, and fail where the engine reads text only: "
    add(WARNING, "not_text", report.not_text, text + ", ".join(report.not_text_kinds))
    text = f"{_count(report.without_system, 'completion')} continue a bare text; the system prompt is not in it"
    add(WARNING, "without_system", report.without_system, text)
    text = f"{_count(report.replaced_characters, 'lone surrogate')} replaced by U+FFFD, for UTF-8 cannot hold them"
    add(WARNING, "replaced", report.replaced_characters, text)


def _key(request: Request, position: int) -> tuple[str, int, bytes]:
    """What makes a prompt another one, as `Repeats.add` takes it."""
    extra = request.extra or {}
    if request.model is None and not ("messages" in extra or "params" in extra):
        return request.text, position, b""
    rest = [request.text, extra.get("messages"), extra.get("params"), request.model, extra.get("body")]
    return repr(rest), position, b"with more"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _passed(number: int, what: str) -> str:
    """The same, where what is counted is the first word: `3 rows without text`."""
    first, space, rest = what.partition(" without")
    return f"{_count(number, first)}{space}{rest}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _places(unit: str, places: Sequence[int], total: int) -> str:
    shown = ", ".join(f"{place:,}" for place in places)
    return f"{unit}{'s' if total > 1 else ''} {shown}{', …' if total > len(places) else ''}"


def _pairs(unit: str, pairs: Sequence[tuple[int, int]], total: int) -> str:
    shown = ", ".join(f"{again:,} as {first:,}" for first, again in pairs)
    return f"{unit}{'s' if total > 1 else ''} {shown}{', …' if total > len(pairs) else ''}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
