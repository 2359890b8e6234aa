"""Packed weights and the runner of an earlier start: used where they are sound, and never believed otherwise."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch

from batch.engines.torch import native, packed, prepared, runner, shelf, verdicts
from batch.engines.torch.engine import TorchCore
from batch.engines.torch.lean import kept, weights
from batch.engines.torch.loader import Loaded, load
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
KEPT: list[tuple[Any, Path]] = []  # an entry that was made once, and the logits of its model
IDS = torch.tensor([[5, 17, 300, 4, 99, 12, 7]])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of packed weights, by itself; skips where there are no packed products."""
    quick = native.kernels()
    if quick is None or not quick.panel:
        pytest.skip("needs the kernels' packed products (AVX-512 VNNI)")
    for name in ("trials", "weights"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr(verdicts, "_folder", lambda: tmp_path / "trials")
    monkeypatch.setattr(shelf, "folder", lambda: tmp_path / "weights")
    return tmp_path / "weights"


def loaded_and_kept(precision: str = "int8") -> Loaded:
    found = load(DEMO, precision)
    for thread in threading.enumerate():
        if thread.name == "prepared":
            thread.join(60)
    return found


def logits(found: Loaded) -> Any:
    with torch.inference_mode():
        return found.model(IDS).logits


def entries(cache: Path) -> list[Path]:
    """Of packed weights."""
    return [path for path in cache.iterdir() if not path.name.startswith("tmp-") and not (path / kept.FILE).exists()]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_next_start_only_reads_what_was_packed(
    cache: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded_and_kept(precision)
    assert len(entries(cache)) == 1 and sorted(p.name for p in entries(cache)[0].iterdir()) == ["index.json", "numbers"]
    monkeypatch.setattr(weights, "open_folder", lambda folder: pytest.fail("the weights were read again"))
    again = load(DEMO, precision)
    assert torch.equal(logits(first), logits(again)) and first.about == again.about
    assert first.end_ids == again.end_ids and first.context == again.context and first.key == again.key


def spoil(folder: Path, how: str) -> None:
    numbers, index = folder / "numbers", folder / "index.json"
    if how == "a bit":
        with numbers.open("r+b") as file:
            file.seek(1000)
            byte = file.read(1)
            file.seek(1000)
            file.write(bytes([byte[0] ^ 4]))
    elif how == "a bit of the norms":
        with numbers.open("r+b") as file:
            file.seek(-200, os.SEEK_END)
            byte = file.read(1)
            file.seek(-200, os.SEEK_END)
            file.write(bytes([byte[0] ^ 4]))
    elif how == "cut":
        os.truncate(numbers, 5000)
    elif how == "no index":
        index.unlink()
    else:
        read = json.loads(index.read_bytes())
        said = read["index"]
        if how == "a place outside":
            next(iter(said["products"].values()))["parts"]["weight"][0] = 2**40
        elif how == "a layer less":
            said["products"].popitem()
        elif how == "another shape":
            next(iter(said["products"].values()))["shape"][0] += 1
        if how != "a layer less":  # which only the sum tells
            read["sum"] = shelf.sum_of(said)
        index.write_text(json.dumps(read if how != "other" else [1, 2]))


SPOILT = (
    "a bit",
    "a bit of the norms",
    "cut",
    "no index",
    "a place outside",
    "a layer less",
    "another shape",
    "other",
)


@pytest.mark.parametrize("how", SPOILT)
def test_an_entry_that_is_not_sound_is_packed_anew(
    cache: Path, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not KEPT:
        first = loaded_and_kept()
        KEPT.append((logits(first), tmp_path_factory.mktemp("kept") / "all"))
        shutil.copytree(cache.parent, KEPT[0][1])
    expected, kept = KEPT[0]
    shutil.copytree(kept, cache.parent, dirs_exist_ok=True)
    spoil(entries(cache)[0], how)
    assert torch.equal(logits(loaded_and_kept()), expected)
    again = shelf.find(entries(cache)[0].name)
    assert (
        again is not None and prepared.model_of(again, weights.table_of(DEMO, None)).config.num_hidden_layers == 6
    )  # the entry is whole again


def test_an_entry_that_cannot_be_read_now_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = cache / "kept"
    place.mkdir()

    def full(folder: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(shelf, "Entry", full)
    assert shelf.find("kept") is None and place.is_dir()


def test_entries_that_were_used_least_lately_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded_and_kept()
    kept = entries(cache)[0]
    size = sum(file.stat().st_size for file in kept.iterdir())
    for name in ("older", "newer"):
        (cache / name).mkdir()
        (cache / name / "numbers").write_bytes(bytes(1000))
    os.utime(cache / "older", (1, 1))
    monkeypatch.setattr(shelf, "MOST_BYTES", size + 1500)
    shelf.bound(cache)
    assert {path.name for path in entries(cache)} == {kept.name, "newer"}


def test_what_is_too_large_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MOST_BYTES", 1000)
    loaded_and_kept()
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_packed_weights_lie_in_memory_that_may_have_large_pages(cache: Path) -> None:
    loaded_and_kept()
    (folder,) = entries(cache)
    entry = shelf.find(folder.name)
    assert entry is not None
    packed, _ = entry.numbers()
    place = ctypes.addressof(ctypes.c_char.from_buffer(packed))
    ranges = [line.split()[:2] for line in Path("/proc/self/maps").read_text().splitlines()]
    (flags,) = [f for span, f in ranges for a, b in [span.split("-")] if int(a, 16) <= place < int(b, 16)]
    assert flags == "rw-p"  # of shared memory they are given only where the system was told to


def test_the_runner_is_taken_without_a_trial_while_its_logits_are_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[int] = []
    real = runner._trial
    monkeypatch.setattr(runner, "_trial", lambda *arguments: trials.append(1) or real(*arguments))
    found = loaded_and_kept()
    first = TorchCore(found, SamplingOptions(max_tokens=8), 2)
    again = TorchCore(found, SamplingOptions(max_tokens=8), 2)
    assert len(trials) == 1 and first.about == again.about
    answers = []
    for core in (first, again):
        core.submit(BatchItem(0, Request("What is a stack?")))
        while core.busy:
            answers += [response.data.text for response in core.step()]
    assert answers[0] == answers[1]
    found.model.model.norm.weight.mul_(1.01)  # as a damaged weight would
    TorchCore(found, SamplingOptions(), 2)
    assert len(trials) == 2
    for path in verdicts._folder().iterdir():
        path.write_text('{"runner": "native packed", "notes": 3, "logits": "x"}')
    TorchCore(found, SamplingOptions(), 2)
    assert len(trials) == 3
    for path in verdicts._folder().iterdir():
        path.write_text('{"runner": "native packed", "notes": [], "logits": []}')
    TorchCore(found, SamplingOptions(), 2)
    assert len(trials) == 4


@pytest.mark.skipif(os.name != "posix", reason="whether a process is gone is told by its number")
def test_what_a_process_left_that_was_ended_while_it_wrote_goes_at_once(cache: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"tmp-{ended.pid}-x", "tmp-x"):
        (cache / name).mkdir()
    mine = shelf.scratch(cache)
    shelf.sweep(cache)
    assert {path.name for path in cache.iterdir()} == {mine.name, "tmp-x"}  # of which nobody is known


def test_the_width_of_a_batch_is_not_tried_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []
    real = packed.PackedRunner.find_sizes
    monkeypatch.setattr(
        packed.PackedRunner, "find_sizes", lambda self, seconds=0.5: tried.append(seconds) or real(self, seconds)
    )
    found = loaded_and_kept()
    first, again = (TorchCore(found, SamplingOptions()) for _ in range(2))
    assert len(tried) == 1 and first.room == again.room and first._runner.step_tokens == again._runner.step_tokens
    assert TorchCore(found, SamplingOptions(), 2).room == 2  # as asked
    for path in verdicts._folder().glob("*-sizes.json"):
        path.write_text('{"width": 7}')
    assert TorchCore(found, SamplingOptions()).room in packed.SIZES and len(tried) == 2
