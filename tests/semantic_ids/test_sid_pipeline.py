"""From a folder to files of codebooks: the processor, the manager, and what is wrong with inputs."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from small_city import CODEWORDS, NYC, TKY, WIDTH, make_city, make_dataset, make_features, make_model, write_mapping

from batch.semantic_ids import (
    BatchInferenceManager,
    BatchInferenceProcessor,
    CodebookOptions,
    FolderHub,
    HuggingFaceHub,
    SemanticIdError,
)
from batch.semantic_ids.checkpoint import load_rqvae
from batch.semantic_ids.collisions import suffixes
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.hub import MissingTokenError
from batch.semantic_ids.report import read_codebooks, report_of_file

ROWS = 60


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return make_city(tmp_path / "city", ROWS)


def run(city: Path, tmp_path: Path, model: str = NYC, **options: object) -> Path:
    """The file of codebooks of one model."""
    options.setdefault("block_rows", 16)
    chosen = CodebookOptions(**options)  # type: ignore[arg-type]
    processor = BatchInferenceProcessor(hub=FolderHub(city), output_dir=tmp_path / "out", options=chosen)
    return processor.process_model(model).files[0]


def read(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(city: Path, model: str = NYC) -> tuple[Encoder, np.ndarray, np.ndarray]:
    dataset = "NYC" if "nyc" in model else "TKY"
    encoder = Encoder(load_rqvae(city / "models" / model / "rqvae_best.pt"))
    features = make_features(ROWS, WIDTH[dataset])
    return encoder, features, encoder.encode(features).codes


def test_a_file_holds_every_pid_with_its_codes_and_features(city: Path, tmp_path: Path) -> None:
    path = run(city, tmp_path)
    assert path.name == f"codebooks-{NYC}.csv"
    assert path.read_bytes().startswith(b'Pid,Codebook,Vector\n1,"[')
    _, features, codes = expected(city)
    rows = read(path)
    assert [int(row["Pid"]) for row in rows] == list(range(1, ROWS + 1))
    assert [ast.literal_eval(row["Codebook"]) for row in rows] == codes.tolist()
    vectors = np.array([ast.literal_eval(row["Vector"]) for row in rows], np.float32)
    assert (vectors == features).all()  # every bit comes back


def test_vectors_may_be_latents_or_the_sums_of_codewords(city: Path, tmp_path: Path) -> None:
    encoder, features, codes = expected(city)
    for kind, wanted in (("quantized", encoder.quantized(codes)), ("latent", encoder.latent(features))):
        rows = read(run(city, tmp_path, vector=kind))
        vectors = np.array([ast.literal_eval(row["Vector"]) for row in rows], np.float32)
        assert vectors.shape == (ROWS, 4)
        assert np.allclose(vectors, wanted, rtol=1e-5, atol=1e-6)


def test_suffix_and_text_form(city: Path, tmp_path: Path) -> None:
    _, _, codes = expected(city)
    numbers = suffixes(codes, CODEWORDS["NYC"])
    assert (numbers >= 0).any() and (numbers < 0).any(), "the test needs both"
    for row, code, number in zip(read(run(city, tmp_path, suffix=True, sid=True)), codes, numbers, strict=True):
        wanted = code.tolist() + ([int(number)] if number >= 0 else [])
        assert ast.literal_eval(row["Codebook"]) == wanted
        assert row["SID"] == "".join(f"<{letter}_{c}>" for letter, c in zip("abcd", wanted, strict=False))
    sids = [row["SID"] for row in read(tmp_path / "out" / f"codebooks-{NYC}.csv")]
    assert len(set(sids)) == ROWS  # which is what the suffix is for


@pytest.mark.parametrize("block", [1, 7, 60, 8192])
def test_codes_do_not_depend_on_the_block(city: Path, tmp_path: Path, block: int) -> None:
    assert run(city, tmp_path, block_rows=block).read_bytes() == run(city, tmp_path / "b", block_rows=16).read_bytes()


def test_parquet_holds_the_same(city: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = run(city, tmp_path, parquet=True, suffix=True, sid=True)
    table = pq.read_table(path.with_suffix(".parquet")).to_pylist()
    rows = read(path)
    assert [row["Pid"] for row in table] == [int(row["Pid"]) for row in rows]
    assert [row["Codebook"] for row in table] == [ast.literal_eval(row["Codebook"]) for row in rows]
    assert [row["SID"] for row in table] == [row["SID"] for row in rows]
    assert np.array_equal(
        np.array([row["Vector"] for row in table], np.float32),
        np.array([ast.literal_eval(row["Vector"]) for row in rows], np.float32),
    )
    assert np.array_equal(read_codebooks(path), read_codebooks(path.with_suffix(".parquet")))


def test_rows_without_numbers_are_listed_and_left_out(city: Path, tmp_path: Path) -> None:
    features = make_features(ROWS, WIDTH["NYC"])
    features[3, 2], features[40, 0] = np.nan, np.inf
    torch.save(torch.from_numpy(features), city / "datasets/NYC/RQVAE Dataset/poi_features.pt")
    options = CodebookOptions(block_rows=16)
    processor = BatchInferenceProcessor(hub=FolderHub(city), output_dir=tmp_path / "out", options=options)
    result = processor.process_model(NYC)
    assert result.report is not None
    assert result.report.as_dict()["bad_pids"] == [4, 41]
    pids = [int(row["Pid"]) for row in read(result.files[0])]
    assert pids == [pid for pid in range(1, ROWS + 1) if pid not in (4, 41)]
    assert any("2 rows hold NaN or infinity: Pid 4, 41" in line for line in result.report.lines())


def test_features_of_any_kind_of_number(city: Path, tmp_path: Path) -> None:
    place = city / "datasets/NYC/RQVAE Dataset"
    (place / "poi_features.pt").unlink()
    np.save(place / "poi_features.npy", make_features(ROWS, WIDTH["NYC"]) > 0.5)
    rows = read(run(city, tmp_path))
    assert set(ast.literal_eval(rows[0]["Vector"])) <= {0, 1}


# -- the report of a file --


def test_the_report_of_a_file_says_the_same(city: Path, tmp_path: Path) -> None:
    options = CodebookOptions(block_rows=16, suffix=True)
    result = BatchInferenceProcessor(hub=FolderHub(city), output_dir=tmp_path, options=options).process_model(NYC)
    assert result.report is not None
    of_file = report_of_file(result.files[0], CODEWORDS["NYC"])
    assert of_file.collisions == result.report.collisions
    assert of_file.name == NYC and of_file.reconstruction_error is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Pid,Vector\n1,2\n", "has no columns Pid and Codebook"),
        ("Pid,Codebook\n", "holds no codes"),
        ('Pid,Codebook\n1,"[1, 2]"\n1,"[1, 2]"\n', "Pid 1 stands twice"),
        ('Pid,Codebook\n1,"__import__(1)"\n', "line 2: the row has no Pid with a list of codes"),
        ('Pid,Codebook\n1,"[1, true]"\n', "line 2"),
        ('Pid,Codebook\n1,"[1, -2]"\n', "no whole number from 0 on"),
        ('Pid,Codebook\n1,"[1]"\n2,"[1, 2, 3]"\n', "lists of different lengths"),
        ('Pid,Codebook\n1,"[9]"\n', "holds the code 9, so there are more than 8 codewords"),
    ],
)
def test_a_file_that_is_no_codebook(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "codebooks-x.csv"
    path.write_text(text)
    with pytest.raises(SemanticIdError) as caught:
        report_of_file(path, 8)
    assert said in str(caught.value)


# -- the manager --


def broken(city: Path) -> dict[str, str]:
    """Models that cannot be processed, each in a way of its own, and what is said of it."""
    names = {
        "rqvae-nyc-truncated": "is cut off or damaged",
        "rqvae-nyc-wide": "has 12 features an item, but the model rqvae-nyc-wide takes 13",
        "rqvae-paris-div0.25": "Cannot determine dataset from model name",
        "rqvae-nyc-empty": "There is no model rqvae-nyc-empty",
        "rqvae-NYC_Exploration": "There is no dataset nyc_exploration",
    }
    models = city / "models"
    whole = (models / NYC / "rqvae_best.pt").read_bytes()
    for name, data in (("rqvae-nyc-truncated", whole[: len(whole) // 2]), ("rqvae-NYC_Exploration", whole)):
        (models / name).mkdir()
        (models / name / "rqvae_best.pt").write_bytes(data)
    make_model(models / "rqvae-nyc-wide" / "rqvae_best.pt", 13)
    return names


def test_what_is_wrong_with_one_model_costs_none_of_the_others(city: Path, tmp_path: Path) -> None:
    wrong = broken(city)
    said: list[str] = []
    manager = BatchInferenceManager(hub=FolderHub(city), output_dir=tmp_path / "out", say=said.append)
    names = [NYC, *wrong, TKY]
    results = manager.process_models(names)
    assert [result.model for result in results] == names
    assert [result.success for result in results] == [True, *[False] * len(wrong), True]
    for result in results[1:-1]:
        assert wrong[result.model] in str(result.error) and "\n" not in str(result.error)
        assert any(str(result.error) in line for line in said)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"codebooks-{NYC}.csv",
        f"codebooks-{TKY}.csv",
    ]


def test_without_a_token_the_manager_says_so_and_returns(capsys: pytest.CaptureFixture[str]) -> None:
    hub = HuggingFaceHub("", endpoint="http://127.0.0.1:9")
    assert BatchInferenceManager(hub=hub).process_models() == []
    assert BatchInferenceManager(hub=hub).process_single_model(NYC) is None
    assert "HF_TOKEN not set!" in capsys.readouterr().out
    with pytest.raises(MissingTokenError):
        BatchInferenceManager(hub=hub, raise_errors=True).process_models()


def test_an_upload_that_fails_leaves_no_file_behind(
    city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    (city / "datasets/NYC/LLM Dataset").write_text("in the way")
    result = BatchInferenceManager(hub=FolderHub(city), say=lambda text: None).process_single_model(NYC)
    assert result is not None and result.error and "cannot be written" in result.error
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("mapping", "has no .*pid_mapping.csv; it says which Pid a row of features belongs to"),
        ("features", "has no features: there is no .*poi_features.pt"),
        ("fewer", "has 60 rows, but pid_mapping.csv names 59 Pids"),
        ("metadata", "names 60 Pids, but metadata.json of the dataset 61"),
        ("twice", "Mapped_Pid 5 stands twice"),
    ],
)
def test_a_dataset_that_does_not_fit_is_one_sentence(city: Path, tmp_path: Path, harm: str, said: str) -> None:
    dataset = city / "datasets" / "NYC"
    if harm == "mapping":
        (dataset / "Intermediate Files" / "pid_mapping.csv").unlink()
    elif harm == "features":
        (dataset / "RQVAE Dataset" / "poi_features.pt").unlink()
    elif harm == "fewer":
        write_mapping(city, "NYC", list(range(1, ROWS)))
    elif harm == "metadata":
        (dataset / "RQVAE Dataset" / "metadata.json").write_text('{"num_pois": 61}')
    else:
        write_mapping(city, "NYC", [*range(1, ROWS), 5])
    with pytest.raises(SemanticIdError, match=said):
        run(city, tmp_path)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_progress_ends_at_all_rows(city: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    make_dataset(city, "NYC", ROWS)
    processor = BatchInferenceProcessor(
        hub=FolderHub(city),
        output_dir=tmp_path / "out",
        options=CodebookOptions(block_rows=25),
        progress=lambda *step: seen.append(step),
    )
    processor.process_model(NYC)
    assert [step for step in seen if step[0] == "encode"] == [("encode", n, ROWS) for n in (25, 50, 60)]
    assert seen[-1] == ("write", ROWS, ROWS)
