"""Folders and the Hugging Face Hub behind one interface; the latter against its own wire format on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.hub import HubServer
from small_city import NYC, make_city

from batch.running.policy import RetryPolicy
from batch.semantic_ids import (
    BatchInferenceManager,
    BatchInferenceProcessor,
    FolderHub,
    HuggingFaceHub,
    SemanticIdError,
)
from batch.semantic_ids.hub import MissingTokenError
from batch.semantic_ids.task import prepare

TOKEN = "hf_thisMustNeverBeSeen"
DATASET = "comp5331poi/nyc"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # large files go through git LFS then
    monkeypatch.setenv("HF_TOKEN", "")
    with HubServer(token=TOKEN, repos={f"datasets/{DATASET}": {"a.txt": b"hello"}}) as server:
        yield server


def client(server: HubServer, token: str = TOKEN) -> HuggingFaceHub:
    return HuggingFaceHub(token, endpoint=server.url, retries=RetryPolicy(2, base=0), sleep=lambda s: None)


def test_files_are_listed_and_fetched(server: HubServer) -> None:
    hub = client(server, "")
    assert hub.files(DATASET, "dataset") == ["a.txt"]
    assert hub.fetch(DATASET, "a.txt", "dataset").read_bytes() == b"hello"
    assert not server.tokens  # no token of this machine is taken instead


@pytest.mark.parametrize("large", [False, True])
def test_a_file_is_uploaded_in_one_commit(server: HubServer, tmp_path: Path, large: bool) -> None:
    server.large = large
    file = tmp_path / "codebooks-x.csv"
    file.write_bytes(b"Pid,Codebook,Vector\n" * (700_000 if large else 1))
    address = client(server).upload(file, DATASET, "LLM Dataset/Intermediate Files/codebooks-x.csv")
    held = server.repos[f"datasets/{DATASET}"]
    assert held["LLM Dataset/Intermediate Files/codebooks-x.csv"] == file.read_bytes()
    assert server.tokens == {TOKEN}
    assert sum("commit/main" in line for line in server.requests) == 1
    assert address == (f"{server.url}/datasets/{DATASET}/blob/main/LLM%20Dataset/Intermediate%20Files/codebooks-x.csv")


def test_what_will_pass_is_tried_again(server: HubServer, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("x")
    waits: list[float] = []
    hub = HuggingFaceHub(TOKEN, endpoint=server.url, retries=RetryPolicy(2, base=0.5), sleep=waits.append)
    server.failures = [409, 409]  # the library itself does not try these again
    hub.upload(file, DATASET, "x.csv")
    assert len(waits) == 2 and server.repos[f"datasets/{DATASET}"]["x.csv"] == b"x"


def test_what_will_not_is_not(server: HubServer, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("x")
    with pytest.raises(SemanticIdError, match=r"refuses access to x\.csv of the dataset comp5331poi/nyc") as caught:
        client(server, "hf_wrong").upload(file, DATASET, "x.csv")
    assert "HF_TOKEN" in str(caught.value) and "hf_wrong" not in str(caught.value)
    assert len(server.requests) == 1
    with pytest.raises(SemanticIdError, match="There is no dataset comp5331poi/paris"):
        client(server).files("comp5331poi/paris", "dataset")


def test_a_hub_that_is_not_there_is_one_sentence(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # the library's own tries
    hub = HuggingFaceHub(TOKEN, endpoint="http://127.0.0.1:9", retries=RetryPolicy(0), sleep=lambda s: None)
    with pytest.raises(SemanticIdError, match="cannot be reached") as caught:
        hub.files(DATASET, "dataset")
    assert "\n" not in str(caught.value)
    asked: list[str] = []
    monkeypatch.setattr(hub, "files", lambda repo, kind: asked.append(repo) or hub.fetch(repo, "x", kind))
    results = BatchInferenceManager(hub=hub, say=lambda text: None).process_models()
    assert len(results) == 10 and all("cannot be reached" in str(result.error) for result in results)
    assert len(asked) == 1  # the others would only have been waited for


def test_without_a_token_nothing_is_sent(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(MissingTokenError, match="HF_TOKEN not set!"):
        client(server, "").upload(tmp_path / "x", DATASET, "x")
    assert server.requests == []


def test_the_token_is_in_no_text(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub = HuggingFaceHub()
    assert hub.has_token and TOKEN not in repr(hub) and TOKEN not in str(vars(BatchInferenceProcessor(TOKEN)))


def test_a_model_goes_from_the_hub_and_back_to_it(server: HubServer, tmp_path: Path) -> None:
    city = make_city(tmp_path / "city", rows=30, models=(NYC,))
    server.repos[f"comp5331poi/{NYC}"] = {"rqvae_best.pt": (city / "models" / NYC / "rqvae_best.pt").read_bytes()}
    dataset = server.repos[f"datasets/{DATASET}"]
    for file in (city / "datasets" / "NYC").rglob("*.*"):
        dataset[file.relative_to(city / "datasets" / "NYC").as_posix()] = file.read_bytes()
    result = BatchInferenceProcessor(hub=client(server)).process_model(f"comp5331poi/{NYC}")
    assert result.files == ()  # they lived only until they were uploaded
    sent = dataset[f"LLM Dataset/Intermediate Files/codebooks-{NYC}.csv"]
    assert sent.count(b"\n") == 31
    local = BatchInferenceProcessor(hub=FolderHub(city), output_dir=tmp_path / "out").process_model(f"models/{NYC}")
    assert local.files[0].read_bytes() == sent


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_finds_models_and_datasets_in_several_places(tmp_path: Path) -> None:
    city = make_city(tmp_path / "city", rows=9, models=(NYC,))
    assert prepare(f"models/{NYC}", FolderHub(city)).rows == 9
    assert prepare(f"comp5331poi/{NYC}", FolderHub(city)).rows == 9
    (city / "datasets" / "NYC").rename(city / "nyc")
    assert prepare(NYC, FolderHub(city)).rows == 9


def test_an_upload_into_a_folder_stands_in_its_dataset(tmp_path: Path) -> None:
    city = make_city(tmp_path / "city", models=(NYC,))
    file = tmp_path / "x.csv"
    file.write_text("x")
    hub = FolderHub(city)
    target = Path(hub.upload(file, DATASET, "LLM Dataset/Intermediate Files/x.csv"))
    assert target == city / "datasets/NYC/LLM Dataset/Intermediate Files/x.csv" and target.read_text() == "x"
    assert hub.address(DATASET, "LLM Dataset/Intermediate Files/x.csv") == str(target)
    hub.upload(target, DATASET, "LLM Dataset/Intermediate Files/x.csv")  # onto itself
    assert target.read_text() == "x"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SemanticIdError, match="There is no folder"):
        FolderHub(tmp_path / "none")
    with pytest.raises(SemanticIdError, match="There is no model x in"):
        FolderHub(tmp_path).files("x", "model")
