"""Finding texts in a job: with an index and without, what is found is what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_router.tui.results import data
from ai_router.tui.results.data import Search
from batch.checkpoint import CheckpointStore, delete_checkpoint
from batch.checkpoint.texts import build_index, index_path, open_index, texts_of
from batch.job import BatchResult
from batch.processor import BatchProcessor

WORDS = ["Straße", "STRASSE", "日本語の文", "ﬁsh", "needle", "İstanbul", "a\x00b", "👩‍💻", "", "\u212aelvin"]


def make(folder: Path, count: int = 700) -> Path:
    """A job of some blocks: a rare word in the last one, a failure with a text of its own."""
    processor = BatchProcessor(folder)
    job = processor.create_job("demo", [f"prompt {at} {WORDS[at % len(WORDS)]}" for at in range(count)])
    results = [
        BatchResult(at, "", f"answer {at}" + " RaReWord" * (at == count - 5), success=at % 50 != 3,
                    error_message=None if at % 50 != 3 else f"timeout {at}")
        for at in range(count - 2)
    ]  # fmt: skip
    processor.save_checkpoint(job, results)
    assert job.checkpoint_file is not None
    return job.checkpoint_file


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("texts"))


def found(path: Path, text: str) -> list[int]:
    return list(Search(path, "all", text, 700).run(lambda: None).found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.one_of(st.sampled_from([*WORDS, "rareword", "timeout 3", "strasse", "kelvin", "fish", "nowhere", "e 69"]),
                 st.text(min_size=1, max_size=5)))  # fmt: skip
def test_an_index_loses_and_adds_nothing(job: Path, text: str) -> None:
    pytest.importorskip("numpy")
    text = text.replace('"', "'")
    index_path(job).unlink(missing_ok=True)
    without = found(job, f'"{text}"')
    assert build_index(job) and open_index(job) is not None
    assert found(job, f'"{text}"') == without
    with CheckpointStore(job) as store:
        holds = [
            row[0] for row in texts_of(store, range(700)) if any(text.casefold() in one.casefold() for one in row[1:])
        ]
    assert without == holds or not text


def test_an_index_is_as_old_as_its_job_and_goes_with_it(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    path = make(tmp_path, 300)
    assert not build_index(path, lambda: True) and open_index(path) is None
    assert build_index(path)
    index = open_index(path)
    assert index is not None and list(index.candidates(["rareword"]) or ()) == [1] and index.candidates(["ra"]) is None
    assert list(index.candidates(["rareword", "nowhere"]) or ()) == []
    with CheckpointStore(path, "write") as store:
        store.rows("UPDATE job SET reason = 'changed'")
    assert open_index(path) is None
    assert build_index(path)
    index_path(path).write_bytes(index_path(path).read_bytes()[:-1])
    assert open_index(path) is None
    delete_checkpoint(path)
    assert not index_path(path).exists()


@pytest.mark.parametrize("most", [0, 400])
def test_an_order_and_conditions_hold_with_an_index(job: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    pytest.importorskip("numpy")
    monkeypatch.setattr(data, "MOST_BLOCKS", most)
    index_path(job).unlink(missing_ok=True)

    def backwards(text: str) -> list[int]:
        return list(Search(job, "all", text, 700, data.Order("id", True)).run(lambda: None).found)

    texts = ("rareword", "timeout", "nowhere", 'id<300 "STRASSE"', "failed 3")
    without = [backwards(text) for text in texts]
    assert without[0] == [695] and without[2] == [] and without[3][0] > without[3][-1]
    build_index(job, lambda: False)
    assert [backwards(text) for text in texts] == without
