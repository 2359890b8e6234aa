"""Batch templates: what is saved comes back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.jobfile import ExportOptions, JobFile, JobFileError, SourceOptions, jobfile_from, load_jobfile, save_jobfile
from batch.notify import NotifyOptions
from batch.options import RunOptions, SamplingOptions


def load(tmp_path: Path, text: str | bytes) -> JobFile:
    path = tmp_path / "job.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_jobfile(path)


def test_a_whole_template(tmp_path: Path) -> None:
    jobfile = load(
        tmp_path,
        """
        name: nightly
        model: demo
        source: {path: prompts.csv, column: question}
        sampling: {max-tokens: 100, temperature: 1e-1, stop: [END, "###"]}
        run: {workers: 16, on_error: "threshold:3"}
        export: {format: csv, path: out/answers.csv, clip: 100}
        notify: {bell: true, command: "notify-send done", when: problem}
        """,
    )
    assert (jobfile.name, jobfile.model) == ("nightly", "demo")
    assert jobfile.source == SourceOptions(path="prompts.csv", column="question")
    assert jobfile.sampling == SamplingOptions(max_tokens=100, temperature=0.1, stop=["END", "###"])
    assert jobfile.run == RunOptions(workers=16, on_error="threshold:3")
    assert jobfile.export == ExportOptions(format="csv", path="out/answers.csv", clip=100)
    assert jobfile.notify == NotifyOptions(bell=True, command="notify-send done", when="problem")
    assert jobfile.resolve("out/a.csv") == str(tmp_path / "out" / "a.csv")
    assert (jobfile.resolve("-"), jobfile.resolve("/abs")) == ("-", "/abs")


def test_source_may_be_just_a_path(tmp_path: Path) -> None:
    assert load(tmp_path, "source: prompts.txt").source.path == "prompts.txt"


def test_only_what_differs_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "job.yaml"
    jobfile = JobFile(model="demo", run=RunOptions(workers=3), source=SourceOptions(path="日本.txt"))
    save_jobfile(path, jobfile)
    body = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert body == ["model: demo", "source:", "  path: 日本.txt", "run:", "  workers: 3"]
    save_jobfile(path, JobFile())
    assert load_jobfile(path) == JobFile(folder=path.parent)
    assert [p.name for p in path.parent.iterdir()] == ["job.yaml"]


NAMES = st.text(max_size=12) | st.text(" \n\t\r\x85\u2028\ufeff\0ab:#-'\"1\\|%@😀\ud800", max_size=8)
FAST = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(
    st.builds(
        JobFile,
        name=st.none() | NAMES,
        model=st.none() | NAMES,
        source=st.builds(SourceOptions, path=st.none() | NAMES.filter(str.strip), skip_invalid=st.booleans()),
        sampling=st.builds(
            SamplingOptions,
            system=st.none() | NAMES.filter(str.strip),
            max_tokens=st.integers(1, 10**6),
            temperature=st.floats(0, 2),
            seed=st.none() | st.integers(0, 2**63),
            stop=st.lists(NAMES, max_size=3),
        ),
        run=st.builds(RunOptions, workers=st.integers(1, 100), timeout=st.none() | st.floats(0.001, 1e6)),
    )
)
def test_what_is_saved_comes_back(tmp_path: Path, jobfile: JobFile) -> None:
    path = tmp_path / "job.yaml"
    save_jobfile(path, jobfile)
    loaded = load_jobfile(path)
    loaded.folder = None
    assert loaded == jobfile


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "is not a list of keys with values"),
        ("sampeling: {}", "unknown key sampeling (did you mean sampling?)"),
        ("zzz: 1", "unknown key zzz (known: name, description, model, source"),
        ("sampling: {temprature: 1}", "unknown key sampling.temprature (did you mean sampling.temperature?)"),
        ("sampling: {temperature: 3}", "sampling.temperature: 3.0 is above the most allowed, 2"),
        ("sampling: {max_tokens: many}", "'many' is not a whole number"),
        ("sampling: {max_tokens: .inf}", "inf is not a whole number"),
        ("sampling: {system: [a, b]}", "is not one value"),
        ("sampling: 5", "sampling: 5 is not"),
        ("run: {workers: 1.5}", "1.5 is not a whole number"),
        ("run: {workers: {a: 1}}", "is not one value"),
        ("model: [a]", "model: ['a'] is not a text"),
        ("notify: {bell: 'no'}", "notify.bell: 'no' is neither true nor false"),
        ("notify: {when: never}", "'never' is none of always, problem"),
        ("notify: {command: 'echo \"open'}", "command: no closing quotation"),
        ("notify: {webhook: 'ftp://x/y'}", "webhook: this is not an http:// or https:// address"),
        ("a: [1, 2\nb: 3", "line 2, column"),
        ("a: \x07", "special characters"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 2020-13-45", "line 1: unknown key a"),
        ("model: x\nrun:\n  workers: 3\n  wrokers: 4", "line 4: unknown key run.wrokers (did you mean run.workers?)"),
        ("model: x\nmodel: y", "line 2, column 1: the key 'model' stands here for the second time (first in line 1)"),
        (b"\xff\xfea\x00", "not UTF-8"),
    ],
)
def test_bad_templates(tmp_path: Path, text: Any, says: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)
    assert str(tmp_path / "job.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_template_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Batch file not found: .*nope\.yaml"):
        load_jobfile(tmp_path / "nope.yaml")
    with pytest.raises(JobFileError, match="is a folder"):
        load_jobfile(tmp_path)


def test_a_template_fits_a_checkpoint() -> None:
    jobfile = JobFile(model="demo", sampling=SamplingOptions(seed=3))
    assert jobfile.as_dict() == {"model": "demo", "sampling": {"seed": 3}}
    assert jobfile_from(jobfile.as_dict()) == jobfile
