"""Feature tables: each kind of file gives the same rows, read from where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.features import from_array, open_features

pytestmark = pytest.mark.model

TABLE = np.random.default_rng(0).integers(0, 2, (5000, 37))


def write(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".pt":
        torch.save(torch.from_numpy(array), path)
    else:
        from safetensors.numpy import save_file

        save_file({"features": array}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_, np.float16, np.float64, np.int64])
def test_rows_come_as_they_are_stored(suffix: str, dtype: type, tmp_path: Path) -> None:
    table = open_features(write(tmp_path / f"features{suffix}", TABLE.astype(dtype)))
    assert (len(table), table.width) == TABLE.shape
    for start, stop in ((0, 10), (4990, 5000), (17, 18), (0, 5000)):
        part = table.read(start, stop)
        assert part.dtype == dtype
        assert (part == TABLE[start:stop]).all()


def test_rows_that_were_given_back_are_read_again(tmp_path: Path) -> None:
    table = open_features(write(tmp_path / "features.npy", TABLE.astype(np.float32)))
    for start in range(0, 5000, 1000):
        table.prefetch(start, start + 1000)
        first = table.read(start, start + 1000).copy()
        table.release(start, start + 1000)
        assert (table.read(start, start + 1000) == first).all()
    assert (table.read(0, 5000) == TABLE).all()


def test_nothing_can_write_into_the_file(tmp_path: Path) -> None:
    table = open_features(write(tmp_path / "features.npy", TABLE.astype(np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        table.read(0, 10)[:] = 7


def resident(path: Path) -> int:
    """KiB of a file that this process has mapped in."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    total = 0
    for line in lines:
        if line.endswith(str(path)):
            total += next(int(more.split()[1]) for more in lines if more.startswith("Rss:"))
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's view of a process's memory")
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    path = write(tmp_path / "features.npy", np.ones((16_000, 512), dtype=np.float32))  # 32 MB
    table = open_features(path)
    largest = 0
    for start in range(0, 16_000, 1000):
        assert table.read(start, start + 1000).sum() == 512_000
        largest = max(largest, resident(path))
        table.release(start, start + 1000)
    assert 1000 < largest < 8_000
    assert resident(path) < 1000


def test_an_array_s_own_memory_map_keeps_what_was_written_to_it(tmp_path: Path) -> None:
    write(tmp_path / "features.npy", TABLE.astype(np.float32))
    array = np.load(tmp_path / "features.npy", mmap_mode="c")
    array[:] = 7
    table = from_array(array)
    table.release(0, 5000)
    assert (table.read(0, 5000) == 7).all()


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensor = torch.tensor([[0.5, 1.0], [2.0, -4.0]], dtype=torch.bfloat16)
    torch.save(tensor, tmp_path / "x.pt")
    save_file({"x": tensor}, tmp_path / "x.safetensors")
    for name in ("x.pt", "x.safetensors"):
        part = open_features(tmp_path / name).read(0, 2)
        assert part.dtype == np.float32
        assert part.tolist() == tensor.tolist()


def test_the_table_is_found_among_other_tensors(tmp_path: Path) -> None:
    others = {"ids": torch.arange(3), "features": torch.ones(3, 4), "more": torch.zeros(2, 2)}
    torch.save(others, tmp_path / "named.pt")
    torch.save({"ids": torch.arange(3), "only": torch.ones(3, 5)}, tmp_path / "only.pt")
    torch.save({"a": torch.ones(3, 4), "b": torch.ones(3, 4)}, tmp_path / "two.pt")
    assert open_features(tmp_path / "named.pt").width == 4
    assert open_features(tmp_path / "only.pt").width == 5
    with pytest.raises(SemanticIdError, match=r'holds a, b: name the table .* "features"'):
        open_features(tmp_path / "two.pt")


def test_files_written_by_old_versions_of_torch_are_read(tmp_path: Path) -> None:
    torch.save(torch.ones(3, 4), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert open_features(tmp_path / "old.pt").read(0, 3).tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.npy", b"\x93NUMPY\x01", "cut off or damaged"),
        ("x.npy", b"hello", "cannot be read"),
        ("x.pt", b"hello", "cut off or damaged"),
        ("x.safetensors", b"hello", "cut off or damaged"),
        ("x.csv", b"1,2", "no feature table"),
    ],
)
def test_other_files_are_refused(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SemanticIdError, match=told):
        open_features(tmp_path / name)


def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "line.npy", np.zeros(5))
    np.save(tmp_path / "objects.npy", np.array([[1, "a"]], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    torch.save(torch.eye(3).to_sparse(), tmp_path / "sparse.pt")
    torch.save("text", tmp_path / "text.pt")
    for name, told in [
        ("line.npy", r"shape \[5\]"),
        ("objects.npy", "Python objects"),
        ("text.npy", "no real numbers"),
        ("sparse.pt", "sparse"),
        ("text.pt", "no tensor"),
        ("none.npy", "does not exist"),
    ]:
        with pytest.raises(SemanticIdError, match=told):
            open_features(tmp_path / name)


def test_a_file_cut_off_in_its_numbers_is_refused(tmp_path: Path) -> None:
    for suffix in (".npy", ".pt", ".safetensors"):
        path = write(tmp_path / f"x{suffix}", TABLE.astype(np.float32))
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(SemanticIdError, match="cut off or damaged"):
            open_features(path)
