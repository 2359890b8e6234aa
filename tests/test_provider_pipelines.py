"""The reference's pipelines: a table through six steps, each answer in its row, the caller's table as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from engines.provider.making import keys
from servers.batches import Batches, serving

from batch.engines.provider.base import Remote
from batch.providers import BatchInferencePipelineFactory, ProviderJob
from batch.providers.chunked import ChunkedPage
from batch.providers.pipeline import PipelineError

COUNT = 12


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    made = Batches()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_GENAI_USE_VERTEXAI", raising=False)
    keys(monkeypatch.setenv, made)
    made.reply = lambda text: "Department of " + text.partition("Text: ")[2].split("\n")[0] + "\n"
    return made


@pytest.fixture
def url(batches: Batches) -> Iterator[str]:
    with serving(batches) as address:
        yield address


def table(index: Any = None) -> pd.DataFrame:
    rows = [
        {"id_text": f"p{i}", "snippet_1": f"a{i}", "snippet_2": None, "snippet_3": "b", "snippet_4": ""}
        for i in range(COUNT)
    ]
    rows[4] |= {"snippet_1": None, "snippet_3": " "}
    made = pd.DataFrame(rows, index=index)
    made["salary"] = pd.array([1] * COUNT, dtype="Int16")
    return made


def through(pipeline: Any, df: pd.DataFrame, folder: Path) -> pd.DataFrame:
    file = folder / "batch.jsonl"
    info = pipeline.prepare_batch_file(df, str(file))
    assert info["row_count"] == COUNT - 1 and {"batch_id", "file_path", "model_name", "row_mapping"} <= set(info)
    source = pipeline.upload_batch_file(str(file), "some-bucket")
    job = pipeline.wait_for_completion(pipeline.create_batch_job(source, "gs://some-bucket"), poll_interval=0.01)
    made: pd.DataFrame = pipeline.retrieve_and_merge_results(job, df, info)
    return made


WAYS = [
    ("gemini-2.0-flash-001", "/g", {}),
    ("gpt-tiny", "/v1", {}),
    ("gpt-tiny", "/v1", {"mode": "batch"}),
    ("claude-tiny", "", {}),
    ("maker/tiny", "/v1", {}),
]


@pytest.mark.parametrize(("name", "path", "options"), WAYS)
@pytest.mark.parametrize(
    "index", [None, [f"row {i}" for i in range(COUNT)], [7] * COUNT], ids=["plain", "texts", "same"]
)
def test_every_answer_in_its_row(
    name: str, path: str, options: dict[str, Any], index: Any, tmp_path: Path, batches: Batches, url: str
) -> None:
    df = table(index)
    before = df.copy()
    batches.failing = lambda text: "a7 " in text
    pipeline = BatchInferencePipelineFactory.get_pipeline(name, base_url=f"{url}{path}", **options)
    made = through(pipeline, df, tmp_path)
    pd.testing.assert_frame_equal(df, before)
    pd.testing.assert_frame_equal(made[df.columns], before)
    expected = [f"Department of a{i} b" for i in range(COUNT)]
    expected[4] = "MISSING"
    if options.get("mode") == "chunked" or (name.startswith("gpt") and not options):
        assert not batches.creates  # asked at once, ten at a time
    else:
        expected[7] = "ERROR"
        assert "oh" in made["department_llm_error"].tolist()[7]
    assert made["department_llm"].tolist() == expected


def test_in_chunks_only_what_failed_is_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []
    broken = True

    def ask(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        said = []
        for body in bodies:
            asked.append(body["text"])
            if broken and "2" in body["text"]:
                said.append({"response": {"status_code": 0, "body": {"error": {"message": "the line is dead"}}}})
            else:
                answer = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
                said.append({"response": {"status_code": 200, "body": answer}})
        return said

    page = ChunkedPage(lambda *_: {}, ask, chunk=2)
    file = tmp_path / "b.jsonl"
    file.write_text("".join(json.dumps({"custom_id": f"x-{n}", "body": {"text": f"t{n}"}}) + "\n" for n in range(4)))
    first = {result.custom_id: result for result in page.results(page.create(file, None, "x"))}
    failure = first["x-2"].failure
    assert failure is not None and failure.message == "the model gave no answer to it (status 0: the line is dead)"
    twice = [result.custom_id for result in page.results(page.create(file, None, "x"))]
    assert sorted(twice) == ["x-0", "x-1", "x-2", "x-3"]  # the last failure alone
    broken = False
    again = list(page.results(page.create(file, None, "x")))
    assert len(again) == 4 and all(result.reply is not None for result in again)
    assert asked == ["t0", "t1", "t2", "t3", "t2", "t2"]


def test_half_a_line_of_one_that_was_killed_spoils_no_answer(tmp_path: Path) -> None:
    answer = {"response": {"status_code": 200, "body": {"choices": [{"message": {"content": "yes"}}]}}}
    page = ChunkedPage(lambda *_: {}, lambda bodies: [answer for _ in bodies], chunk=1)
    file = tmp_path / "b.jsonl"
    file.write_text("".join(json.dumps({"custom_id": f"x-{n}", "body": {}}) + "\n" for n in range(3)))
    assert len(list(page.results(page.create(file, None, "x")))) == 3
    answers = tmp_path / "b.jsonl.answers.jsonl"
    answers.write_bytes(answers.read_bytes()[:-20])
    again = list(page.results(page.create(file, None, "x")))
    assert [result.custom_id for result in again] == ["x-0", "x-1", "x-2"]
    assert all(result.reply is not None for result in again)


@pytest.mark.parametrize("name", ["llama-3", "gem", "", "openai"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"Unsupported model provider|say which model"):
        BatchInferencePipelineFactory.get_pipeline(name)


def test_own_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchInferencePipelineFactory, "_makers", {})
    BatchInferencePipelineFactory.register("mine", lambda name, **options: (name, options))  # type: ignore[arg-type,return-value]
    assert BatchInferencePipelineFactory.get_pipeline("mine-7b", x=1) == ("mine-7b", {"x": 1})  # type: ignore[comparison-overlap]


def test_tables_that_cannot_be(tmp_path: Path, batches: Batches, url: str) -> None:
    pipeline = BatchInferencePipelineFactory.get_pipeline("claude-tiny", base_url=url)
    with pytest.raises(PipelineError, match=r"Missing required columns: \['snippet_1'\]; did you mean snipet_1"):
        pipeline.prepare_batch_file(table().rename(columns={"snippet_1": "snipet_1"}), tmp_path / "b.jsonl")
    with pytest.raises(PipelineError, match="No row of the table has a text"):
        pipeline.prepare_batch_file(table().head(0), tmp_path / "b.jsonl")
    info = pipeline.prepare_batch_file(table(), tmp_path / "b.jsonl")
    job = pipeline.create_batch_job(pipeline.upload_batch_file(tmp_path / "b.jsonl"))
    with pytest.raises(PipelineError, match="there are no results yet"):
        pipeline.retrieve_and_merge_results(job, table(), info)
    job = pipeline.wait_for_completion(job, 0.01)
    with pytest.raises(PipelineError, match="not the one that the batch was prepared from"):
        pipeline.retrieve_and_merge_results(job, table().iloc[::-1].reset_index(drop=True), info)
    moved = pipeline.retrieve_and_merge_results(job, table().iloc[::-1], info)  # rows elsewhere, labels the same
    assert moved["department_llm"].tolist()[0] == f"Department of a{COUNT - 1} b"


def test_a_batch_that_stands_still_is_not_waited_for_without_end(batches: Batches, url: str) -> None:
    pipeline = BatchInferencePipelineFactory.get_pipeline("claude-tiny", base_url=url)
    paused = ProviderJob("b", "paused", Remote("b", "paused"))
    pipeline.get_batch_status = lambda job: paused  # type: ignore[method-assign]
    assert pipeline.wait_for_completion(paused, 0.01) is paused
    running = ProviderJob("b", "running", Remote("b", "running"))
    pipeline.get_batch_status = lambda job: running  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="b is running"):
        pipeline.wait_for_completion(running, 0.01, timeout=0.02)


def test_importing_imports_no_library_of_a_provider() -> None:
    code = (
        "import sys, batch.providers, batch.engines.provider.engine, batch.engines.provider.shaped;"
        "print([n for n in ('openai', 'anthropic', 'google.genai', 'pandas', 'aiohttp') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_demo_of_the_example(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = Path(__file__).parents[1] / "examples/departments/extract_departments_batch.py"
    done = subprocess.run(
        [sys.executable, str(script), "--provider=demo", "--output_dir", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=script.parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    right = int(done.stdout.partition("model: ")[2].split()[0])
    assert right >= 25
    made = pd.read_parquet(tmp_path / "processed_faculty.parquet")
    assert len(made) == 30 and made["department_llm"].tolist()[20] == "MISSING"
