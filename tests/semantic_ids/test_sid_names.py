"""Model names, the choice of models, and what the light half may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_city import NYC, TKY, make_city

from batch.semantic_ids import BatchInferenceManager, FolderHub, HuggingFaceHub, ModelConfigParser, SemanticIdError
from batch.semantic_ids.choose import choose_models
from batch.semantic_ids.layout import dataset_repo, upload_path

LISTED = [
    "comp5331poi/rqvae-nyc-div0.0-commit0.5-lr5e-5",
    "comp5331poi/rqvae-nyc-div0.25-commit0.5-lr5e-5",
    "comp5331poi/rqvae-nyc-div0.25-commit0.5-lr5e-5-without_L_quant",
    "comp5331poi/rqvae-nyc-div0.5-commit0.5-lr5e-5",
    "comp5331poi/rqvae-nyc-div0.75-commit0.5-lr5e-5",
    "comp5331poi/rqvae-tky-div0.0-commit0.25-lr5e-5",
    "comp5331poi/rqvae-tky-div0.25-commit0.25-lr5e-5",
    "comp5331poi/rqvae-tky-div0.25-commit0.25-lr5e-5-without_L_quant",
    "comp5331poi/rqvae-tky-div0.5-commit0.25-lr5e-5",
    "comp5331poi/rqvae-tky-div0.75-commit0.25-lr5e-5",
]


@pytest.mark.parametrize(
    ("name", "dataset", "div", "commit", "lr", "quant"),
    [
        (LISTED[0], "NYC", 0.0, 0.5, 5e-5, 1.0),
        (LISTED[2], "NYC", 0.25, 0.5, 5e-5, 0.0),
        (LISTED[9], "TKY", 0.75, 0.25, 5e-5, 1.0),
        ("rqvae-nyc", "NYC", 0.25, 0.5, 5e-5, 1.0),
        ("Nrqvae-NYC-div0.25-commit0.25-lr1e-3", "NYC", 0.25, 0.25, 1e-3, 1.0),
        ("Nrqvae-TKY_Exploration-lr1e-3", "TKY_Exploration", 0.25, 0.25, 1e-3, 1.0),
        ("some/where/rqvae-tky-div1-commit2-lr10e-2/", "TKY", 1.0, 2.0, 0.1, 1.0),
        (r"C:\models\rqvae-tky-div1", "TKY", 1.0, 0.5, 5e-5, 1.0),
    ],
)
def test_a_name_says_how_a_model_was_trained(
    name: str, dataset: str, div: float, commit: float, lr: float, quant: float
) -> None:
    config = ModelConfigParser.parse_model_name(name)
    assert config["dataset_name"] == dataset
    assert (config["div_weight"], config["commitment_weight"]) == (div, commit)
    assert config["lr"] == pytest.approx(lr) and config["quant_weight"] == quant
    assert config["run_name"] == name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def test_newer_names_say_more() -> None:
    config = ModelConfigParser.parse_model_name("Nrqvae-NYC-div0.5-commit0.25-lr1e-3-withkl-without_l_reconstruction")
    assert config["use_kl_divergence"] is True
    assert config["recon_weight"] == 0.0


@pytest.mark.parametrize("name", ["rqvae-paris-div0.25", "", "nyc/rqvae"])
def test_a_name_without_a_dataset_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="Cannot determine dataset from model name"):
        ModelConfigParser.parse_model_name(name)


@given(st.sampled_from(["nyc", "tky"]), st.floats(0, 10), st.floats(0, 10), st.integers(1, 9), st.integers(1, 9))
def test_weights_come_back_from_a_name(dataset: str, div: float, commit: float, lr: int, exponent: int) -> None:
    div, commit = round(div, 3), round(commit, 3)
    config = ModelConfigParser.parse(f"org/rqvae-{dataset}-div{div}-commit{commit}-lr{lr}e-{exponent}")
    assert (config.div_weight, config.commitment_weight) == (div, commit)
    assert config.lr == pytest.approx(lr * 10**-exponent)


@given(st.text())
def test_any_text_is_a_name_or_one_clear_error(name: str) -> None:
    try:
        config = ModelConfigParser.parse(name)
    except SemanticIdError as error:
        assert "\n" not in str(error)
    else:
        assert config.dataset_name.lower() in config.run_name.lower()


def test_the_ten_models_tky_first() -> None:
    manager = BatchInferenceManager("token")
    models = manager.get_model_list()
    assert models == LISTED[5:] + LISTED[:5]
    assert manager.get_nyc_models() == LISTED[:5]
    assert manager.get_tky_models() == LISTED[5:]
    models.clear()
    assert len(manager.get_model_list()) == 10


def test_where_codebooks_go() -> None:
    config = ModelConfigParser.parse(LISTED[0])
    assert dataset_repo(config.dataset_name) == "comp5331poi/nyc"
    assert upload_path(config.output_name) == (
        "LLM Dataset/Intermediate Files/codebooks-rqvae-nyc-div0.0-commit0.5-lr5e-5.csv"
    )


def test_words_choose_models(tmp_path: Path) -> None:
    hub = HuggingFaceHub("")
    assert len(choose_models([], hub)) == len(choose_models(["all"], hub)) == 10
    assert choose_models(["NYC"], hub) == LISTED[:5]
    assert choose_models(["rqvae-tky-div0.0-commit0.25-lr5e-5", "tky"], hub) == LISTED[5:]
    assert choose_models(["me/rqvae-nyc-mine"], hub) == ["me/rqvae-nyc-mine"]
    with pytest.raises(SemanticIdError, match=r"did you mean rqvae-tky-div0\.0-commit0\.25-lr5e-5"):
        choose_models(["rqvae-tky-div0.0-commit0.2-lr5e-5"], hub)
    folder = FolderHub(make_city(tmp_path / "city"))
    assert choose_models([], folder) == [f"models/{NYC}", f"models/{TKY}"]
    assert choose_models(["tky", TKY], folder) == [f"models/{TKY}"]
    with pytest.raises(SemanticIdError, match="Unknown model paris"):
        choose_models(["paris"], folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SemanticIdError, match=r"There is no model on .*empty"):
        choose_models([], FolderHub(tmp_path / "empty"))


def test_parser_and_manager_import_neither_torch_nor_the_hub() -> None:
    program = (
        "import sys; from batch.semantic_ids.parser import ModelConfigParser as P;"
        "from batch.semantic_ids.manager import BatchInferenceManager as M;"
        "m = M('token'); [P.parse_model_name(n) for n in m.get_model_list()]; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "huggingface_hub", "safetensors", "pyarrow", "pandas", "httpx"}
