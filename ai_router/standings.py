"""How a job's batches with providers stood when this program last looked: counts where they have them, age, and end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from batch.engines.desk import Submission


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands. Times are seconds since the epoch; counts are None where the provider has none yet."""

    key: str
    name: str  # the provider's, else ours
    provider: str
    count: int
    word: str  # the provider's word for its state, or what keeps us from knowing it
    over: bool = False
    done: int | None = None
    failed: int | None = None
    at: float | None = None  # when it was handed over
    expires: float | None = None
    unclear: str = ""  # what a person has to settle

    @property
    def age(self) -> str:
        """Since it was handed over."""
        return hours(time.time() - self.at) if self.at is not None else "—"

    @property
    def until(self) -> str:
        """Until its provider gives it up; "" where that is not known or does not matter any more."""
        return "" if self.expires is None or self.over else hours(self.expires - time.time())

    @property
    def counts(self) -> str:
        """`1,200 done, 3 failed`, or ""."""
        if self.done is None:
            return ""
        return f"{self.done:,} done" + (f", {self.failed:,} failed" if self.failed else "")

    @property
    def text(self) -> str:
        """All of it in a line."""
        parts = [self.name, self.provider, f"{self.count:,} requests", self.unclear or self.word]
        parts += [self.counts, f"age {self.age}", f"expires in {self.until}" if self.until else ""]
        return "  ".join(part for part in parts if part)


def hours(seconds: float) -> str:
    """`5 min`, `2 h 05 min`."""
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def standing_of(submission: Submission) -> Standing:
    """As it stood when this program last looked."""
    details = submission.details
    made = submission.remote_id is not None
    unknown = "not known whether it was made; ai-router collect looks for it"
    return Standing(
        submission.key,
        submission.remote_id or submission.key,
        str(details.get("provider") or ""),
        submission.count,
        str(details.get("state") or "handed over") if made else unknown,
        done=details.get("done"),
        failed=details.get("failed"),
        at=details.get("at"),
        expires=details.get("expires"),
        unclear=str(details.get("unclear") or ""),
    )


def told(standings: Sequence[Standing]) -> tuple[str, str, str]:
    """Of all of a job's batches: what is away and how far it is, how old and until when, and what comes next.

    What comes next is half a sentence that `next_verb` of `ai-router` completes. Counts are said only where every batch
    has them: some providers count when all is over.
    """
    count, batches = sum(s.count for s in standings), len(standings)
    whose = ", ".join(dict.fromkeys(s.provider for s in standings if s.provider)) or "a provider"
    away = f"{count:,} with {whose} in {batches} batch{'es' * (batches != 1)}"
    if standings and all(s.done is not None for s in standings):
        away += f", {sum(s.done or 0 for s in standings):,} done there"
    ages = [s.at for s in standings if s.at is not None]
    times = f"age {hours(time.time() - min(ages))}" if ages else ""
    ends = [s.expires for s in standings if s.expires is not None]
    if ends:
        times += f"{', ' * bool(times)}the first expires in {hours(min(ends) - time.time())}"
    settle = next_verb(standings) == "reconcile"
    return away, times, "a person has to say what became of it" if settle else "collect what is there"


def next_verb(standings: Sequence[Standing]) -> str:
    """The command that such a job waits for: `collect`, or `reconcile` where nothing else helps."""
    return "reconcile" if any(s.unclear for s in standings) else "collect"
