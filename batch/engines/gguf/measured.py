"""How quick the engines were with a GGUF file on this machine: what `models test` found, for its line and the choice.

Kept beside what trials found, under a name made of the file (place, size, time of change) and the machine.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from batch.engines.torch import verdicts

CLEARLY = 1.2  # times as quick: less may be who else was busy on the machine


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine did: tokens a second with `together` answers at once, in a precision ("" where it names none)."""

    rate: float
    precision: str = ""
    together: int = 0  # 0 where it was not kept


def find(file: Path) -> dict[str, Measured]:
    """What is remembered of a file, by engine."""
    found = {}
    for engine, said in verdicts.read(_name(file)).items():
        said = said if isinstance(said, dict) else {}
        rate, precision, together = said.get("rate"), said.get("precision"), said.get("together", 0)
        if isinstance(rate, float | int) and 0 < rate < 1e9 and isinstance(precision, str) and type(together) is int:
            found[engine] = Measured(float(rate), precision, together)
    return found


def keep(file: Path, engine: str, rate: float, precision: str = "", together: int = 0) -> None:
    """Remember what an engine did with a file, where that can be done."""
    name = _name(file)
    said = {"rate": round(rate, 1), "precision": precision, "together": together}
    verdicts.write(name, {**verdicts.read(name), engine: said})


def faster(file: Path) -> str:
    """The engine that was clearly the quicker one of those measured; "" where only one was, or none was clearly.

    Rates with another number of answers at once say nothing of each other.
    """
    by_rate = sorted(find(file).items(), key=lambda one: -one[1].rate)
    if (
        len(by_rate) < 2
        or len({one.together for _, one in by_rate}) > 1
        or by_rate[0][1].rate < CLEARLY * by_rate[1][1].rate
    ):
        return ""
    return by_rate[0][0]


def _name(file: Path) -> str:
    try:
        place, facts = file.resolve(), file.stat()
    except OSError:
        return ""
    said = repr((str(place), facts.st_size, facts.st_mtime_ns, platform.node()))
    return f"measured-{hashlib.sha256(said.encode()).hexdigest()[:32]}"
