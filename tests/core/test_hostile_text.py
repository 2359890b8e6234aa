"""Text that would like to be more than text goes in, through the store and out again, unchanged and unobeyed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch import BatchProcessor
from batch.checkpoint import CheckpointStore
from batch.items import Request

Folders = Callable[[], Path]

HOSTILE = [
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGVsbG8=\x07 into the clipboard",
    "\x1b]0;title\x1b\\ \x9b31m",
    "[bold red]markup[/] [link=file:///etc/passwd]x[/link] [/] [",
    "a\0b\0",
    "\u202eright to left\u202c \u2066isolate\u2069 \u200b\ufeff",
    "line\r\nline\nline\rline\u2028line\u0085line\x0bline\x0cline",
    "'; DROP TABLE results; --",
    '"quoted", and\tcommas,\\back\\slashes',
    "{{ 7 * 7 }} {% raw %} $HOME `id` $(id)",
    "日本語、한국어、🎉👩‍👩‍👧‍👦 e\u0301",
    "%s %d {} {0} %(name)s",
    "x" * 1_000_000,
    "日" * 400_000,
    "\x01\x02\x03\x7f\x80",
]
SURROGATES = ["lone \ud800 high", "lone \udfff low", "\udc80\udcff from bytes", "swapped \udc00\ud800"]


def replaced(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


@pytest.mark.parametrize("texts", [HOSTILE, SURROGATES], ids=["hostile", "surrogates"])
def test_through_store_and_exports_and_back(tmp_path: Path, texts: list[str]) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("model \x1b[31m", texts, config={"source": "a\x1b]52;c;\x07.txt"})

    def echo(prompt: str) -> str:
        index = [replaced(t) for t in texts].index(prompt)
        if index % 4 == 3:
            raise ValueError(texts[index])
        return texts[index]

    results = processor.process_batch(job, echo)
    expected = [replaced(t) for t in texts]
    assert [r.prompt for r in results] == expected
    assert [r.response_text or str(r.error_message).removeprefix("ValueError: ") for r in results] == expected
    loaded, again = processor.load_checkpoint(job.checkpoint_file)  # type: ignore[arg-type]
    assert again == results and list(loaded.prompts) == expected

    data = json.loads(processor.export_results(job, results, tmp_path / "o.json").read_text("utf-8"))
    assert [r["prompt"] for r in data["results"]] == expected
    assert [r["response_text"] or r["error_message"][12:] for r in data["results"]] == expected
    lines = processor.export_results(job, results, tmp_path / "o.jsonl", "jsonl").read_bytes().split(b"\n")
    assert [json.loads(line)["prompt"] for line in lines[:-1]] == expected and lines[-1] == b""
    csv.field_size_limit(10_000_000)
    path = processor.export_results(job, results, tmp_path / "o.csv", "csv", inert_csv=False)
    text = path.read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [r["prompt"] for r in rows] == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=12),
    extras=st.lists(
        st.none()
        | st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
            max_size=3,
        ),
        min_size=12,
        max_size=12,
    ),
)
def test_the_store_gives_back_what_it_was_given(
    folders: Folders, prompts: list[str], extras: list[dict[str, object] | None]
) -> None:
    processor = BatchProcessor(folders())
    requests = [Request(p, e) for p, e in zip(prompts, extras, strict=False)]
    job = processor.create_job("m", iter(requests), config={"a": [1, None, "x"]})
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        assert [store.request(i) for i in range(len(prompts))] == [Request(r.text, r.extra or None) for r in requests]
        assert store.requests(list(range(len(prompts)))) == list(
            enumerate(Request(r.text, r.extra or None) for r in requests)
        )
        assert store.job().config == {"a": [1, None, "x"]}
    assert list(job.prompts) == prompts and job.prompts == prompts and job.prompts[-1] == prompts[-1]
    assert job.prompts[1:3] == prompts[1:3] and len(job.prompts) == len(prompts)


def test_search_takes_wildcards_literally(tmp_path: Path) -> None:
    processor = BatchProcessor(tmp_path)
    job = processor.create_job("m", ["100%", "100 percent", "a_b", "axb", "back\\slash", "ABC"])
    processor.process_batch(job, lambda p: f"<{p}>" if p != "axb" else 1 / 0)
    assert job.checkpoint_file is not None
    with CheckpointStore(job.checkpoint_file) as store:
        assert store.ids(search="100%") == [0]
        assert store.ids(search="a_b") == [2]
        assert store.ids(search="\\") == [4]
        assert store.ids(search="abc") == [5]
        assert store.ids(search="division") == [3] == store.ids("failed")
        assert store.ids("done", search="b") == [2, 4, 5]
