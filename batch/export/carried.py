"""The columns of a table beyond those that every table has: who answered, at what price, and what the input carried."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from batch.job import BatchJob, BatchResult
from batch.prices import NANOS


@dataclass(frozen=True, slots=True)
class Carried:
    """Which columns follow. `extra` are ours; `names` are the input's, each with what it is called in the table."""

    extra: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def of(self, result: BatchResult) -> Iterator[str]:
        """The cells of a row."""
        for name in self.extra:
            if name == "model":
                yield result.model or ""
            elif name == "why":
                yield result.meant_why or ""
            else:
                yield "" if result.cost is None else f"{result.cost / NANOS:.9f}".rstrip("0").rstrip(".")
        columns = result.columns or {}
        for name in self.names:
            value = columns.get(name)
            yield value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def carried_columns(job: BatchJob, taken: Sequence[str]) -> Carried:
    """What a job's table has beside the columns that are `taken`; read from its store, nothing where it has none.

    A carried column whose name is taken gets `_input` behind it.
    """
    if job.checkpoint_file is None or not job.checkpoint_file.is_file() or job.checkpoint_file.suffix == ".json":
        return Carried()
    from batch.checkpoint import CheckpointStore

    with CheckpointStore(job.checkpoint_file, "snapshot") as store:
        by_others = any(name not in (None, job.model_id) for name in store.answered_by())
        names = store.carried_names()
        routed = store.has_reasons()
    extra = tuple(name for name, there in (("model", by_others), ("why", routed), ("cost", bool(job.cost))) if there)
    held = {*taken, *extra}
    return Carried(extra, {name: f"{name}_input" if name in held else name for name in names})
