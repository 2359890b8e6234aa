"""Service levels of a job: how they are written, and whether they were met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.job import BatchJob
from batch.jobfile import JobFileError, load_jobfile
from batch.options import OptionError, RunOptions, parse_option
from batch.processor import BatchProcessor
from batch.running.live import Watch
from batch.running.run import Run
from batch.slo import JOB_TARGETS, ServiceLevel, job_levels, parse_slo, targets_of
from tests.servers.engines import ScriptedEngine

PERFORMANCE = {"answers": 4, "tokens_output": 100, "p50_seconds": 0.2, "p95_seconds": 0.43, "p99_seconds": 0.5}


def test_met_and_missed() -> None:
    words = ["p95_ms=500", "p50_ms=100", "tokens_per_second=40", "items_per_second=3"]
    levels = job_levels(words, PERFORMANCE, elapsed=2.0)
    assert [(s.name, s.measured, s.met) for s in levels] == [
        ("p95_ms", 430.0, True),
        ("p50_ms", 200.0, False),
        ("tokens_per_second", 50.0, True),
        ("items_per_second", 2.0, False),
    ]
    assert str(levels[0]) == "p95_ms 430 of 500: met"
    assert str(levels[3]) == "items_per_second 2 of 3: missed"
    assert str(ServiceLevel.of("p95_ms", 500, 123456.7)) == "p95_ms 123,457 of 500: missed"


def test_what_could_not_be_measured_is_missed() -> None:
    nothing = {"answers": 0, "tokens_output": 0, "p50_seconds": 0.0, "p95_seconds": 0.0, "p99_seconds": 0.0}
    for level in job_levels([f"{name}=5" for name in JOB_TARGETS], nothing, elapsed=0.0):
        assert level.measured is None and not level.met and "—" in str(level)


@pytest.mark.parametrize(
    "value",
    ["p95_ms=500,p50_ms=20", ["p95_ms=500", "p50_ms = 20"], {"p95_ms": 500, "p50_ms": 20.0}, ["p95_ms=500,p50_ms=20"]],
)
def test_ways_of_writing_them(value: Any) -> None:
    assert parse_option(RunOptions, "slo", value) == ["p95_ms=500", "p50_ms=20"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["p96_ms=1"], "unknown target 'p96_ms'; known: p50_ms"),
        (["p95_ms"], "NAME=NUMBER"),
        (["p95_ms=fast"], "'fast' is not a number"),
        (["p95_ms=0"], "not a number above 0"),
        (["p95_ms=nan"], "not a number above 0"),
        (["queue_p95_ms=1"], "unknown target"),
    ],
)
def test_what_is_no_target(value: list[str], words: str) -> None:
    with pytest.raises(OptionError, match=f"slo: .*{words}"):
        parse_option(RunOptions, "slo", value)


@given(st.dictionaries(st.sampled_from(JOB_TARGETS), st.floats(0.001, 1e9).map(lambda x: float(f"{x:.10g}"))))
def test_targets_come_back_as_they_were(targets: dict[str, float]) -> None:
    assert targets_of(parse_slo(targets)) == targets
    assert parse_slo(parse_slo(targets)) == parse_slo(targets)


def make(processor: BatchProcessor, count: int, slo: list[str]) -> BatchJob:
    return processor.create_job("m", [f"prompt {i}" for i in range(count)], config={"run": {"slo": slo}})


def test_a_run_reports_them_and_so_does_its_checkpoint(tmp_path: Path) -> None:
    slo = ["p95_ms=60000", "p50_ms=0.000001", "items_per_second=0.001"]
    job = make(BatchProcessor(tmp_path), 20, slo)
    run = Run(job, ScriptedEngine(), RunOptions(slo=slo))
    assert {s.measured for s in run.snapshot().service_levels} == {None}  # before it has begun
    assert run.start().wait(90)
    levels = run.snapshot().service_levels
    assert [(s.name, s.met) for s in levels] == [("p95_ms", True), ("p50_ms", False), ("items_per_second", True)]
    assert job.checkpoint_file is not None
    stored = Watch(job.checkpoint_file).snapshot().service_levels
    assert [(s.name, s.met) for s in stored] == [(s.name, s.met) for s in levels]
    assert stored[0].measured == levels[0].measured


def test_in_a_batch_template(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("source: prompts.txt\nrun:\n  slo: {p95_ms: 500, tokens_per_second: 20}\n  precision: int8\n")
    jobfile = load_jobfile(file)
    assert jobfile.run.slo == ["p95_ms=500", "tokens_per_second=20"] and jobfile.run.precision == "int8"
    file.write_text("run:\n  slo: [p95_ms=500]\n")
    assert load_jobfile(file).run.slo == ["p95_ms=500"]
    file.write_text("run:\n  slo: {p95: 500}\n")
    with pytest.raises(JobFileError, match=r"run\.slo: unknown target"):
        load_jobfile(file)


def test_a_schema_in_a_batch_template(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    (tmp_path / "a.json").write_text('{"type": "object", "properties": {"a": {"type": "integer"}}}')
    file = tmp_path / "job.yaml"
    for text in (
        "json_schema: a.json",
        "json-schema: a.json",
        "json_schema:\n    type: object\n    properties: {a: {type: integer}}",
    ):
        file.write_text(f"sampling:\n  {text}\n")
        jobfile = load_jobfile(file)
        assert jobfile.sampling.json_schema == schema and jobfile.as_dict()["sampling"] == {"json_schema": schema}
    file.write_text("sampling:\n  json_schema: b.json\n")
    with pytest.raises(JobFileError, match="cannot read"):
        load_jobfile(file)


def test_no_engine_is_made_where_nothing_is_left(tmp_path: Path) -> None:
    job = make(BatchProcessor(tmp_path), 3, [])
    made: list[ScriptedEngine] = []

    def engine() -> ScriptedEngine:
        made.append(ScriptedEngine())
        return made[-1]

    run = Run(job, engine)
    assert run.start().wait(90) and run.error is None and len(made) == 1 and job.completed == 3
    assert made[0].closed
    again = Run(job, engine)
    assert again.start().wait(90) and again.error is None and again.engine is None
    assert len(made) == 1 and again.snapshot().state.value == "finished"


def test_an_engine_that_cannot_be_made_leaves_the_job_free(tmp_path: Path) -> None:
    from batch.errors import FatalError

    job = make(BatchProcessor(tmp_path), 2, [])

    def engine() -> ScriptedEngine:
        raise FatalError("no such model")

    with pytest.raises(FatalError, match="no such model"):
        Run(job, engine).start()
    assert Run(job, ScriptedEngine()).start().wait(90) and job.completed == 2
