"""`stats`, `label`, `restore`: what all jobs add up to, and what is said of one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Program

from ai_router.stats import CACHE_NAME, read_stats
from batch.checkpoint import CheckpointStore
from batch.checkpoint.about import About, write_about
from batch.checkpoint.summary import EDGES, Sums
from batch.job import BatchResult
from batch.processor import BatchProcessor


def fill(folder: Path) -> list[Path]:
    """Two models, three jobs, failures of two kinds, tries that were no results."""
    processor, paths = BatchProcessor(folder), []
    for number, model in enumerate(("one", "two", "one")):
        job = processor.create_job(model, [f"prompt {at}" for at in range(20)])
        results = [
            BatchResult(at, f"prompt {at}", "x", 10 + at, 3 * at, 0.1 * (at + 1), at % 5 != 0, None if at % 5 else "no",
                        None if at % 5 else ("transient", "permanent")[at % 2], model=("one", None)[at % 2],
                        cost=None if number == 2 and at == 7 else at * 1000)
            for at in range(15 + number)
        ]  # fmt: skip
        processor.save_checkpoint(job, results)
        assert job.checkpoint_file is not None
        paths.append(job.checkpoint_file)
    return paths


def test_the_sums_are_those_of_the_rows(tmp_path: Path) -> None:
    paths = fill(tmp_path)
    write_about(paths[1], About(tags=("x", "y")))
    rows, models, failures = [], Counter[str](), Counter[str]()
    for path in paths:
        with CheckpointStore(path) as store:
            job = store.job()
            for row in store.iter_results():
                rows.append(row)
                if row.success:
                    models[row.model or job.model_id] += 1
                else:
                    failures[row.error_class or "permanent"] += 1
    for again in range(2):  # the second time from what was kept
        stats = read_stats(tmp_path)
        facts = stats.facts()
        assert facts["jobs"] == 3 and facts["prompts"] == 60
        assert facts["answered"] == sum(row.success for row in rows) == sum(models.values())
        assert facts["failed"] == sum(not row.success for row in rows)
        assert facts["tokens_input"] == sum(row.tokens_input for row in rows)
        assert facts["tokens_output"] == sum(row.tokens_output for row in rows)
        assert stats.total.sums.cost == sum(row.cost or 0 for row in rows) and facts["cost_unknown"] == 1
        assert {name: part.sums.answered for name, part in stats.models.items()} == models
        assert stats.failures == failures
        assert facts["mean_seconds"] == pytest.approx(
            sum(row.duration for row in rows if row.success) / facts["answered"], abs=1e-4
        )
        assert {name: part.jobs for name, part in stats.tags.items()} == {"(no tag)": 2, "x": 1, "y": 1}
        assert (tmp_path / CACHE_NAME).exists(), again
    assert read_stats(tmp_path, tag="x").total.jobs == 1
    assert read_stats(tmp_path, since="9999-01-01").total.jobs == 0


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 1, "jobs": 3}', b'{"format": 1, "jobs": {"a": 1}}'])
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, data: bytes) -> None:
    (path, *_) = fill(tmp_path)
    (tmp_path / CACHE_NAME).write_bytes(data.replace(b'"a"', json.dumps(path.name).encode()))
    assert read_stats(tmp_path).total.jobs == 3


@given(st.lists(st.floats(0.0, EDGES[-1]), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_is_within_a_bin_of_the_true_one(durations: list[float], fraction: float) -> None:
    sums = Sums()
    for value in durations:
        sums.latency[next(place for place, edge in enumerate(EDGES) if value <= edge)] += 1
    true = sorted(durations)[max(0, -int(-fraction * len(durations) // 1) - 1)]
    found = sums.percentile(fraction)
    assert found is not None
    place = next(place for place, edge in enumerate(EDGES) if true <= edge)
    assert (EDGES[place - 1] if place else 0.0) <= found <= EDGES[place] + 1e-9


def test_stats_label_and_restore_as_a_person_uses_them(program: Program) -> None:
    assert program("stats") == 0 and "no such jobs" in program.err
    assert program("run", program.prompts("one", "fail x")) == 1
    job = program.job()
    assert program("label", job.job_id, "--name", "first try", "--tag", "b", "--tag", "a b", "--note", "n") == 0
    assert json.loads(program.out) == {"name": "first try", "tags": ["a", "b"], "note": "n"}
    assert program("label", job.job_id, "--untag", "a", "--note", "") == 0
    assert json.loads(program.out) == {"name": "first try", "tags": ["b"], "note": ""}
    assert program("jobs") == 0 and "first try #b" in program.out
    assert program("jobs", "--tag", "c", "--json") == 0 and json.loads(program.out) == []
    assert program("stats", "--json") == 0
    facts = json.loads(program.out)
    assert (facts["jobs"], facts["answered"], facts["failed"]) == (1, 1, 1) and set(facts["tags"]) == {"b"}
    assert program("stats", "--days", "7") == 0
    assert all(word in program.out for word in ("MODEL", "DAY", "TAG", "FAILURE", "all"))
    assert program("delete", job.job_id, "--trash") == 0 and "restore" in program.err
    assert program("jobs") == 0 and program.out == ""
    assert program("restore") == 0 and job.job_id in program.err
    assert program("restore", job.job_id) == 0
    assert program("jobs", "--json") == 0 and json.loads(program.out)[0]["name"] == "first try"
