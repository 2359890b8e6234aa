"""A job as one HTML page, for who was not there: figures, plots, failures, prompts and answers. Nothing is loaded from
anywhere, nothing in it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from batch.evaluation.forms.curves import curve
from batch.evaluation.forms.style import CSS
from batch.evaluation.forms.svg import Bar, bars, columns
from batch.evaluation.forms.words import escaped, percent
from batch.export.picture import Picture, latency_bins, picture_of
from batch.export.records import plain
from batch.job import BatchJob, BatchResult
from batch.prices import dollars
from batch.running.progress import format_duration
from batch.thinking import thinking_apart

if TYPE_CHECKING:
    from batch.export.formats import ExportOptions

MOST_ROWS = 5_000  # that are shown: a browser must be able to open it
MOST_FAILED = 1_000  # shown of the failed ones behind those
_HEAD = 140  # characters of a prompt in its line
_OPEN_TO = 30  # rows that stand open
_STYLE = """
summary .n { float: right; font-weight: 400; font-size: 13px; color: var(--dim); padding-left: 12px; }
summary .text { overflow-wrap: anywhere; font-weight: 400; }
.failed summary .sign { color: var(--bad); }
.thought summary { color: var(--dim); font-size: 13px; }
.label { color: var(--dim); font-size: 13px; margin: 10px 0 2px; }
.label:first-child { margin-top: 0; }
svg .line { stroke: var(--bar); }
ul.t { margin: 8px 0 0; padding-left: 20px; font-size: 14px; }
"""


def page_pieces(job: BatchJob, results: Iterable[BatchResult], options: ExportOptions) -> Iterator[str]:
    """The page in pieces: its head with the plots, a piece a result, its end. The rest of very many rows is counted."""
    look = picture_of(job.checkpoint_file) if job.checkpoint_file is not None else None
    yield _head(job, look)
    rest, failed = 0, 0
    for number, result in enumerate(results, 1):
        beyond = number > MOST_ROWS
        failed += beyond and not result.success
        if beyond and (result.success or failed > MOST_FAILED):
            rest += 1
            yield ""
        else:
            yield _row(job, result, open_=number <= _OPEN_TO)
    more = f"and {rest:,} more results; the other formats of export hold all of them"
    yield (f'<p class="dim">{more}</p>' if rest else "") + "\n</main>\n</body>\n</html>\n"


def _head(job: BatchJob, look: Picture | None) -> str:
    name = _name(job)
    who = f"{len(job.models):,} models" if len(job.models) > 1 else job.model_id
    about = [who, f"job {job.job_id}", job.created_at.replace("T", " ").partition(".")[0]]
    body = [
        f"<h1>{escaped(name)}</h1>",
        f'<p class="dim">{escaped(" · ".join(filter(None, about)))}</p>',
        _tiles(job, look),
        *(_plots(look) if look else ()),
        "<h2>Prompts and answers</h2>",
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(name)} · report</title>\n<style>{CSS}{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n"
    )


def _name(job: BatchJob) -> str:
    source = str(job.config.get("source", "")).replace("\\", "/").rstrip("/").rpartition("/")[2]
    if job.checkpoint_file is not None:
        from batch.checkpoint.about import read_about

        source = read_about(job.checkpoint_file).name or source
    return source or f"job {job.job_id}"


def _tiles(job: BatchJob, look: Picture | None) -> str:
    left = job.total_prompts - job.processed
    share = f"{percent(job.completed / job.total_prompts)} % of {job.total_prompts:,}" if job.total_prompts else ""
    tiles = [("Answered", f"{job.completed:,}", share)]
    if job.failed:
        tiles.append(("Failed", f"{job.failed:,}", ""))
    if left > 0:
        tiles.append(("Still without an answer", f"{left:,}", ""))
    if job.tokens_input or job.tokens_output:
        tiles.append(("Tokens", f"{job.tokens_output:,}", f"out; {job.tokens_input:,} in"))
    if job.cost:
        tiles.append(("Cost", dollars(job.cost), f"and {job.cost_unknown:,} unknown" if job.cost_unknown else ""))
    if job.elapsed:
        rate = f"{job.processed / job.elapsed:,.2f} a second" if job.processed else ""
        tiles.append(("Time", format_duration(job.elapsed), rate))
    if look is not None and (middle := look.total.percentile(0.5)) is not None:
        tiles.append(("An answer takes", f"{middle:,.2f} s", f"p95 {look.total.percentile(0.95) or 0:,.2f} s"))
    made = "".join(
        f'<div class="tile"><span>{escaped(title)}</span><b>{escaped(value)}</b><span>{escaped(note)}</span></div>'
        for title, value, note in tiles
    )
    return f'<div class="tiles">{made}</div>'


def _plots(look: Picture) -> Iterator[str]:
    yield from _course(look)
    if look.categories:
        rows = [
            Bar(c.name, c.right / c.n, c.low, c.high, f"{percent(c.right / c.n)} % of {c.n:,}") for c in look.categories
        ]
        yield from ("<h2>Right by category</h2>", _card(bars(rows, "Right answers by category, in percent")))
    if found := latency_bins(look.total.latency):
        answered = sum(number for _, number in found)
        rows = [Bar(name, number / answered, None, None, f"{number:,}") for name, number in found]
        plot = columns(rows, "Answers by the seconds they took, in percent of all", "seconds an answer took")
        yield from ("<h2>How long answers took</h2>", _card(plot))
    if len(shown := [(name, sums) for name, sums in look.summary.models.items() if sums.answered]) > 1:
        total = max(1, sum(sums.answered for _, sums in shown))
        rows = [
            Bar(name, s.answered / total, None, None, f"{s.answered:,}" + (f" · {dollars(s.cost)}" if s.cost else ""))
            for name, s in shown
        ]
        yield from ("<h2>Who answered</h2>", _card(bars(rows, "Answers by model, in percent of all")))
    if look.errors:
        most = max(1, look.job.failed)
        rows = [Bar(_message(kind, said), n / most, None, None, f"{n:,}") for kind, said, n in look.errors]
        said = "".join(f"<li>{n:,} × {escaped(plain(_message(kind, text)))}</li>" for kind, text, n in look.errors)
        plot = bars(rows, "Failures by kind and message, in percent of all")
        yield from ("<h2>What failed</h2>", _card(f'{plot}<ul class="t">{said}</ul>'))


def _course(look: Picture) -> Iterator[str]:
    pace = look.pace
    if pace is None or len(pace.points) < 2:
        return
    ends = ("0", format_duration(pace.width * len(pace.points)))
    plot = curve(pace.rates, "Items a second over the time of work", ends, _short, "time of work")
    yield from ("<h2>Items a second</h2>", _card(plot))
    tokens = pace.token_rates
    if any(tokens):
        plot = curve(tokens, "Tokens a second over the time of work", ends, _short, "time of work")
        yield from ("<h2>Tokens a second</h2>", _card(plot))
    if any(pace.spent):
        spent = [nanos / 1e9 for nanos in pace.spent]
        plot = curve(spent, "Cost so far over the time of work", ends, _money, "time of work")
        yield from ("<h2>Cost so far</h2>", _card(plot))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _money(value: float) -> str:
    return dollars(round(value * 1e9))


def _message(kind: str, said: str) -> str:
    return f"{kind}: {said}" if said else kind


def _row(job: BatchJob, result: BatchResult, *, open_: bool) -> str:
    facts: Sequence[str] = [
        result.model if result.model not in (None, job.model_id) else "",
        f"{result.tokens_output:,} tokens" if result.tokens_output else "",
        f"{result.duration:,.2f} s" if result.duration else "",
        dollars(result.cost) if result.cost else "",
        f"{result.attempts} tries" if result.attempts > 1 else "",
    ]
    prompt = plain(result.prompt)
    head = re.sub(r"\s+", " ", prompt[: 2 * _HEAD]).strip()
    head = head if len(head) <= _HEAD else f"{head[:_HEAD]}…"
    sign, kind = ("✓", "done") if result.success else ("✗", "failed")
    parts = [] if result.success else [_text(f"Failed: {result.error_class or ''}".rstrip(": "), result.error_message)]
    parts.append(_text("Prompt", prompt))
    thought, answer = thinking_apart(result.response_text, result.extra)
    if thought:
        parts.append(f'<details class="thought"><summary>Thinking, {len(thought):,} characters</summary>'
                     f'<div class="t" dir="auto">{escaped(plain(thought))}</div></details>')  # fmt: skip
    if answer:
        parts.append(_text("Answer" if result.success else "What had come", answer))
    return (
        f'<details class="{kind}"{" open" if open_ else ""}><summary><span class="n">'
        f'{escaped(" · ".join(filter(None, facts)))}</span><span class="sign">{sign}</span>'
        f'<span class="dim"># {result.prompt_index + 1:,}</span> <span class="text" dir="auto">{escaped(head)}</span>'
        f'</summary><div class="card">{"".join(parts)}</div></details>\n'
    )


def _text(label: str, text: str | None) -> str:
    return f'<p class="label">{escaped(label)}</p><div class="t" dir="auto">{escaped(plain(text))}</div>'


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'
