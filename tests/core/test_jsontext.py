"""JSON as it is kept: what is written is read back, numbers exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore
from batch.items import Request
from batch.jsontext import clean, dump_json, load_json

TEXTS = st.text(st.characters(categories=("L", "N", "P", "S", "Z", "Cc", "Cs")), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats()
    | st.sampled_from(
        [2**63, 2**64 - 1, 2**64, -(2**63) - 1, math.nan, math.inf, -math.inf, 1e308, -0.0, "null", '": ']
    )
    | TEXTS
)
KEYS = TEXTS | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4), max_leaves=12)


def expected(value: Any) -> Any:
    """What comes back, by the standard library's rules for keys and UTF-8's for texts."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [expected(v) for v in value]
    if isinstance(value, dict):
        names = {k: k if isinstance(k, str) else json.loads(json.dumps({k: 0}).split(":")[0][1:]) for k in value}
        return {clean(names[k]): expected(v) for k, v in value.items()}
    return value


def same(one: Any, other: Any) -> bool:
    """Equal in value and kind; NaN is itself."""
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_round_trip(value: dict[Any, Any]) -> None:
    text = dump_json(value)
    assert text is not None
    text.encode()
    assert same(load_json(text), expected(value))


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_format_1_kept_is_read_exactly_where_it_wrote_by_the_standard_library(value: dict[Any, Any]) -> None:
    kept = clean(json.dumps(expected(value), ensure_ascii=False, default=str))
    assert same(load_json(kept), expected(value))


@given(st.dictionaries(TEXTS, VALUES, max_size=3), st.dictionaries(TEXTS, VALUES, max_size=3))
def test_through_a_job(folders: Callable[[], Path], extra: dict[str, Any], columns: dict[str, Any]) -> None:
    job = BatchProcessor(folders()).create_job("m", [Request("p", extra, columns=columns)])
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        (found,) = store.requests([0])
        assert same(found[1].extra or {}, expected(extra)) and same(found[1].columns or {}, expected(columns))
        assert same(store.result(0).columns or {}, expected(columns))


def test_what_holds_itself_or_has_no_end_is_refused() -> None:
    loop: dict[str, Any] = {"surrogate": "\ud800"}
    loop["loop"] = loop
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, {"deep": deep}, {"digits": 10**5000}):
        with pytest.raises(ValueError, match=r"nested|digits|recursion"):
            dump_json(value)
    for text in ("{", ' {"a": nope}', '{"a": ' + "[" * 100_000):
        with pytest.raises(ValueError):
            load_json(text)
