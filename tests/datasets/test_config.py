"""Configuration files of both kinds, and where each value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.datasets.config import DEFAULTS, Config, ConfigError, settle


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config" / "lora.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return Config.load(path)


def test_mlx_lm_says_whether_and_older_files_say_where(tmp_path: Path) -> None:
    assert load(tmp_path, "train: true\ntest: false\ndata: sets/gec/").test_file == "sets/gec/test.jsonl"
    assert load(tmp_path, "train: a.jsonl\nvalid: b.jsonl\ntest: sets/t.jsonl").test_file == "sets/t.jsonl"
    assert load(tmp_path, "test: true").test_file is None
    assert load(tmp_path, "test: t.jsonl\ndata: sets").test_file == "t.jsonl"


def test_temp_and_temperature(tmp_path: Path) -> None:
    assert load(tmp_path, "temp: 0.3").get("temperature") == 0.3
    assert load(tmp_path, "temperature: 0.4").get("temperature") == 0.4
    both = load(tmp_path, "temp: 0\ntemperature: 0.4")
    assert both.get("temperature") == 0
    assert any("temp is taken" in warning for warning in both.warnings())


def test_flag_over_file_over_model_over_default(tmp_path: Path) -> None:
    config = load(tmp_path, "max_tokens: 64\ntop_p: 0.5\nbatch_size: 32\ntemp: 0.0")
    settings = settle({"max_tokens": 9, "model": None}, config, {"top_p": 0.7, "top_k": 5})
    said = {name: (s.value, s.origin) for name, s in settings.items()}
    assert said["max_tokens"] == (9, "flag")
    assert said["top_p"] == (0.5, "file")
    assert said["temperature"] == (0.0, "file")
    assert said["top_k"] == (5, "model")
    assert said["model"] == (DEFAULTS["model"], "default")
    assert said["batch_size"] == (1, "default"), "the file's is the trainer's"
    assert not settings["model"].given


def test_the_references_defaults() -> None:
    assert DEFAULTS["test_file"] == "datasets/test.jsonl"
    assert DEFAULTS["model"] == "mlx-community/Qwen3-0.6B-4bit"
    assert DEFAULTS["adapter_path"] == "models/japanese-gec-lora"
    assert DEFAULTS["output_file"] == "results/batch_inference_results.jsonl"


def test_unknown_keys_are_told_and_training_keys_are_not(tmp_path: Path) -> None:
    config = load(tmp_path, "max_token: 3\nlora_rank: 16\nlr_schedule: {name: cosine_decay}\nsteps_per_save: 5")
    assert list(config.warnings()) == [f"{config.path}: the key max_token is not known; did you mean max_tokens?"]


def test_features_name_columns(tmp_path: Path) -> None:
    columns = load(tmp_path, "prompt_feature: q\nchat_feature: turns").columns
    assert (columns.messages, columns.prompt, columns.expected) == ("turns", "q", "completion")
    assert load(tmp_path, "{}").columns.prompt is None


def test_paths_are_found_from_above_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tmp_path, "model: models/m")
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.locate("models/m") == tmp_path / "models" / "m"
    assert config.locate("models/none") == Path("models/none")


@pytest.mark.parametrize("text", ["- a\n- b", "a: [", "just text"])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"lora\.yaml"):
        load(tmp_path, text)


def test_a_template_without_a_place_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.yaml: prompt_template has no place"):
        _ = load(tmp_path, "prompt_template: Correct this").template
