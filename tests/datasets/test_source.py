"""Rows to examples, files of every format, and whatever may be wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.datasets import BadRow, Columns, Template, example_of, looks_like_dataset, open_dataset
from batch.errors import SourceError

KEYS = ("messages", "conversations", "role", "content", "prompt", "completion", "text", "instruction", "output", "id")
PREFIX = "Please correct the grammar in the following Japanese sentence: "


def chat(question: str, answer: str | None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": question}]
    return {"messages": [*turns, *([] if answer is None else [{"role": "assistant", "content": answer}])], **more}


def write(path: Path, *rows: object) -> Path:
    texts = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(texts) + b"\n")
    return path


def test_the_answer_is_never_sent() -> None:
    request = example_of(chat(PREFIX + "本が読む。", "本を読む。", error_type="particle", id=7), 3, 1).request()
    assert request.messages == [{"role": "system", "content": "S"}, {"role": "user", "content": PREFIX + "本が読む。"}]
    assert request.text == "本が読む。"
    assert request.extra is not None
    assert request.extra["expected"] == "本を読む。"
    assert (request.extra["example_id"], request.extra["error_type"], request.custom_id) == (1, "particle", "7")


def test_only_the_last_assistant_turn_is_kept_back() -> None:
    turns = [("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("tool", "after")]
    example = example_of({"messages": [{"role": r, "content": c} for r, c in turns]}, 1, 1)
    assert [turn["content"] for turn in example.messages] == ["one", "1", "two"]
    assert (example.input, example.expected) == ("two", "2")


@pytest.mark.parametrize(
    ("row", "given", "expected"),
    [
        ({"prompt": "Fix the grammar: x y", "completion": "z"}, "x y", "z"),
        ({"input": "Note: x", "expected": "z"}, "Note: x", "z"),
        ({"question": "2+2?", "answer": 4}, "2+2?", "4"),
        ({"instruction": "Add up", "input": "1 2", "output": "3"}, "1 2", "3"),
        ({"text": "User: q\nAssistant: a"}, "q", "a"),
        ({"prompt": [{"role": "user", "content": "q"}], "completion": "a"}, "q", "a"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "q", "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                       {"role": "assistant", "content": "<think>hm</think>a<|im_end|>"}]}, "q", "a"),
    ],
)  # fmt: skip
def test_kinds_of_rows(row: dict[str, Any], given: str, expected: str) -> None:
    example = example_of(row, 1, 1)
    assert (example.input, example.expected) == (given, expected)
    assert all(turn["role"] != "assistant" for turn in example.messages)


def test_a_template_goes_around_bare_prompts_only() -> None:
    template = Template.parse(PREFIX + "{input_text}")
    bare = example_of({"prompt": "本が読む：はい。", "completion": "x"}, 1, 1, template=template)
    whole = example_of({"prompt": PREFIX + "本が読む。", "completion": "x"}, 1, 1, template=template)
    assert bare.messages[0]["content"] == PREFIX + "本が読む：はい。"
    assert bare.input == "本が読む：はい。"
    assert (whole.messages[0]["content"], whole.input) == (PREFIX + "本が読む。", "本が読む。")


def test_columns_may_be_named() -> None:
    row = {"messages": "x", "wrong": "a: b", "right": "c"}
    example = example_of(row, 1, 1, Columns(prompt="wrong", expected="right"))
    assert (example.messages[0]["content"], example.expected) == ("a: b", "c")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["x"], "a list instead of an object"),
        (None, "null instead of an object"),
        (chat("q", None), "no assistant turn"),
        (chat("q", " "), "expected answer is empty"),
        (chat("q", "<think>only thought"), "expected answer is empty"),
        (chat(" ", "a"), "prompt is empty"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "no user turn"),
        ({"messages": "no json"}, "no JSON"),
        ({"messages": [1]}, "message 1 is a number"),
        ({"messages": [{"content": "x"}]}, "no role"),
        ({"messages": [{"role": "user", "content": 3}]}, "content of message 1 is a number"),
        ({"prompt": None, "completion": "x"}, "prompt is empty"),
        ({"prompt": {"a": 1}, "completion": "x"}, '"prompt" is an object'),
        ({"text": "no chat at all"}, "the text is no chat"),
        ({"other": 1}, "there is other"),
    ],
)
def test_rows_that_are_none(row: object, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        example_of(row, 1, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_an_example_or_a_bad_row(row: object) -> None:
    try:
        example = example_of(row, 1, 1)
    except BadRow as error:
        assert str(error)
    else:
        assert example.expected
        assert example.input
        assert any(turn["role"] == "user" for turn in example.messages)
        assert json.dumps(example.request().extra)


def test_bad_lines_are_passed_over_with_their_number(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        chat("one", "1", id="a"), b"{broken", b"", b"\xff\xfe", b"[" * 9000, chat("q", None),
        chat("two", "2", id="a"), {"prompt": "x" * 1_000_000, "completion": "y"}, {"prompt": "p", "completion": "c"},
    )  # fmt: skip
    source = open_dataset(path)
    examples = [example for _, example, _ in source.examples() if example is not None]
    assert [(e.line, e.example_id) for e in examples] == [(1, 1), (7, 2), (8, 3), (9, 4)]
    assert len(examples[2].input) == 1_000_000
    assert source.skipped == 4
    assert [line for line, _ in source.problems] == [2, 4, 5, 6]
    assert dict(source.schemas) == {"messages": 2, "prompt/completion": 2}
    requests = list(open_dataset(path).requests())
    assert [r.extra["example_id"] for r in requests if r.extra] == [1, 2, 3, 4]
    assert [r.custom_id for r in requests] == ["a", "a", None, None]


def test_a_mark_at_the_beginning_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(chat("q", "a")).encode() + b"\r\n" + json.dumps(chat("r", "b")).encode()
    )
    assert [e.expected for _, e, _ in open_dataset(path).examples() if e] == ["a", "b"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeff" + delimiter.join(("prompt", "completion", "error_type")) + "\n"
        + delimiter.join(('"Fix the grammar: a\nb"', "c", "t")) + "\n"
        + delimiter.join(("only", "two")) + "\n\n"
        + delimiter.join(("q", "r", "")) + "\n",
        encoding="utf-8",
    )  # fmt: skip
    source = open_dataset(path)
    found = [(line, e.input, e.expected, e.error_type) for line, e, _ in source.examples() if e]
    assert found == [(2, "a\nb", "c", "t"), (6, "q", "r", None)]
    assert source.problems == [(4, "2 fields where the header has 3")]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    chats = [chat("q", "a")["messages"], chat("r", None)["messages"], None]
    pq.write_table(pa.table({"messages": chats, "id": [1, 2, 3]}), path)
    source = open_dataset(path)
    assert [(line, e and e.expected) for line, e, _ in source.examples()] == [(1, "a"), (2, None), (3, None)]
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match="Parquet"):
        list(open_dataset(path).examples())


def test_a_json_document(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"data": [chat("q", "a"), 3]}))
    source = open_dataset(path)
    assert [e.expected for _, e, _ in source.examples() if e] == ["a"]
    assert source.problems == [(2, "a number instead of an object")]
    path.write_text(json.dumps(chat("q", "a")) + "\n" + json.dumps(chat("q", "a")))
    with pytest.raises(SourceError, match="jsonl"):
        list(open_dataset(path).examples())


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Test file not found"):
        open_dataset(tmp_path / "none.jsonl")
    with pytest.raises(SourceError, match=r"is a folder; name the file in it, such as .*test\.jsonl"):
        open_dataset(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(SourceError, match="is empty"):
        open_dataset(tmp_path / "empty.jsonl")
    (tmp_path / "wide.jsonl").write_bytes(json.dumps(chat("q", "a")).encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-16"):
        open_dataset(tmp_path / "wide.jsonl")


def test_a_dataset_is_told_from_prompts(tmp_path: Path) -> None:
    assert looks_like_dataset(write(tmp_path / "a.jsonl", chat("q", "a"), {"prompt": "p", "completion": "c"}))
    assert not looks_like_dataset(write(tmp_path / "b.jsonl", chat("q", None), {"prompt": "p"}))
    (tmp_path / "c.txt").write_text("What is a list?\nWhat is a set?\n")
    assert not looks_like_dataset(tmp_path / "c.txt")
    assert not looks_like_dataset(tmp_path / "none.jsonl")


def test_a_compressed_file_and_one_that_names_its_separator(tmp_path: Path) -> None:
    table = "sep=|\nquestion|answer\nWhat, then; is 1+1?|2\nAnd 2+2?|4\n"
    rows = ['{"question": "What is 1+1?", "answer": "2"}', '{"question": "And 2+2?", "answer": "4"}']
    plain, packed, lines = tmp_path / "t.csv", tmp_path / "t.csv.gz", tmp_path / "t.jsonl.gz"
    plain.write_text(table)
    packed.write_bytes(gzip.compress(table.encode()))
    lines.write_bytes(gzip.compress("\n".join(rows).encode()))
    found = [[e and e.request().text for _, e, _ in open_dataset(path).examples()] for path in (plain, packed, lines)]
    assert found[0] == found[1] and "What, then; is 1+1?" in str(found[0][0]) and "And 2+2?" in str(found[2][1])
    assert looks_like_dataset(packed) and looks_like_dataset(lines)
    lines.write_bytes(gzip.compress("\n".join(rows * 2000).encode())[:-20])
    with pytest.raises(SourceError, match="damaged gzip"):
        list(open_dataset(lines).examples())
