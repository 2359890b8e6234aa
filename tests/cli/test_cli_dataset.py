"""`ai-router dataset run`: settings, bad data, output, stopping and going on."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from program import ROOT, Program

from ai_router.models import DEMO_PATH, make_engine

EXAMPLE = ROOT / "examples" / "japanese_gec"


def dataset(program: Program, *texts: str, name: str = "test.jsonl") -> Path:
    """Examples whose answer is the text in capitals."""
    rows = [
        {"messages": [{"role": "user", "content": f"Fix the grammar: {text}"},
                      {"role": "assistant", "content": text.upper()}]}
        for text in texts
    ]  # fmt: skip
    path = program.home / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_from_flags_alone(program: Program) -> None:
    test = dataset(program, "one", "two", "fail sorry")
    code = program("dataset", "run", "--model-path", "quick", "--test-file", test, "--output-file", "out/r.jsonl")
    assert code == 1, program.err
    assert program.out == ""
    rows = rows_of(program.home / "out" / "r.jsonl")
    assert rows[0] == {"input": "one", "expected": "ONE", "predicted": "ONE", "example_id": 1}
    assert rows[2] == {
        "input": "fail sorry", "expected": "FAIL SORRY", "predicted": "fail sorry", "example_id": 3, "error": "sorry",
    }  # fmt: skip
    summary = json.loads((program.home / "out" / "r_summary.json").read_text())
    assert (summary["total_examples"], summary["failed_predictions"]) == (3, 1)
    assert "Processed 3/3 examples (avg: " in program.err
    assert "Score: exact match 100.0 % (34.2–100.0, n=2)" in program.err
    assert f"Wrote {Path('out/r.jsonl')} and {Path('out/r_summary.json')}" in program.err
    assert "Warning: there is no adapter at models/japanese-gec-lora (the default)" in program.err
    assert program.asked is not None
    assert program.asked[2] == 1, "one at a time"
    assert program.asked[1].max_tokens == 512
    assert program.asked[1].temperature == 0.1


def test_every_value_says_where_it_is_from(program: Program) -> None:
    dataset(program, "one")
    (program.home / "config").mkdir()
    (program.home / "config" / "lora_config.yaml").write_text(
        "model: quick\ntest: test.jsonl\ntrain: true\ntemp: 0.0\nmax_tokens: 64\nbatch_size: 32\n"
    )
    code = program("dataset", "run", "--max-tokens", "7", "--batch-size", "3", "--check-only")
    assert code == 0, program.err
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in program.out.splitlines()}
    assert said["model"] == "file quick"
    assert said["test_file"] == "file test.jsonl"
    assert said["max_tokens"] == "flag 7"
    assert said["temperature"] == "file 0.0"
    assert said["top_p"] == "default 0.9"
    assert said["batch_size"] == "flag 3"
    assert said["output_file"] == "default results/batch_inference_results.jsonl"
    assert said["examples:"] == "1 (1 messages); skipped 0"
    assert program.files() == []
    assert not (program.home / "results").exists()


def test_other_names_of_the_flags(program: Program) -> None:
    test = dataset(program, "one", "two")
    words = ["--model", "quick", "--input-file", test, "--temperature", "0", "--batch-size", "2", "--no-adapter"]
    assert program("dataset", "run", *words) == 0, program.err
    assert program.asked is not None
    assert (program.asked[1].temperature, program.asked[2]) == (0.0, 2)
    assert len(rows_of(program.home / "results" / "batch_inference_results.jsonl")) == 2
    assert program("dataset", "run", *words[:4], "--temp", "0.5", "--yes") == 0, program.err
    assert program.asked[1].temperature == 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "No model was named, and the default, mlx-community/Qwen3-0.6B-4bit, is not on this machine"),
        (("--model", "quik"), "did you mean quick?"),
        (("--model", "quick"), "No test file was named, and there is none at datasets/test.jsonl"),
        (("--model", "quick", "--test-file", "none.jsonl"), "Test file not found: none.jsonl"),
        (("--model", "quick", "--test-file", "t.jsonl", "--adapter-path", "none"), "There is no adapter folder none"),
        (("--model", "quick", "--test-file", "t.jsonl", "--config", "none.yaml"), "Configuration not found: none.yaml"),
        (("--model", "quick", "--test-file", "t.jsonl", "--output-file", "t.jsonl"), "is in use by this job"),
        (("--model", "quick", "--test-file", "t.jsonl", "--output-file", "-"), "so not to stdout"),
        (("--model", "quick", "--test-file", "t.jsonl", "--until-interval", "2"), "until-interval: '2' is not"),
        (("--model", "quick", "--test-file", "t.jsonl", "--batch-size", "0"), "batch-size: 0 is below"),
        (("--model", "quick", "--test-file", "t.jsonl", "--input-column", "a"), "go together"),
        (("--model", "quick", "--test-file", "t.jsonl", "--prompt-template", "x"), "has no place for the input"),
        (("--model", "quick", "--test-file", "bad.jsonl"), "no example that can be used: line 1: not JSON"),
    ],
)  # fmt: skip
def test_what_cannot_run_says_why(program: Program, words: tuple[str, ...], said: str) -> None:
    dataset(program, "one", name="t.jsonl")
    (program.home / "bad.jsonl").write_text("nothing\n{}\n")
    assert program("dataset", "run", *words) == 2
    assert said in program.err
    assert program.err.count("Error:") == 1
    assert program.files() == []


@pytest.mark.skipif(os.name == "nt", reason="its devices have no paths")
def test_a_device_is_no_results_file(program: Program) -> None:
    words = ["--model", "quick", "--test-file", dataset(program, "one"), "--output-file", "/dev/null"]
    assert program("dataset", "run", *words) == 2
    assert "/dev/null is no ordinary file" in program.err


def test_an_adapter_that_a_configuration_names_must_be_there(program: Program) -> None:
    dataset(program, "one")
    config = program.home / "c.yaml"
    config.write_text("model: quick\ntest: test.jsonl\nadapter_path: adapters\n")
    assert program("dataset", "run", "--config", config) == 2
    assert "There is no adapter folder adapters" in program.err
    assert "--no-adapter" in program.err
    assert program("dataset", "run", "--config", config, "--no-adapter") == 0, program.err


def test_an_adapter_of_another_model_is_refused_with_tensor_and_shapes(program: Program) -> None:
    dataset(program, "one")
    other = program.home / "weights" / "other"
    other.mkdir()
    config = json.loads((DEMO_PATH / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config))
    shapes = {"model.layers.0.mlp.down_proj.weight": {"dtype": "F16", "shape": [8, 8], "data_offsets": [0, 128]}}
    header = json.dumps(shapes).encode()
    (other / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(128))
    words = ["--model", other, "--test-file", "test.jsonl", "--adapter-path", EXAMPLE / "adapter"]
    assert program("dataset", "run", *words) == 2
    assert "does not fit" in program.err
    assert "its tensor model.layers.0.mlp.down_proj.lora_a has the shape [768, 8]" in program.err
    assert "the model's model.layers.0.mlp.down_proj is [8, 8] (out, in)" in program.err
    assert program.files() == []


def test_bad_lines_are_told_and_left_out(program: Program) -> None:
    path = dataset(program, "one", "two")
    good = path.read_text().splitlines()
    path.write_text("\n".join([good[0], "{broken", '{"messages": [{"role": "user", "content": "x"}]}', good[1]]))
    assert program("dataset", "run", "--model", "quick", "--test-file", "test.jsonl") == 0, program.err
    assert "Warning: test.jsonl, line 2 skipped: not JSON" in program.err
    assert "Warning: test.jsonl, line 3 skipped: there is no assistant turn" in program.err
    summary = json.loads((program.home / "results" / "batch_inference_results_summary.json").read_text())
    assert (summary["total_examples"], summary["skipped"]) == (2, 2)


def test_log_levels_and_the_log_file(program: Program) -> None:
    dataset(program, "one")
    words = ["--model", "quick", "--test-file", "test.jsonl"]
    assert program("dataset", "run", *words, "--log-level", "ERROR") == 0
    assert program.err == ""
    assert program("dataset", "run", *words, "--log-level", "warning") == 0
    assert program.err.startswith("Warning: there is no adapter")
    assert program.err.count("\n") == 1
    assert program("dataset", "run", *words, "--log-level", "DEBUG", "--log-file", "logs/run.log") == 0
    assert "example 1 right: one → ONE (expected ONE)" in program.err
    log = (program.home / "logs" / "run.log").read_text(encoding="utf-8")
    assert "example 1 right" in log
    assert "Processed 1/1 examples" in log


def test_the_job_is_one_like_any_other(program: Program) -> None:
    dataset(program, "one", "two")
    assert program("dataset", "run", "--model", "quick", "--test-file", "test.jsonl") == 0, program.err
    job = program.job()
    assert job.kind == "dataset"
    assert program("show", job.job_id) == 0
    assert "exact match 100.0 %" in program.out
    assert program("evaluate", job.job_id) == 0, program.err
    assert "2 pairs, 2 scored" in program.out
    assert program("export", job.job_id, "--format", "dataset", "--output", "-") == 0
    exported = [json.loads(line) for line in program.out.splitlines()]
    assert exported == rows_of(program.home / "results" / "batch_inference_results.jsonl")
    prompts = program.prompts("plain")
    assert program("run", prompts) == 0
    assert program("jobs", "--json") == 0
    other = next(entry["job_id"] for entry in json.loads(program.out) if entry["job_id"] != job.job_id)
    assert program("export", other, "--format", "dataset", "--output", "-") == 2
    assert "no known answers" in program.err


def test_killed_and_resumed_it_scores_every_example_once(program: Program) -> None:
    program.add_model("slow", step_seconds=0.01)
    texts = [f"word number {i}" for i in range(60)]
    test = dataset(program, *texts)
    output = program.home / "r.jsonl"
    process = program.start("dataset", "run", "--model", "slow", "--test-file", test, "--output-file", output)
    program.wait_done(15)
    process.kill()
    process.wait()
    left = rows_of(output) if output.read_text().endswith("\n") else []
    assert all(row["predicted"] == row["expected"] for row in left)
    process = program.start("resume", program.job().job_id)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert [row["example_id"] for row in rows_of(output)] == list(range(1, 61))
    assert "Score: exact match 100.0 % (94.0–100.0, n=60)" in err
    assert "Processed 60/60 examples" in err


def test_it_stops_when_the_score_is_sure_enough(program: Program) -> None:
    program.add_model("slow", step_seconds=0.004)
    test = dataset(program, *(f"word {i}" for i in range(300)))
    words = ["--model", "slow", "--test-file", test, "--until-interval", "0.06", "--output-file", "r.jsonl"]
    process = program.start("dataset", "run", *words)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    job = program.job()
    assert 20 < job.processed < 300
    assert "Stopped: the score is known to within 6 points" in err
    assert f"resume {job.job_id}" in err


@pytest.mark.model
@pytest.mark.skipif(not (DEMO_PATH / "model.safetensors").is_file(), reason="the model is not there")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the local extra")
def test_the_shipped_adapter_does_what_the_base_model_cannot(
    program: Program, within_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does it with the same texts on both engines, one by one and many at once."""
    lines = (EXAMPLE / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    new = [line for line in lines if json.loads(line)["error_type"] in ("causative", "passive")][:12]
    (program.home / "new.jsonl").write_text("\n".join(new), encoding="utf-8")
    config = ["--config", EXAMPLE / "config" / "lora_config.yaml", "--test-file", "new.jsonl"]
    runs = {"base": ["--engine", "torch", "--no-adapter", "--batch-size", "8"], "adapter": ["--engine", "torch"]}
    if importlib.util.find_spec("mlx_lm") is not None:
        runs["mlx"] = ["--engine", "mlx", "--batch-size", "4"]
    monkeypatch.setattr("ai_router.jobs.make_engine", make_engine)
    found = {}
    for name, words in runs.items():
        assert program("dataset", "run", *config, *words, "--output-file", f"{name}.jsonl") == 0, program.err
        found[name] = rows_of(program.home / f"{name}.jsonl")
    right = {name: sum(row["predicted"] == row["expected"] for row in rows) for name, rows in found.items()}
    assert right["base"] == 0
    assert right["adapter"] >= 11
    assert right.get("mlx", 12) >= 11
    if sys.platform != "darwin":  # there mlx runs on the GPU, in another precision
        assert found.get("mlx", found["adapter"]) == found["adapter"]
    assert {row["error_type"] for row in found["adapter"]} == {"causative", "passive"}


def test_a_model_is_a_name_or_a_folder(program: Program) -> None:
    """A folder here of the same name as a model hides nothing; one without a separator is found too."""
    dataset(program, "one")
    (program.home / "quick").mkdir()
    words = ["dataset", "run", "--test-file", "test.jsonl", "--yes"]
    assert program(*words, "--model", "quick") == 0, program.err
    assert program.job().model_id == "quick"
    shutil.copytree(DEMO_PATH, program.home / "mine")
    assert program(*words, "--model", "mine", "--check-only") == 0, program.err
    assert "file" not in program.out.splitlines()[0]
    assert program(*words, "--model", "mine") == 0, program.err
    assert program.asked is not None
    assert Path(program.asked[0]) == (program.home / "mine").resolve()


def test_the_example_folder_may_be_copied(program: Program) -> None:
    """Paths of a configuration are found from where it lies."""
    for name in ("config", "data", "adapter"):
        shutil.copytree(EXAMPLE / name, program.home / "examples" / "japanese_gec" / name)
    config = program.home / "examples" / "japanese_gec" / "config" / "lora_config.yaml"
    assert program("dataset", "run", "--config", config, "--model", "demo", "--check-only") == 0, program.err
    assert "LoRA rank 8 on 42 matrices fits demo" in program.out


def test_a_results_file_of_a_job_here_counts_nothing_twice(program: Program) -> None:
    test = dataset(program, "one", "two", "three")
    run = ("dataset", "run", "--model-path", "quick", "--test-file", test, "--prompt-template", "Say it: {input_text}")
    assert program(*run, "--output-file", "r.jsonl") == 0, program.err
    copy = program.home / "elsewhere.jsonl"
    rows = rows_of(program.home / "r.jsonl")
    copy.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "predicted": "another", "example_id": 9}])
    )
    assert program("evidence", "--add", copy, "--model", "quick", "--json") == 0
    assert "Took in 1 graded answer; 3 answers of jobs here were counted already" in program.err
    assert {row["n"] for row in json.loads(program.out) if not row["category"]} == {4}
