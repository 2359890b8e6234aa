"""What servers say about limits in headers and texts: how much is left, and when to come again.

Forms that are known to come: `Retry-After` in seconds or as an HTTP date, `retry-after-ms`; Go-like durations
(`6m0s`, `7.66s`) in `x-ratelimit-reset-*` (OpenAI, Groq), whole seconds there (Azure), RFC 3339 in
`anthropic-ratelimit-*-reset`; "try again in 5.289s" in the message; `retryDelay: "34s"` in Gemini's details. Negative
or absent is unknown (Azure sends -1).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_AGAIN = re.compile(r"(?:try again|retry|wait)[^.\d]{0,40}?((?:\d+(?:\.\d+)?(?:ms|h|m|s)\s?)+)(?![a-z])", re.IGNORECASE)
_SECONDS = re.compile(r"(?:try again|retry|wait)[^.\d]{0,40}?(\d+(?:\.\d+)?) ?sec", re.IGNORECASE)
_DELAY = re.compile(r'"?retry_?delay"?\s*:\s*"(\d+(?:\.\d+)?)s"', re.IGNORECASE)
LONGEST = 24 * 3600.0  # seconds that are believed


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of one kind of limit, and the seconds until it is whole again; None is unknown."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a response speaks of."""

    requests: Allowance = Allowance()
    tokens: Allowance = Allowance()
    retry_after: float | None = None  # seconds


NONE = Limits()


def duration(text: str) -> float | None:
    """Seconds of `6m0s`, `7.66s`, `20ms`, `59`; None where it is none, or negative."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
            return None
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return seconds if 0 <= seconds < float("inf") else None


def moment(text: str, now: float | None = None) -> float | None:
    """Seconds from now to a time: a duration, RFC 3339, or an HTTP date. What is past is 0."""
    seconds = duration(text)
    if seconds is not None:
        return seconds
    when: datetime | None = None
    try:
        when = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - (time.time() if now is None else now))


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds that the server asks to wait, by header or in its error's text; at most a day; None: none named."""
    seconds: float | None = None
    if (milliseconds := headers.get("retry-after-ms")) is not None and (given := duration(milliseconds)) is not None:
        seconds = given / 1000
    if seconds is None and (text := headers.get("retry-after")) is not None:
        seconds = moment(text)
    if seconds is None and body:
        if match := _DELAY.search(body) or _SECONDS.search(body):
            seconds = float(match[1])
        elif match := _AGAIN.search(body):
            seconds = duration(match[1].replace(" ", ""))
    return None if seconds is None else min(seconds, LONGEST)


@lru_cache(1024)
def _of_limits(name: str) -> bool:
    name = name.lower()
    return "ratelimit" in name or name.startswith("retry-after")


def limits(headers: Mapping[str, str], body: str = "") -> Limits:
    """Everything that a response says about limits. Header names are looked up in lower case."""
    if not body and not any(map(_of_limits, headers)):
        return NONE
    return Limits(
        _allowance(headers, "requests"),
        _allowance(headers, "tokens"),
        retry_after(headers, body),
    )


def _allowance(headers: Mapping[str, str], what: str) -> Allowance:
    for limit, remaining, reset in (
        (f"x-ratelimit-limit-{what}", f"x-ratelimit-remaining-{what}", f"x-ratelimit-reset-{what}"),
        (
            f"anthropic-ratelimit-{what}-limit",
            f"anthropic-ratelimit-{what}-remaining",
            f"anthropic-ratelimit-{what}-reset",
        ),
    ):
        if limit in headers or remaining in headers:
            text = headers.get(reset)
            return Allowance(
                _count(headers.get(limit)), _count(headers.get(remaining)), None if text is None else moment(text)
            )
    return Allowance()


def _count(text: str | None) -> int | None:
    try:
        number = int(float(text)) if text is not None else -1
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None
