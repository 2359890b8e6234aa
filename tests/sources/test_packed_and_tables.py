"""Files that are no plain text: gzip of any format, tables with types, Excel's first line, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch.errors import SourceError
from batch.sources import load_prompts, open_source, validate

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = {
    "p.txt": "# c\none\ntwo\n",
    "p.json": '["one", "two"]',
    "p.jsonl": '"one"\n{"prompt": "two"}\n',
    "p.csv": "prompt,x\none,1\ntwo,2\n",
    "p.tsv": "prompt\tx\none\t1\ntwo\t2\n",
}


@pytest.mark.parametrize("name", FILES)
def test_gzip_of_any_text_is_read(tmp_path: Path, name: str) -> None:
    plain, packed, bare = tmp_path / name, tmp_path / f"{name}.gz", tmp_path / f"bare.{name.split('.')[1]}"
    plain.write_text(FILES[name])
    for path in (packed, bare):  # the bytes say that it is compressed, not the name
        path.write_bytes(gzip.compress(FILES[name].encode("utf-8-sig")))
        assert list(open_source(path)) == list(open_source(plain))
        assert open_source(path).format == open_source(plain).format
        assert validate(open_source(path)).ok
    assert load_prompts(packed) == ["one", "two"]
    with open_source("-", stdin=io.BytesIO(packed.read_bytes()), format=open_source(plain).format) as source:
        assert [r.text for r in source] == ["one", "two"] == [r.text for r in source]
    with open_source("-", stdin=io.BytesIO(gzip.compress(b'{"prompt": "x"}\n'))) as source:
        assert (source.format, [r.text for r in source]) == ("jsonl", ["x"])


@FAST
@given(st.data())
def test_damaged_gzip_is_one_sentence(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(gzip.compress(b"\n".join(b"line %d" % n for n in range(2000))))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(3, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(3, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "p.txt.gz"
    path.write_bytes(bytes(whole))
    try:
        texts = load_prompts(path)
    except SourceError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert texts == [f"line {n}" for n in range(2000)]  # a flipped bit of the header


def test_bad_bytes_in_gzip_have_their_place(tmp_path: Path) -> None:
    path = tmp_path / "p.txt.gz"
    path.write_bytes(gzip.compress(b"fine\ncaf\xe9\n"))
    with pytest.raises(SourceError, match="line 2, byte 4"):
        load_prompts(path)


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_excels_first_line_says_the_delimiter(tmp_path: Path, first: str, mark: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"{mark}{first}\r\nprompt;x\r\na, b;1\r\n;;;\r\n", newline="")
    entries = list(open_source(path).entries())
    assert entries[0].request and (entries[0].request.text, entries[0].request.columns) == ("a, b", {"x": "1"})
    assert [entry.position for entry in entries] == [3, 4]  # as an editor counts them
    assert "4 fields where the header has 2" in str(entries[1].error)


def test_a_tsv_is_between_tabs_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text("prompt,x\tq\nno\ta, b\n")
    assert [r.text for r in open_source(path, column="q")] == ["a, b"]
    with pytest.raises(SourceError, match=r"the columns are: prompt,x, q"):
        load_prompts(path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_typed_table_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    columns = {"Prompt": ["one", None], "n": [1, 2], "t": [datetime.date(2026, 1, 2)] * 2, "l": [[1.5], None]}
    table = pa.table(columns)
    path = tmp_path / "table.bin"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    source = open_source(path)
    assert (source.format, source.unit) == (kind, "row")
    first, second = source.entries()
    assert first.request and first.request.text == "one"
    assert first.request.columns == {"n": 1, "t": "2026-01-02", "l": [1.5]}
    assert json.dumps(first.request.columns)
    assert second.request and second.request.text == ""
    assert validate(open_source(path)).empty_at == [2]
    with open_source("-", stdin=io.BytesIO(path.read_bytes())) as piped:
        assert [r.text for r in piped.requests()] == ["one", ""]
    with pytest.raises(SourceError, match='no column "x"'):
        list(open_source(path, column="x"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError) as caught:
        list(open_source(path))
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)
    (tmp_path / "t.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(SourceError, match="inside gzip"):
        list(open_source(tmp_path / "t.gz"))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1 and more")
    with pytest.raises(SourceError, match=r"ai-router\[tables\]"):
        list(open_source(path))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04rest", "Excel"),
        (b"BZh91AY", "bunzip2"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"%PDF-1.7", "PDF"),
        (b"SQLite format 3\0", "database"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=says):
        open_source(path)
