"""Every input format, and every way an input can be bad."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.errors import SourceError
from batch.sources import from_prompts, load_prompts, open_source, user_path, validate
from batch.sources.entries import request_of
from batch.sources.openai import MalformedEntry

EXAMPLES = Path(__file__).parents[2] / "examples"
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGk=\x07 clipboard",
    "[bold red]markup[/] [/nothing]",
    "a\0b",
    "\u202eright to left\u2066",
    "=HYPERLINK(1)",
    "日本語の文、絵文字🎉",
    "x" * 1_000_000,
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def texts(path: Path | str, **options: Any) -> list[str]:
    return [request.text for request in open_source(path, **options).requests()]


# --- formats -------------------------------------------------------------------------------------------------------


def test_txt_passes_over_comments_and_blank_lines(write: Write) -> None:
    path = write("p.txt", "# a comment\n\n  first  \r\n   # another\nsecond\n\tthird # stays")
    source = open_source(path)
    assert texts(path) == ["first", "second", "third # stays"]
    assert [r.text for r in source] == [r.text for r in source]  # a second pass gives the same
    assert (source.tally.comments, source.tally.blank) == (2, 1)


def test_example_file_has_25_prompts() -> None:
    assert len(load_prompts(EXAMPLES / "batch_prompts.txt")) == 25


@pytest.mark.parametrize("name", ["p", "p.md", "p.prompts", "P.TXT"])
def test_any_other_suffix_is_text(write: Write, name: str) -> None:
    assert texts(write(name, "# c\n[1]\n")) == ["[1]"]


@pytest.mark.parametrize(
    ("document", "prompts"),
    [
        (["a", "b"], ["a", "b"]),
        ({"prompts": ["a", {"prompt": "b"}], "metadata": {"x": 1}}, ["a", "b"]),
        ([{"messages": [{"role": "user", "content": "hi"}]}, 3], ["hi", "3"]),
        ({"other": 1}, ["{'other': 1}"]),
        ("just text", ["just text"]),
        (42, ["42"]),
    ],
)
def test_json_documents(write: Write, document: object, prompts: list[str]) -> None:
    path = write("p.json", json.dumps(document))
    assert texts(path) == prompts
    assert load_prompts(path) == prompts


def test_jsonl_forms(write: Write) -> None:
    lines = [
        '"plain"',
        '{"prompt": "object", "custom_id": "a", "temperature": 0.5, "topic": "x"}',
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "chat"}]}',
        "",
        '[{"role": "user", "content": [{"type": "text", "text": "parts"}]}]',
    ]
    source = open_source(write("p.jsonl", "\n".join(lines)))
    plain, record, chat, parts = source.requests()
    assert (plain.text, plain.extra) == ("plain", None)
    assert (record.text, record.custom_id, record.params) == ("object", "a", {"temperature": 0.5})
    assert record.columns == {"topic": "x"}
    assert chat.text == "chat"
    assert [m["role"] for m in chat.messages] == ["system", "user"]
    assert parts.text == "parts"
    assert source.tally.blank == 1
    assert not source.openai_batch


def test_openai_batch_lines(write: Write) -> None:
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 7,
        "temperature": 0.2,
        "top_p": 0.9,
        "seed": 3,
        "stop": "END",
        "logit_bias": {"1": 2},
        "user": None,
    }
    line = {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    source = open_source(write("p.jsonl", json.dumps(line) + "\n"))
    (request,) = source.requests()
    assert request.text == "hi"
    assert request.custom_id == "request-1"
    assert request.params == {"max_tokens": 7, "temperature": 0.2, "top_p": 0.9, "seed": 3, "stop": ["END"]}
    assert request.extra is not None
    assert request.extra["model"] == "gpt-4o-mini"
    assert request.extra["body"] == {"logit_bias": {"1": 2}}
    assert source.openai_batch
    (problem,) = validate(source).problems
    assert (problem.code, problem.severity) == ("not_passed_on", "warning")
    assert "logit_bias" in problem.text


@pytest.mark.parametrize(
    ("body", "text", "roles"),
    [
        ({"prompt": "p"}, "p", ["user"]),
        ({"input": "i", "instructions": "s"}, "i", ["system", "user"]),
        ({"input": [{"role": "user", "content": "i"}]}, "i", ["user"]),
    ],
)
def test_other_openai_bodies(body: dict[str, Any], text: str, roles: list[str]) -> None:
    request = request_of({"custom_id": "1", "body": body})
    assert request.text == text
    assert [m["role"] for m in request.messages] == roles


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "null is not a prompt"),
        (True, "true is not a prompt"),
        ({}, "no keys at all"),
        ({"question": 1}, "it has question"),
        ({"prompt": None}, "null"),
        ({"messages": "x"}, "not a list of messages"),
        ({"messages": []}, "empty list"),
        ({"messages": [{"content": "x"}]}, '"role"'),
        ({"messages": [{"role": "user", "content": 5}]}, "message 1"),
        ({"prompt": "x", "temperature": 9}, "temperature: 9"),
        ({"prompt": "x", "max_tokens": float("inf")}, "inf is not a whole number"),
        ({"prompt": "x", "system": {"a": 1}}, "system"),
        ({"custom_id": [1], "prompt": "x"}, "custom_id"),
        ({"body": {}}, 'neither "messages"'),
        ({"url": "/v1/embeddings", "body": {"input": "x"}}, "embeddings"),
    ],
)
def test_malformed_values(value: object, says: str) -> None:
    with pytest.raises(MalformedEntry) as caught:
        request_of(value)
    assert says in str(caught.value)


def test_csv_keeps_other_columns(write: Write) -> None:
    path = write("p.csv", 'id,Prompt,lang\r\n1,"two\r\nlines, one cell",en\r\n\r\n2,"say ""hi""",de\r\n')
    first, second = open_source(path).requests()
    assert first.text == "two\r\nlines, one cell"
    assert (first.extra, first.columns) == (None, {"id": "1", "lang": "en"})
    assert second.text == 'say "hi"'
    positions = [entry.position for entry in open_source(path).entries()]
    assert positions == [2, 5]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters_and_column(write: Write, delimiter: str) -> None:
    path = write("p.csv", f"a{delimiter}question\n1{delimiter}why?\n")
    assert texts(path, column="question") == ["why?"]


def test_column_names_the_key_of_json_objects(write: Write) -> None:
    assert texts(write("p.jsonl", '{"q": "why?", "prompt": "no"}\n'), column="q") == ["why?"]


def test_csv_rows_of_the_wrong_width_are_not_cut(write: Write) -> None:
    source = open_source(write("p.csv", 'prompt\nfine\none, two\n"open\nend'))
    errors = {entry.position: entry.error for entry in source.entries() if entry.error}
    assert "2 fields where the header has 1" in str(errors[3])
    assert "never closed" in str(errors[4])


def test_hostile_text_survives(write: Write) -> None:
    assert texts(write("p.jsonl", "".join(json.dumps(t) + "\n" for t in HOSTILE))) == HOSTILE
    assert texts(write("p.json", json.dumps(HOSTILE, ensure_ascii=False))) == HOSTILE
    assert texts(write("p.txt", "\n".join(HOSTILE))) == HOSTILE
    rows = "prompt\n" + "".join('"' + t.replace('"', '""') + '"\n' for t in HOSTILE)
    assert texts(write("p.csv", rows)) == HOSTILE


def test_lone_surrogates_are_replaced_and_counted(write: Write) -> None:
    path = write("p.jsonl", '"a\\ud800b"\n{"messages": [{"role": "user", "content": "\\udfff"}]}\n"\\ud83d\\ude00"\n')
    source = open_source(path)
    assert texts(path) == ["a\ufffdb", "\ufffd", "😀"]
    report = validate(source)
    assert report.replaced_characters == 2
    assert report.ok
    assert [r.text for r in from_prompts(["\ud800"])] == ["\ufffd"]


# --- pipes and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "format_", "prompts"),
    [
        (b"# c\nhello\n", "txt", ["hello"]),
        (b'\n{"prompt": "x"}\n"y"\n', "jsonl", ["x", "y"]),
        (b"\xef\xbb\xbfhello", "txt", ["hello"]),
    ],
)
def test_stdin_can_be_read_twice(data: bytes, format_: str, prompts: list[str]) -> None:
    source = open_source("-", stdin=io.BytesIO(data))
    assert source.format == format_
    assert [r.text for r in source] == prompts == [r.text for r in source]
    assert validate(source).bytes == len(data)
    spool = source._file
    assert spool is not None
    source.close()
    assert not spool.exists()


def test_stdin_format_given() -> None:
    with open_source("-", stdin=io.BytesIO(b'{"prompts": ["a"]}'), format="json") as source:
        assert [r.text for r in source] == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_named_pipe(tmp_path: Path) -> None:
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_text("one\ntwo\n"), daemon=True).start()
    source = open_source(pipe)
    assert [r.text for r in source] == ["one", "two"] == [r.text for r in source]


def test_user_paths() -> None:
    assert user_path(r"D:\models\p.txt", wsl=True) == Path("/mnt/d/models/p.txt")
    assert user_path("D:/models/p.txt", wsl=True) == Path("/mnt/d/models/p.txt")
    assert user_path("D:/models/p.txt", wsl=False) == Path("D:/models/p.txt")
    assert user_path("~/p.txt") == Path.home() / "p.txt"
    assert user_path(" '/a b/p.txt' ") == Path("/a b/p.txt")
    assert user_path("~no_such_user/p") == Path("~no_such_user/p")


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/no/such/file.txt", "nowhere.json", "/etc/passwd/x", "a\0b"])
def test_missing_file(path: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open_source(path)
    assert str(caught.value) == f"Prompts file not found: {path}"


def fails(path: Path | str, **options: Any) -> str:
    """The sentence that a bad input gives, whether it is found on opening or on reading."""
    with pytest.raises(SourceError) as caught:
        texts(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in fails(tmp_path)


def test_no_permission(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("p.txt", "x")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert fails(path) == f"No permission to read {path}"


@pytest.mark.parametrize(
    ("name", "content"),
    [("p.txt", ""), ("p.txt", "# c\n\n"), ("p.json", "[]"), ("p.csv", "prompt\n"), ("p.jsonl", "\n")],
)
def test_nothing_in_it(write: Write, name: str, content: str) -> None:
    path = write(name, content)
    assert fails(path) in (f"{path} is empty", f"There are no prompts in {path}")
    if content:
        report = validate(open_source(path))
        assert not report.ok
        assert report.problems[0].code == "empty_source"


def test_not_utf8_names_line_and_byte(write: Write) -> None:
    path = write("p.txt", b"fine\ncaf\xe9\n")
    assert fails(path) == f"{path} is not UTF-8: line 2, byte 4 (offset 8) is 0xe9, which is not UTF-8"
    report = validate(open_source(path))
    assert [problem.code for problem in report.problems] == ["unreadable"]
    assert not report.ok


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-32", "UTF-32")])
def test_other_unicode_encodings_are_named(write: Write, encoding: str, name: str) -> None:
    assert f"is {name}, not UTF-8" in fails(write("p.txt", "What is Python?\n".encode(encoding)))


def test_utf8_mark_is_accepted(write: Write) -> None:
    source = open_source(write("p.csv", b"\xef\xbb\xbfprompt\nhi\n"))
    assert [r.text for r in source] == ["hi"]
    assert source.encoding == "UTF-8 with BOM"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.json", '{"prompts": [\n  "a",\n  oops]}', "line 3, column 3: Expecting value"),
        ("p.json", '{"prompts": "a"}', '"prompts" is str, not a list'),
        ("p.json", '{"prompt": 1}\n{"prompt": 2}', "jsonl"),
        ("p.json", "[" * 100_000, "nested too deeply"),
        ("p.jsonl", '"a"\n{"prompt" "b"}\n', "line 2: Expecting ':' delimiter (column 11)"),
        ("p.jsonl", "[" * 100_000 + "\n", "line 1: nested too deeply"),
        ("p.jsonl", "1" * 5000 + "\n", "line 1: not usable JSON"),
        ("p.csv", "question,answer\n1,2\n", 'no column "prompt"; the columns are: question, answer'),
        ("p.csv", "promt\n1\n", 'did you mean "promt"'),
    ],
)
def test_malformed_files(write: Write, name: str, content: str, says: str) -> None:
    path = write(name, content)
    message = fails(path)
    assert says in message
    assert str(path) in message


def test_unknown_format(write: Write) -> None:
    assert "Unsupported input format: xml; use one of txt" in fails(write("p.txt", "x"), format="xml")


# --- validation ----------------------------------------------------------------------------------------------------


def test_report_counts_everything(write: Write) -> None:
    lines = ['"one"', '""', "{bad", '"one"', '"three words here"', '{"prompt": " "}', "", '{"x": 1}', '"one"']
    source = open_source(write("p.jsonl", "\n".join(lines)))
    seen: list[int] = []
    report = validate(source, count_tokens=lambda r: len(r.text.split()), context=2, progress=seen.append)
    assert (report.total, report.empty, report.empty_at) == (6, 2, [2, 6])
    assert (report.malformed, [p for p, _ in report.malformed_at]) == (2, [3, 8])
    assert (report.duplicates, report.duplicate_pairs) == (2, [(1, 4), (1, 9)])
    assert report.too_long_at == [(5, 3)]
    assert (report.blank, report.longest, report.longest_at) == (1, 16, 5)
    assert not report.ok
    assert seen[-1] == 8
    text = "\n".join(report.lines())
    for part in ("2 lines are malformed", "2 prompts are empty", "2 prompts repeat", "longer than the model's context"):
        assert part in text
    assert len(report.lines()) == 3 + len(report.problems)


def test_skip_invalid_leaves_out_and_counts(write: Write) -> None:
    source = open_source(write("p.jsonl", '"a"\n""\n{\n"b"\n'), skip_invalid=True)
    assert [r.text for r in source] == ["a", "b"]
    assert (source.tally.skipped_empty, source.tally.skipped_malformed) == (1, 1)
    report = validate(source)
    assert report.ok
    assert report.total == 2
    assert {p.severity for p in report.problems} == {"warning"}


def test_empty_prompts_are_kept_unless_told_otherwise(write: Write) -> None:
    assert texts(write("p.json", '["a", ""]')) == ["a", ""]


def test_duplicates_are_warnings_and_chats_differ_by_all_their_messages() -> None:
    assert validate(from_prompts(["a", "a"])).ok
    report = validate(from_prompts(["a"] * 20), limit_examples=3)
    assert (report.duplicates, len(report.duplicate_pairs)) == (19, 3)
    assert report.lines()[-1].endswith(", …")


def test_chats_are_duplicates_only_with_the_same_messages(write: Write) -> None:
    def line(system: str) -> str:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": "hi"}]
        return json.dumps({"custom_id": "same", "messages": turns}) + "\n"

    report = validate(open_source(write("p.jsonl", line("a") + line("b") + line("a"))))
    assert report.duplicate_pairs == [(1, 3)]
    assert report.duplicate_ids == 2


def test_many_prompts_in_flat_memory(write: Write) -> None:
    import tracemalloc

    path = write("p.txt", "".join(f"prompt number {i % 90_000}\n" for i in range(100_000)))
    tracemalloc.start()
    report = validate(open_source(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (report.total, report.duplicates) == (100_000, 10_000)
    assert peak < 8_000_000  # a set of the texts would take 15 MB


def test_json_taken_whole_is_said(write: Write) -> None:
    report = validate(open_source(write("p.json", '{"prompt": "x"}')))
    assert report.ok
    assert report.problems[0].code == "taken_whole"


# --- properties ----------------------------------------------------------------------------------------------------

LINE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FAST
@given(st.lists(LINE, min_size=1))
def test_jsonl_round_trip(tmp_path: Path, prompts: list[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in prompts).encode())
    assert texts(path) == prompts


@FAST
@given(st.lists(LINE, min_size=1))
def test_txt_round_trip(tmp_path: Path, prompts: list[str]) -> None:
    kept = [p.strip() for p in prompts if p.strip() and not p.strip().startswith("#") and not set(p) & {"\r", "\n"}]
    path = tmp_path / "p.txt"
    path.write_bytes(("x\n" + "".join(p + "\n" for p in kept)).encode())
    assert texts(path) == ["x", *kept]


@FAST
@given(st.binary(max_size=60), st.sampled_from(["txt", "json", "jsonl", "csv"]))
def test_any_bytes_give_prompts_or_one_sentence(tmp_path: Path, data: bytes, format_: str) -> None:
    path = tmp_path / "p.bin"
    path.write_bytes(data)
    try:
        source = open_source(path, format=format_)
    except SourceError:
        return
    report = validate(source)
    for problem in report.problems:
        assert problem.count
    try:
        count = len(list(source.requests()))
    except SourceError:
        assert not report.ok
    else:
        assert count == report.total


def test_a_chat_that_ends_in_its_answer_is_asked_without_it(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    lines = [
        {"messages": turns},
        {"messages": turns, "reference": "two"},
        {"messages": turns[:1]},
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": turns}},
    ]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    found = [entry.request for entry in open_source(file).entries()]
    assert [len(request.extra["messages"]) for request in found] == [1, 1, 1, 2]
    assert [request.columns for request in found] == [{"reference": "2"}, {"reference": "two"}, None, None]
    report = validate(open_source(file))
    assert report.known_answers == 2 and any("kept as `reference`" in problem.text for problem in report.problems)
