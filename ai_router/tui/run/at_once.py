"""How many are answered at once: changed by keys, and told where the run or another process changes it."""

from __future__ import annotations

from collections.abc import Callable

from ai_router.lanes import OWN_LIMITS
from ai_router.tui.widgets.text import one_line
from batch.running.progress import RunState, Snapshot

UNKNOWN = "How many are answered at once is known when the model is loaded"
MOST = "{most:,} at once is the most for this server: its concurrency in models.yaml"
GROWS = "How many the server bears is found out, {found:,} now: it goes up by itself"
FORGET_SECONDS = 1.5  # a wish for another concurrency counts as heard after this
SETTLED_SECONDS = 1.5  # a limit that stands still for so long is told
PATIENCE_SECONDS = 10.0  # one that never does is told after so long
FOUND_STEP = 0.25  # of what was told: a server's limit that is found out goes up and down by less all the time


def limits_of(snapshot: Snapshot) -> dict[str, tuple[int, bool]]:
    """Most in flight by lane ("" where there is one), and whether it was found out rather than set."""
    if len(snapshot.lanes) > 1:
        return {lane.name: (lane.concurrency, True) for lane in snapshot.lanes if lane.concurrency is not None}
    if snapshot.limit is not None:
        return {"": (snapshot.limit, False)}
    found = snapshot.engine_about.get("concurrency")
    return {"": (found, True)} if isinstance(found, int) else {}


class AtOnce:
    """Says `8 → 4 at once` once for each change, whoever made it; `say` shows it."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._wanted: tuple[int, float] = (0, float("-inf"))  # what a key asked for last, and when
        self._told: dict[str, int] = {}
        self._seen: dict[str, tuple[int, float, float]] = {}  # of what is to be told: value, since when, first other

    def ask(self, sign: int, snapshot: Snapshot, now: float) -> int | None:
        """One more or one fewer, in bigger steps where there are many; the limit that is to be.

        None, which is said, before the engine has taken anything: one more than nothing would be a limit of one; of
        several lanes, as what was given out waits in them for the most part; and of more than a server is given.
        """
        if len(snapshot.lanes) > 1:
            self._say(OWN_LIMITS)
            return None
        # Another process answers only four times a second: count from what was asked for, not from what is shown.
        asked, when = self._wanted
        current = asked if now - when < FORGET_SECONDS else snapshot.concurrency
        if not current:
            self._say(UNKNOWN)
            return None
        wanted = max(1, current + sign * max(1, (current - (sign < 0)) // 16))
        if sign > 0 and (why := _no_more(snapshot, wanted)):
            self._say(why)
            return None
        self._wanted = (wanted, now)
        if wanted != current:
            self._tell("", current, wanted)
        return wanted

    def look(self, snapshot: Snapshot, now: float) -> None:
        """Tell what has changed without a key, once it has settled."""
        if snapshot.state not in (RunState.RUNNING, RunState.PAUSED):
            return
        for lane, (limit, found) in limits_of(snapshot).items():
            told = self._told.setdefault(lane, limit)
            if abs(limit - told) < max(1, told * FOUND_STEP if found else 1):
                self._seen.pop(lane, None)
                continue
            value, since, first = self._seen.get(lane, (limit, now, now))
            since = since if value == limit else now
            self._seen[lane] = limit, since, first
            if now - since >= SETTLED_SECONDS or now - first >= PATIENCE_SECONDS:
                self._tell(lane, told, limit)

    def _tell(self, lane: str, before: int, now: int) -> None:
        self._told[lane] = now
        self._seen.pop(lane, None)
        self._say(f"{one_line(lane, 40)}: {before:,} → {now:,} at once" if lane else f"{before:,} → {now:,} at once")


def _no_more(snapshot: Snapshot, wanted: int) -> str:
    """Why so many would be no more than there are: what the engine itself holds to is less."""
    found, most = (snapshot.engine_about.get(key) for key in ("concurrency", "most"))
    if isinstance(most, int) and wanted > most:
        return MOST.format(most=most)
    if isinstance(found, int) and (snapshot.limit is None or snapshot.limit > found):
        return GROWS.format(found=found)
    return ""
