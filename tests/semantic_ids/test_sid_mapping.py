"""pid_mapping.csv: whose row is whose."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.layout import read_mapping


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@given(total=st.integers(1, 200), seed=st.integers(0, 9))
def test_any_order_of_one_to_n_is_a_mapping(tmp_path_factory: pytest.TempPathFactory, total: int, seed: int) -> None:
    pids = list(range(1, total + 1))
    random.Random(seed).shuffle(pids)
    lines = [f"place {n},{pid}" for n, pid in enumerate(pids)]
    path = write(tmp_path_factory.mktemp("m") / "m.csv", "\n".join(["Original_Pid,Mapped_Pid", *lines, "", ""]))
    assert read_mapping(path) == total


@given(pids=st.lists(st.integers(-3, 12), min_size=1, max_size=9))
def test_nothing_else_is(tmp_path_factory: pytest.TempPathFactory, pids: list[int]) -> None:
    lines = [f"{n},{pid}" for n, pid in enumerate(pids)]
    path = write(tmp_path_factory.mktemp("m") / "m.csv", "\n".join(["Original_Pid,Mapped_Pid", *lines]))
    if sorted(pids) == list(range(1, len(pids) + 1)):
        assert read_mapping(path) == len(pids)
    else:
        with pytest.raises(SemanticIdError):
            read_mapping(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Original_Pid,Mapped_Pid\na,1\nb,2\nc,2\n", "Mapped_Pid 2 stands twice, in rows 2 and 3"),
        ("Original_Pid,Mapped_Pid\na,1\nb,5\n", "Mapped_Pid 5 in row 2 is not within 1 to 2"),
        ("Original_Pid,Mapped_Pid\na,0\nb,1\n", "Mapped_Pid 0 in row 1 is not within 1 to 2"),
        ("Original_Pid,Mapped_Pid\na,1\na,2\n", "Original_Pid a stands twice, in rows 1 and 2"),
        ("Original_Pid,Mapped_Pid\na,x\n", "line 2: 'a,x' has no whole number as Mapped_Pid"),
        ("Original_Pid,Mapped_Pid\na\n", "line 2"),
        ("Pid,Id\na,1\n", "has no column Mapped_Pid"),
        ("Original_Pid,Mapped_Pid\n", "names no Pids"),
        ("", "has no column Mapped_Pid"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "pid_mapping.csv", text)
    with pytest.raises(SemanticIdError) as caught:
        read_mapping(path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(SemanticIdError, match="There is no"):
        read_mapping(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"Original_Pid,Mapped_Pid\n\xff\xfe,1\n")
    with pytest.raises(SemanticIdError, match="not UTF-8"):
        read_mapping(tmp_path / "bytes.csv")


def test_a_byte_order_mark_and_other_columns_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "\ufeffMapped_Pid,Name\n2,b\n1,a\n")
    assert read_mapping(path) == 2
