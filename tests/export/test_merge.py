"""Answers back in the rows they are of: files and frames, the old table untouched, whatever stopped in between."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")
import pyarrow.parquet as pq  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from batch.errors import ExportError, PermanentError, SourceError  # noqa: E402
from batch.export.answers import MergeNames  # noqa: E402
from batch.export.tables import merge_file, merge_frame  # noqa: E402
from batch.job import BatchJob  # noqa: E402
from batch.processor import BatchProcessor  # noqa: E402
from batch.sources.rows import TableSource  # noqa: E402

FAST = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NEW = ["", "_error", "_tokens_in", "_tokens_out", "_finish_reason", "_model", "_cost"]
TEXTS = ["a", None, "b,\n;\"'", "  ", "fail", "=1+1", "日本語"]


def columns(name: str = "answer_llm") -> list[str]:
    return [f"{name}{suffix}" for suffix in NEW]


def asked(text: str) -> str:
    if "fail" in text:
        raise PermanentError("refused")
    return text.removeprefix("Say ").upper()


def run(folder: Path, table: Any, **options: Any) -> BatchJob:
    """A job over a table, answered, and opened again as another process would."""
    config = options.pop("config", {})
    source = TableSource(table, **(options or {"template": "Say {{ text }}"}))
    processor = BatchProcessor(folder / "checkpoints")
    job = processor.create_job("m", source, config={**config, "table": source.kept()})
    processor.process_batch(job, options.get("answer", asked))
    assert job.checkpoint_file is not None
    return BatchProcessor(folder / "checkpoints").open_job(job.checkpoint_file)


def write(folder: Path, form: str, rows: dict[str, list[Any]]) -> Path:
    path = folder / f"table.{form}"
    table = pa.table(rows)
    if form == "parquet":
        pq.write_table(table, path, row_group_size=3, compression="gzip")
    elif form == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if form == "tsv" else ";")
            writer.writerow(rows)
            writer.writerows(zip(*rows.values(), strict=True))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a merged file, by libraries that are not ours; of CSV and TSV an empty cell is None."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".arrow":
        return list(pa.ipc.open_file(path).read_all().to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        rows = list(
            csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ";" if "semi" in path.name else ",")
        )
    return [{name: cell or None for name, cell in row.items()} for row in rows]


@pytest.mark.parametrize("source", ["parquet", "arrow", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("target", ["parquet", "arrow", "jsonl", "csv", "tsv"])
def test_every_answer_stands_in_its_own_row(tmp_path: Path, source: str, target: str) -> None:
    rows: dict[str, list[Any]] = {"id": list(range(7)), "text": TEXTS}
    path = write(tmp_path, source, rows)
    before = path.read_bytes()
    job = run(tmp_path, path)
    assert (job.total_prompts, job.completed, job.failed) == (5, 4, 1)
    output = tmp_path / f"{'semi-' if (source, target) == ('csv', 'csv') else ''}out.{target}"
    assert merge_file(job, output, inert_csv=False) == 4
    merged = read(output)
    assert path.read_bytes() == before
    assert list(merged[0]) == ["id", "text", *columns()]
    assert [str(row["id"]) for row in merged] == [str(n) for n in range(7)]
    assert [row["text"] or None for row in merged] == [text or None for text in TEXTS]
    sent = [text is not None and bool(text.strip()) for text in TEXTS]
    wanted = [t.upper() if t and s and t != "fail" else None for t, s in zip(TEXTS, sent, strict=True)]
    assert [row["answer_llm"] for row in merged] == wanted
    assert [row["answer_llm_error"] for row in merged] == [*[None] * 4, "refused", None, None]
    assert [row["answer_llm_model"] for row in merged] == ["m" if text else None for text in wanted]
    assert [str(row["answer_llm_tokens_in"]) == "0" for row in merged] == sent


def test_types_metadata_and_codec_stay(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"text": ["a", "b"], "n": pd.array([1, None], dtype="Int16"), "t": pd.to_datetime(["2026-01-01", None])},
        index=pd.Index(["p", "p"], name="key"),
    )
    path = tmp_path / "t.parquet"
    frame.to_parquet(path, compression="zstd")
    job = run(tmp_path, path)
    merge_file(job, tmp_path / "o.parquet")
    merged = pd.read_parquet(tmp_path / "o.parquet")
    pd.testing.assert_frame_equal(merged[list(frame.columns)], frame)
    assert pq.read_metadata(tmp_path / "o.parquet").row_group(0).column(0).compression == "ZSTD"


@FAST
@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=40), st.data())
def test_a_job_that_stopped_anywhere_merges_what_there_is(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    path = write(folder, "parquet", {"text": pa.array(texts, pa.string())})
    sent = [text is not None and bool(text.strip()) for text in texts]
    if not any(sent):
        with pytest.raises(SourceError, match="no prompts"):
            list(TableSource(path, column="text"))
        return
    source = TableSource(path, column="text")
    processor = BatchProcessor(folder / "c")
    job = processor.create_job("m", source, config={"table": source.kept()})
    stop = data.draw(st.integers(0, sum(sent)))
    answered: list[str] = []

    def answer(text: str) -> str:
        if len(answered) == stop:
            raise KeyboardInterrupt
        answered.append(text)
        return f"<{text}>"

    try:
        processor.process_batch(job, answer)
    except KeyboardInterrupt:
        assert stop < sum(sent)
    assert job.checkpoint_file is not None
    job = BatchProcessor(folder / "c").open_job(job.checkpoint_file)
    assert merge_file(job, folder / "o.parquet") == job.completed
    merged = read(folder / "o.parquet")
    assert len(merged) == len(texts)
    for row, text, is_sent in zip(merged, texts, sent, strict=True):
        assert row["text"] == text
        if row["answer_llm"] is not None:
            assert row["answer_llm"] == f"<{text}>" and row["answer_llm_error"] is None
        else:
            assert row["answer_llm_error"] == ("no answer yet" if is_sent else None)


def test_frames_come_back_as_they_are_and_the_callers_stays(tmp_path: Path) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    rows = {"text": ["a", None, "fail", "b"], "n": [1, 2, None, 4]}
    frame = pd.DataFrame(rows, index=pd.Index([5, 5, 0, 7], name="k")).astype({"n": "Int8", "text": "category"})
    before = frame.copy(deep=True)
    job = run(tmp_path, frame)
    names = MergeNames("department_llm")
    merged = merge_frame(job, frame, names=names)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(merged[["text", "n"]], before)
    assert list(merged.columns) == ["text", "n", *columns("department_llm")]
    assert merged["department_llm"].tolist()[0] == "A" and merged["department_llm"].isna().tolist() == [
        *[False, True, True, False]
    ]
    assert merged["department_llm_error"].tolist()[2] == "refused"
    assert str(merged["department_llm_tokens_in"].dtype) == "Int64"

    polars = pl.DataFrame(rows)
    same = merge_frame(job, polars, names=names)
    assert same.columns == list(merged.columns) and same["department_llm"].to_list() == ["A", None, None, "B"]
    assert polars.columns == ["text", "n"]
    arrow = merge_frame(job, pa.table(rows), names=names)
    assert arrow.column("department_llm").to_pylist() == ["A", None, None, "B"]

    class Stream:
        """Anything that gives Arrow."""

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pa.table(rows).__arrow_c_stream__(requested_schema)

    assert merge_frame(job, Stream(), names=names).equals(arrow)
    assert merge_file(job, tmp_path / "o.csv", table=polars) == 2
    for other in (polars.reverse(), polars.head(2), polars.rename({"n": "m"}), frame.iloc[::-1]):
        with pytest.raises(ExportError):
            merge_frame(job, other, names=names)
    with pytest.raises(ExportError, match="frame in memory"):
        merge_file(job, tmp_path / "o2.csv")
    with pytest.raises(SourceError, match="collect"):
        TableSource(pl.LazyFrame(rows), column="text")


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": ["integer", "null"]},
        "share": {"type": "number"},
        "sure": {"type": "boolean"},
        "parts": {"type": "array"},
    },
}


def test_json_answers_spread_into_columns(tmp_path: Path) -> None:
    answers = {
        "whole": '{"name": "x", "count": 3, "share": 1, "sure": true, "parts": [1, "ä"], "more": 1}',
        "little": '{"name": "y", "count": null}',
        "big": '{"count": 99999999999999999999}',
        "wrong": '{"count": "three", "sure": 1, "share": 0.5}',
        "none": "no JSON",
        "list": "[1]",
    }
    path = write(tmp_path, "parquet", {"q": list(answers)})
    config = {"sampling": {"json_schema": SCHEMA}}
    source = TableSource(path, column="q")
    processor = BatchProcessor(tmp_path / "c")
    job = processor.create_job("m", source, config={**config, "table": source.kept()})
    processor.process_batch(job, answers.__getitem__)
    assert job.checkpoint_file is not None
    job = processor.open_job(job.checkpoint_file)
    merge_file(job, tmp_path / "o.parquet", names=MergeNames("llm", "llm.{}"))
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.schema.field("llm.count").type == pa.int64()
    assert table.schema.field("llm.sure").type == pa.bool_()
    rows = {row["q"]: row for row in table.to_pylist()}
    spread = {name: [row[f"llm.{key}"] for key in SCHEMA["properties"]] for name, row in rows.items()}  # type: ignore[attr-defined]
    assert spread["whole"] == ["x", 3, 1.0, True, '[1, "ä"]']
    assert spread["little"] == ["y", None, None, None, None]
    assert spread["big"] == spread["none"] == spread["list"] == [None] * 5
    assert spread["wrong"] == [None, None, 0.5, None, None]
    assert [row["llm_error"] for row in rows.values()] == [
        None,
        None,
        "the answer does not fit the schema: count",
        "the answer does not fit the schema: count, sure",
        "the answer is no JSON object",
        "the answer is no JSON object",
    ]
    assert [row["llm"] for row in rows.values()] == list(answers.values())


def test_formulas_are_made_harmless_in_new_cells_alone(tmp_path: Path) -> None:
    job = run(tmp_path, write(tmp_path, "csv", {"text": ["=1+1"]}))
    merge_file(job, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("=1+1,'=1+1,")


def refused(job: BatchJob, output: Path, **options: Any) -> str:
    with pytest.raises((ExportError, SourceError)) as caught:
        merge_file(job, output, **options)
    assert not output.exists() and not list(output.parent.glob(".*.tmp"))
    return str(caught.value)


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", {"id": [1, 2], "text": ["a", "b"]})
    job = run(tmp_path, path)
    out = tmp_path / "out.csv"
    assert "two columns id" in refused(job, out, names=MergeNames("id"))
    assert "two columns text_error" not in refused(job, out, names=MergeNames("text"))
    assert "which table to write" in refused(job, tmp_path / "out.txt")
    with pytest.raises(ExportError, match="in use by this job"):
        merge_file(job, path)
    moved = path.rename(tmp_path / "moved.csv")
    assert "is gone" in refused(job, out)
    assert merge_file(job, out, table=moved) == 2
    out.unlink()
    moved.write_text(moved.read_text().replace("b", "c"))
    assert "is not as it was" in refused(job, out, table=moved)
    plain = BatchProcessor(tmp_path / "checkpoints").create_job("m", ["x"])
    assert "not run over a table" in refused(plain, out)


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    import tracemalloc

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        path = write(folder, "parquet", {"text": [f"{n:0200}" for n in range(count)]})
        source = TableSource(path, column="text")
        processor = BatchProcessor(folder / "c")
        tracemalloc.start()
        job = processor.create_job("m", source, config={"table": source.kept()})
        merge_file(job, folder / "o.parquet")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert pq.read_metadata(folder / "o.parquet").num_rows == count
        return most

    peak(100)  # imports
    small, large = peak(1500), peak(9000)
    assert large < 2 * small, (small, large)
