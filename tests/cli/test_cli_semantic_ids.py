"""`ai-router semantic-ids`, on a small city in a folder; a program that is killed has its engine in another process."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from program import HERE, Program

pytest.importorskip("torch")
sys.path.insert(0, str(HERE.parent / "semantic_ids"))

from small_city import NYC, TKY, WIDTH, make_city, make_dataset, make_features, make_model

from batch.checkpoint import CheckpointStore

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("within_this_process")]


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return make_city(tmp_path / "city")


def outputs(program: Program) -> list[str]:
    folder = program.home / "outputs"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_all_models_of_a_folder_are_encoded_one_after_the_other(program: Program, city: Path) -> None:
    assert program("semantic-ids", "run", "--from", city, "--block-rows", 25) == 0
    files = [program.home / "outputs" / f"codebooks-{name}.csv" for name in (NYC, TKY)]
    assert program.out.split() == [str(file) for file in files]  # data goes to stdout
    assert [file.read_text().count("\n") for file in files] == [61, 61]
    assert "[2/2] Job" in program.err and "60 rows of TKY" in program.err
    assert "100.0% (60/60)" in program.err  # rows, not blocks
    assert "60 done | 0 failed" in program.err and "rows/s" in program.err and "token" not in program.err
    assert "level a  used" in program.err
    assert program("jobs", "--json") == 0
    listed = json.loads(program.out)
    assert [(job["model_id"], job["total"], job["status"]) for job in listed] == [
        (TKY, 3, "completed"),
        (NYC, 3, "completed"),
    ]
    job_id = listed[0]["job_id"]
    assert program("show", job_id) == 0
    assert "rows      60 of 60 done" in program.out and "tokens" not in program.out
    first = files[1].read_bytes()
    files[1].unlink()
    assert program("export", job_id) == 0
    assert program.out.split() == [str(files[1])] and files[1].read_bytes() == first
    assert program("resume", job_id) == 0 and "is complete" in program.err


def test_models_are_chosen_by_name_and_files_go_where_they_are_wanted(program: Program, city: Path) -> None:
    words = ["--vector", "quantized", "--suffix", "--sid", "--output", "here", "--display", "none"]
    assert program("semantic-ids", "run", "tky", "--from", city, *words) == 0
    assert program.err == ""
    (file,) = (program.home / "here").iterdir()
    assert file.name == f"codebooks-{TKY}.csv"
    assert file.read_text().splitlines()[0] == "Pid,Codebook,Vector,SID"
    assert outputs(program) == []
    file.unlink()
    assert program("export", program.job().job_id) == 0  # the job remembers the folder
    assert file.is_file()


def test_what_is_wrong_with_one_model_costs_none_of_the_others(program: Program, city: Path) -> None:
    make_model(city / "models" / "rqvae-nyc-wide" / "rqvae_best.pt", 13)
    shutil.copytree(city / "models" / NYC, city / "models" / "rqvae-paris")
    (city / "models" / "rqvae-tky-cut").mkdir()
    whole = (city / "models" / TKY / "rqvae_best.pt").read_bytes()
    (city / "models" / "rqvae-tky-cut" / "rqvae_best.pt").write_bytes(whole[:3000])
    assert program("semantic-ids", "run", "--from", city) == 1
    assert outputs(program) == [f"codebooks-{NYC}.csv", f"codebooks-{TKY}.csv"]
    assert "Error: models/rqvae-paris: Cannot determine dataset from model name: 'rqvae-paris'" in program.err
    assert "has 12 features an item, but the model rqvae-nyc-wide takes 13" in program.err
    assert "rqvae-tky-cut/rqvae_best.pt" in program.err and "cut off or damaged" in program.err
    assert "Traceback" not in program.err


def test_rows_that_are_no_numbers_are_listed_and_the_exit_code_says_so(program: Program, city: Path) -> None:
    import torch

    features = make_features(60, WIDTH["NYC"])
    features[9] = float("nan")
    torch.save(torch.from_numpy(features), city / "datasets/NYC/RQVAE Dataset/poi_features.pt")
    assert program("semantic-ids", "run", "nyc", "--from", city) == 1
    assert "1 row holds NaN or infinity: Pid 10" in program.err
    text = (program.home / "outputs" / f"codebooks-{NYC}.csv").read_text()
    assert text.count("\n") == 60 and "\n10," not in text
    assert program("semantic-ids", "report", program.job().job_id, "--json") == 1
    (report,) = json.loads(program.out)
    assert report["bad_pids"] == [10] and report["encoded"] == 59


def test_a_dry_run_says_what_would_go_where_and_writes_nothing(program: Program, city: Path) -> None:
    assert program("semantic-ids", "run", "nyc", "--from", city, "--upload", "--dry-run") == 0
    target = city / "datasets/NYC/LLM Dataset/Intermediate Files" / f"codebooks-{NYC}.csv"
    assert program.out == f"{program.home}/outputs/codebooks-{NYC}.csv -> {target}\n"
    assert "60 items of NYC in 1 block" in program.err
    assert program.files() == [] and outputs(program) == [] and not target.exists()


def test_parquet_without_its_library_is_refused_before_anything_is_encoded(
    program: Program, city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "pyarrow" else find(name))
    assert program("semantic-ids", "run", "nyc", "--from", city, "--parquet") == 2
    assert 'needs pyarrow for the Parquet file: pip install "ai-router[tables]"' in program.err
    assert program.files() == []
    assert program("semantic-ids", "run", "nyc", "--from", city) == 0


def test_codebooks_are_uploaded(program: Program, city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program("semantic-ids", "run", "nyc", "--from", city, "--upload") == 0
    file = program.home / "outputs" / f"codebooks-{NYC}.csv"
    target = city / "datasets/NYC/LLM Dataset/Intermediate Files" / file.name
    assert target.read_bytes() == file.read_bytes() and f"Uploaded {target}" in program.err
    target.unlink()
    job_id = program.job().job_id
    assert program("semantic-ids", "upload", job_id, "--to", city) == 0
    assert program.out == f"{target}\n" and target.is_file()
    assert program("semantic-ids", "upload", file, job_id, "--dry-run") == 0
    page = "https://huggingface.co/datasets/comp5331poi/nyc/blob/main/LLM%20Dataset/Intermediate%20Files/"
    assert program.out.splitlines() == [f"{file} -> {page}{file.name}"] * 2
    file.unlink()
    assert program("semantic-ids", "upload", job_id, "--to", city) == 1
    assert f"make it with: ai-router --workspace {program.home} export {job_id}" in program.err


def test_without_a_token_nothing_is_uploaded(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (program.home / "codebooks-rqvae-nyc.csv").write_text("x")
    assert program("semantic-ids", "upload", "codebooks-rqvae-nyc.csv") == 1
    assert program.err.startswith("Error: HF_TOKEN not set!") and program.err.count("\n") == 1


def test_models_run_without_a_token_for_their_upload(
    program: Program, city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_router.cli.semantic_ids import run
    from batch.semantic_ids.hub import HuggingFaceHub

    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub_of = run.hub_of
    monkeypatch.setattr(run, "hub_of", lambda place: HuggingFaceHub() if place == "the hub" else hub_of(place))
    assert program("semantic-ids", "run", "all", "--from", city, "--upload", "--to", "the hub") == 1
    assert program.err.count("HF_TOKEN not set!") == 1
    made = [Path(line).name for line in program.out.splitlines()]
    assert len(made) > 1 and all(name.startswith("codebooks-rqvae-") for name in made)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--from", "nowhere"], "There is no folder nowhere"),
        (["run", "paris", "--from", "city"], "Unknown model paris on city"),
        (["run", "--from", "city", "--vector", "raw"], "vector: 'raw' is none of features, quantized, latent"),
        (["run", "--from", "city", "--block-rows", "0"], "block-rows: 0 is below the least allowed, 1"),
        (["report", "none.csv"], "There is no none.csv"),
        (["report", "abc"], "Unknown job: abc"),
        (["train", "paris", "--from", "city"], "Cannot determine dataset from model name"),
        (["train", NYC, "--from", "city"], "holds a model already"),
        (["walk"], "argument ACTION: invalid choice: 'walk'"),
        ([], "the following arguments are required: ACTION"),
    ],
)
def test_usage_errors_are_one_sentence(program: Program, city: Path, words: list[str], said: str) -> None:
    assert program("semantic-ids", *words) == 2
    assert said in program.err and program.err.count("\n") == 1
    assert program.out == "" and program.files() == []


def test_a_report_of_a_file_in_words_and_as_json(program: Program, city: Path) -> None:
    assert program("semantic-ids", "run", "nyc", "--from", city, "--display", "none") == 0
    file = program.home / "outputs" / f"codebooks-{NYC}.csv"
    assert program("semantic-ids", "report", file, "--codewords", "8") == 0
    lines = program.out.splitlines()
    assert lines[0] == NYC and lines[1] == "  items          60"
    assert any(line.startswith("  level a  used") for line in lines)
    assert program("semantic-ids", "report", file, program.job().job_id, "--codewords", "8", "--json") == 0
    of_file, of_job = json.loads(program.out)
    same = ("unique_sid", "collided_sid_buckets", "total_pois", "levels", "collision_rate")
    assert [of_file[name] for name in same] == [of_job[name] for name in same]
    assert of_file["reconstruction_error"] is None and of_job["reconstruction_error"] > 0


def test_flags_of_prompts_are_refused_for_such_a_job(program: Program, city: Path) -> None:
    assert program("semantic-ids", "run", "nyc", "--from", city, "--display", "none") == 0
    job_id = program.job().job_id
    assert program("export", job_id, "--format", "csv") == 2
    assert "--format: only for jobs of prompts" in program.err
    assert program("resume", job_id, "--output", "x.json") == 2
    assert program("resume", job_id, "--model", "quick") == 2
    assert "goes on with its own model" in program.err
    program.prompts("one")
    assert program("run", "prompts.txt") == 0  # prompts are as they were
    assert program.seen == ["one"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_job_goes_on_by_block_and_gives_the_same_file(program: Program, tmp_path: Path) -> None:
    city = make_city(tmp_path / "large", rows=3000, models=(NYC,))
    assert program("semantic-ids", "run", "--from", city, "--display", "none", "--block-rows", 4, "--output", "a") == 0
    whole = (program.home / "a" / f"codebooks-{NYC}.csv").read_bytes()
    shutil.rmtree(program.home / "checkpoints")
    process = program.start("semantic-ids", "run", "--from", city, "--block-rows", "4")
    program.wait_done(20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    job = program.job()
    assert 20 <= job.processed < 750 and outputs(program) == []
    with CheckpointStore(job.checkpoint_file) as store:  # type: ignore[arg-type]
        before = {result.prompt_index: result.extra for result in store.iter_results(part="done")}
    assert program("semantic-ids", "report", job.job_id) == 1 and "blocks of rows" in program.out
    assert program("export", job.job_id) == 1
    assert f"{750 - job.processed:,} blocks of rows are not encoded yet" in program.err
    assert program("resume", job.job_id) == 0
    assert f"{750 - len(before):,} of 750 blocks left" in program.err
    with CheckpointStore(job.checkpoint_file) as store:  # type: ignore[arg-type]
        after = {result.prompt_index: result for result in store.iter_results(part="done")}
    assert all(after[index].extra == extra and after[index].attempts == 1 for index, extra in before.items())
    assert (program.home / "outputs" / f"codebooks-{NYC}.csv").read_bytes() == whole


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_saves_and_says_how_to_go_on_with_all_models(program: Program, tmp_path: Path) -> None:
    city = make_city(tmp_path / "large", rows=8000)
    process = program.start("semantic-ids", "run", "--from", city, "--block-rows", "2")
    folder = program.home / "checkpoints"

    def begun() -> bool:
        for path in folder.glob("batch_*.db"):
            with CheckpointStore(path) as store:
                if store.job(recount=True).processed >= 5:
                    return True
        return False

    program.wait_for(begun)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Resume with: ai-router" in err and f"Not begun: {TKY}; run it with: ai-router" in err
    assert outputs(program) == []


def test_files_that_changed_meanwhile_are_not_mixed(program: Program, city: Path) -> None:
    from ai_router import semantic_jobs
    from ai_router.settings import load_workspace
    from batch.semantic_ids import CodebookOptions, FolderHub
    from batch.semantic_ids.task import prepare

    workspace = load_workspace(program.home)
    task = prepare(NYC, FolderHub(city), CodebookOptions(block_rows=20))
    job = semantic_jobs.create_job(workspace, task)
    make_dataset(city, "NYC", 60, width=14)
    assert program("resume", job.job_id) == 3
    assert "poi_features.pt has changed since this job was made" in program.err


def test_a_job_goes_on_in_the_background_and_writes_its_files(program: Program, city: Path) -> None:
    from ai_router import semantic_jobs
    from ai_router.settings import load_workspace
    from batch.semantic_ids import FolderHub
    from batch.semantic_ids.task import prepare

    job = semantic_jobs.create_job(load_workspace(program.home), prepare(NYC, FolderHub(city)))
    assert program("resume", job.job_id, "--detach") == 0
    program.wait_for(lambda: outputs(program) == [f"codebooks-{NYC}.csv"])
    assert program("watch", job.job_id) == 0 and "60 done" in program.err


def test_a_model_is_trained_from_its_name_and_encodes(program: Program, city: Path) -> None:
    name = "rqvae-nyc-div0.5-commit0.25-lr1e-3"
    small = ["--from", city, "--hidden", "8,6", "--vector-dim", "4", "--codewords", "4", "--batch-size", "16"]
    assert program("semantic-ids", "train", name, *small, "--epochs", "2") == 0
    best = city / "models" / name / "rqvae_best.pt"
    assert program.out == f"{best}\n" and best.is_file()
    assert "60 rows of 12 features, 2 epochs, 3 levels of 4 codewords" in program.err and "epoch 2/2" in program.err
    assert program("semantic-ids", "train", name, *small, "--epochs", "3", "--resume") == 0
    assert "epoch 3/3" in program.err and "epoch 1/" not in program.err
    assert program("semantic-ids", "run", name, "--from", city) == 0
    assert outputs(program) == [f"codebooks-{name}.csv"]
    assert program("semantic-ids", "train", "rqvae-tky-new", "--from", city, "--hidden", "8,x") == 2
    assert "hidden: '8,x' are no whole numbers" in program.err


def test_a_model_is_built_in_closed_form_unless_something_asks_for_gradients(program: Program, city: Path) -> None:
    name = "rqvae-nyc-staged"
    assert program("semantic-ids", "train", name, "--from", city, "--codewords", "8", "--vector-dim", "8") == 0
    assert "60 rows of 12 features, in closed form, 3 levels of 8 codewords" in program.err
    assert "Kept the model: reconstruction error" in program.err
    assert (city / "models" / name / "rqvae_best.pt").is_file()
    assert program("semantic-ids", "run", name, "--from", city) == 0
    for words, said in (
        (["rqvae-nyc-a", "--method", "staged", "--epochs", "3"], "--epochs belongs to --method gradient"),
        (["rqvae-nyc-a-without_L_quant", "--method", "staged"], "leaves out a loss"),
    ):
        assert program("semantic-ids", "train", *words, "--from", city) == 2
        assert said in program.err


def test_a_training_that_learns_nothing_ends_with_a_sentence_and_no_model(program: Program, city: Path) -> None:
    name = "rqvae-nyc-div0.25-commit0.5-lr1e-30-without_L_quant"
    small = ["--from", city, "--hidden", "8,6", "--vector-dim", "4", "--codewords", "4", "--batch-size", "16"]
    assert program("semantic-ids", "train", name, *small, "--epochs", "2", "--no-solve") == 1
    assert "No model was kept: after 2 epochs its reconstruction error is" in program.err
    assert not program.out and not (city / "models" / name / "rqvae_best.pt").exists()


def test_nothing_heavy_is_imported_for_a_dry_run(program: Program, city: Path) -> None:
    import subprocess

    text = "import sys; from ai_router.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    words = ["semantic-ids", "run", "--from", str(city), "--dry-run", "--display", "none"]
    done = subprocess.run(
        [sys.executable, "-c", text, *words],
        env=program.env,
        cwd=program.home,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert not loaded & {"torch", "numpy", "huggingface_hub", "textual", "pyarrow", "transformers"}
