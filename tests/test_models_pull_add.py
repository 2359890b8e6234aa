"""`models pull` against a hub on loopback, and `models add` to a file with comments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from servers.hub import HubServer

from ai_router.models import pulling
from ai_router.models.adding import AddError, add_entry, name_for, remove_entry
from ai_router.models.entries import read_entries
from ai_router.models.pulling import HubFile, PullError, PullStoppedError, chosen, pull, split_name
from tests.engines.test_gguf_header import written

pytest.importorskip("gguf")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    data = written(tmp_path / "m.gguf").read_bytes()
    repos = {
        "org/m-GGUF": {"m-Q8_0.gguf": data, "m-Q4_0.gguf": data + b"4", "mmproj-m.gguf": b"x", "README.md": b"#"},
        "org/plain": {"config.json": b"{}", "model.safetensors": b"weights", "run.py": b"print()"},
    }
    with HubServer(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield server


def test_a_gguf_file_and_a_folder(hub: HubServer) -> None:
    told: list[str] = []
    place = pull("org/m-GGUF:q8_0", told.append)
    assert place.name == "m-Q8_0.gguf" and place.read_bytes() == hub.repos["org/m-GGUF"]["m-Q8_0.gguf"]
    assert told[0] == f"Asking {os.environ['HF_ENDPOINT']} what org/m-GGUF has…"
    assert "free" in told[1] and told[2].startswith("1 of 1: m-Q8_0.gguf")
    folder = pull("org/plain", told.append)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    before = len(hub.requests)
    pull("org/plain", told.append)
    assert not any(line.startswith("GET") and "resolve" in line for line in hub.requests[before:])


def test_stopped_in_the_middle_and_gone_on_with(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 64)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    whole = len(hub.repos["org/m-GGUF"]["m-Q8_0.gguf"])
    heard: list[tuple[int, int]] = []

    def two(done: int, of: int) -> bool:
        heard.append((done, of))
        return len(heard) < 2

    with pytest.raises(PullStoppedError, match="pull it again to go on"):
        pull("org/m-GGUF:q8_0", lambda line: None, two)
    assert heard == [(64, whole), (128, whole)] and hub.ranges == []
    place = pull("org/m-GGUF:q8_0", lambda line: None, lambda done, of: heard.append((done, of)) is None)
    assert hub.ranges and hub.ranges[0] > 0 and heard[-1] == (whole, whole)
    assert place.read_bytes() == hub.repos["org/m-GGUF"]["m-Q8_0.gguf"]


def test_what_cannot_be_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PullError, match=r"m-Q4_0.gguf, m-Q8_0.gguf; name one"):
        pull("org/m-GGUF", print)
    with pytest.raises(PullError, match="no model org/none"):
        pull("org/none", print)
    with pytest.raises(PullError, match="names no model"):
        pull("none", print)
    hub.sums["m-Q8_0.gguf"] = "0" * 64
    with pytest.raises(PullError, match="came damaged"):
        pull("org/m-GGUF:Q8_0", print)
    del hub.sums["m-Q8_0.gguf"]
    assert pull("org/m-GGUF:Q8_0", print).is_file()
    monkeypatch.setattr(pulling, "SPARE", 2**62)
    with pytest.raises(PullError, match="GB free"):
        pull("org/m-GGUF:Q8_0", print)
    for nowhere in ("", "hub.example"):
        monkeypatch.setenv("HF_ENDPOINT", nowhere)
        with pytest.raises(PullError, match="HF_ENDPOINT is no address"):
            pull("org/m-GGUF:Q8_0", print)


def test_a_hub_that_cannot_be_reached_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    lines: list[str] = []
    with pytest.raises(PullError, match=r"http://127\.0\.0\.1:1 cannot be reached: .*; pull it again later"):
        pull("org/m-GGUF:Q8_0", lines.append)
    assert lines == ["Asking http://127.0.0.1:1 what org/m-GGUF has…"]


def test_which_files() -> None:
    assert split_name("a/b:c") == ("a/b", "c") and split_name("a/b/d/c.gguf") == ("a/b", "d/c.gguf")
    parts = [HubFile(f"m-0000{n}-of-00002.gguf", 1, None) for n in (1, 2)]
    assert [file.path for file in chosen(parts, "", "a/b")] == [parts[1].path, parts[0].path]


TEXT = """\
# mine
models:
  big:   # the large one
    path: "~/models/big"
    sampling: {temperature: 0.70}
"""


def test_adding_keeps_what_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(TEXT)
    add_entry(file, "new", {"path": "/x/y.gguf", "engine": "gguf"})
    assert file.read_text() == TEXT + "  new:\n    path: /x/y.gguf\n    engine: gguf\n"
    with pytest.raises(AddError, match="already"):
        add_entry(file, "big", {"path": "/z"})
    add_entry(tmp_path / "other" / "models.yaml", "one", {"url": "http://127.0.0.1:1/v1"})
    assert "one:" in (tmp_path / "other" / "models.yaml").read_text()
    file.write_text("- a list")
    with pytest.raises(AddError, match="no list of models"):
        add_entry(file, "one", {})
    assert name_for("/a/b c.gguf") == "b-c" and name_for("http://127.0.0.1:8080/v1") == "v1"


MORE = """\
# mine
models:
  # of the house
  first: {path: a}   # short

  big:   # the large one
    path: "~/models/big"
    sampling:
      temperature: 0.70
      # hot

  # about the last
  last: &all
    path: b
  copy: *all
routes: []  # none
"""


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("first", ["  first: {path: a}   # short"]),
        ("big", ["  big:   # the large one", '    path: "~/models/big"', "    sampling:", "      temperature: 0.70"]),
        ("copy", ["  copy: *all"]),
    ],
)
def test_removing_keeps_what_stands_there(tmp_path: Path, name: str, gone: list[str]) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(MORE)
    remove_entry(file, name)
    assert file.read_text().splitlines() == [line for line in MORE.splitlines() if line not in gone]
    with pytest.raises(AddError, match=f"has no model {name}"):
        remove_entry(file, name)


def test_what_cannot_be_removed_as_lines_is_removed_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: {a: {path: x}, b: {path: y}}  # both\n")
    remove_entry(file, "a")
    assert file.read_text().split() == ["models:", "{b:", "{path:", "y}}", "#", "both"]
    file.write_text("models:\n  3:\n    path: x\n")
    remove_entry(file, "3")
    add_entry(file, "new", {"path": "z"})
    assert file.read_text() == "models:\n  new:\n    path: z\n"
    file.write_text(MORE)
    remove_entry(file, "last")  # which is written out where it is used
    assert [spec.id for spec in read_entries(file)] == ["first", "big", "copy"]
