"""An input in several jobs, and one job of them again; figures for Prometheus; what is wrong with either."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import Program

from ai_router import shards
from ai_router.cli import metrics
from ai_router.cli.session import UsageError
from batch.checkpoint import CheckpointStore
from batch.engines.lane import LaneSnapshot
from batch.errors import BatchError
from batch.running.progress import RunState, Snapshot


def job_ids(program: Program) -> list[str]:
    return [path.stem.removeprefix("batch_") for path in sorted((program.home / "checkpoints").glob("batch_*.db"))]


@given(total=st.integers(0, 40), count=st.integers(1, 12))
def test_every_item_is_of_one_shard(total: int, count: int) -> None:
    parts: list[list[int]] = []
    for number in range(1, count + 1):
        try:
            parts.append(list(shards.of_shard(range(total), (number, count))))
        except shards.ShardError:
            parts.append([])
    assert sorted(item for part in parts for item in part) == list(range(total))
    assert [parts[index % count][index // count] for index in range(total)] == list(range(total))


def test_shards_answered_apart_are_one_job_again(program: Program) -> None:
    prompts = [f"prompt {n}" if n != 4 else "fail on purpose" for n in range(11)]
    (program.home / "p.json").write_text(json.dumps(prompts))
    whole = program.home / "whole.jsonl"
    assert program("run", "p.json", "--output", whole) == 1, program.err
    before = set(job_ids(program))
    for number in (2, 3, 1):
        program("run", "p.json", "--shard", f"{number}/3")
    made = [name for name in job_ids(program) if name not in before]
    assert program("merge", *made) == 0, program.err
    assert "11 prompts of 3 shards, 10 done, 1 failed" in program.err
    merged = program.out.strip()
    assert program("export", merged, "--output", program.home / "merged.jsonl") == 0

    def rows(path: Path) -> list[tuple[object, ...]]:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [tuple(row.get(key) for key in ("prompt_index", "prompt", "response", "error")) for row in found]

    assert rows(program.home / "merged.jsonl") == rows(whole) and len(rows(whole)) == 11
    file = program.home / "checkpoints" / f"batch_{merged}.db"
    with CheckpointStore(file) as store:
        store.verify()
        assert store.answered_by() == {"quick": 11}
        job = store.job(recount=True)
        assert (job.total_prompts, job.completed, job.failed, job.tokens_output) == (11, 10, 1, 50)
    assert program("resume", merged, "--retry-failed") == 1  # it is a job like any other
    assert not [path for path in file.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/2", "1/9999999", "²/3"])
def test_what_is_no_shard(program: Program, shard: str) -> None:
    program.prompts("a", "b")
    assert program("run", "prompts.txt", f"--shard={shard}") == 2
    assert "is no shard" in program.err and not job_ids(program)


def test_shards_that_do_not_belong_together(program: Program) -> None:
    program.prompts("a", "b", "c")
    assert program("run", "prompts.txt", "--shard", "4/4") == 2
    assert "no prompt for shard 4 of 4" in program.err and not job_ids(program)

    def made(*words: str) -> str:
        before = set(job_ids(program))
        assert program("run", *words) == 0
        (new,) = set(job_ids(program)) - before
        return new

    one, two, again = (made("prompts.txt", "--shard", part) for part in ("1/2", "2/2", "2/2"))
    third, plain = made("prompts.txt", "--shard", "3/3"), made("prompts.txt")
    (program.home / "other.txt").write_text("x\ny\nz\n")
    other = made("other.txt", "--shard", "2/2")
    for words, sentence in {
        (one, plain): f"Job {plain} is no shard",
        (one,): "Shards 2 of 2 are missing",
        (one, two, again): "are both shard 2",
        (one, third): "is one of 3 shards",
        (one, other): "differ in their source",
        (one, "nothing"): "nothing",
    }.items():
        before = job_ids(program)
        assert program("merge", *words) == 2
        assert sentence in program.err and job_ids(program) == before


def test_shards_of_an_input_that_grew_in_between(program: Program) -> None:
    program.prompts("a", "b")
    assert program("run", "prompts.txt", "--shard", "1/2") == 0
    program.prompts("a", "b", "c", "d", "e", "f")
    assert program("run", "prompts.txt", "--shard", "2/2") == 0
    assert program("merge", *job_ids(program)) == 2
    assert "The shards are not of one input" in program.err and len(job_ids(program)) == 2


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_prometheus_is_told_what_the_snapshot_says(program: Program) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    there = {
        "actors": [{"actor": 1, "node": "big", "state": "ready", "held": 3, "done": 40, "items_per_second": 2.5}],
        "died": {"with its node": 2},
    }
    snapshot = Snapshot(
        *("j1", "m", RunState.RUNNING, 100, 40, 2), in_flight=3, eta=None, latency_p50=0.25,
        lanes=(LaneSnapshot("cheap", "running", done=7, waiting=1),), engine_about={"cluster": there},
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with metrics.serving(f":{port}", lambda: snapshot):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        with pytest.raises(UsageError, match="cannot be used"), metrics.serving(f":{port}", lambda: snapshot):
            pass
    said = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert said["ai_router_completed_total", "j1", "m"] == 40 and said["ai_router_failed_total", "j1", "m"] == 2
    assert said["ai_router_latency_p50_seconds", "j1", "m"] == 0.25
    assert not any(key[0] == "ai_router_eta_seconds" for key in said)  # not known: not told
    assert said["ai_router_lane_done", "cheap", "j1"] == 7 and said["ai_router_lane_waiting", "cheap", "j1"] == 1
    assert said["ai_router_actor_held", "1", "big", "j1", "ready"] == 3
    assert said["ai_router_actors_lost_total", "j1", "with its node"] == 2
    assert said["ai_router_state", "j1", "m", "running"] == 1


def test_a_run_with_metrics_ends_as_without(program: Program) -> None:
    pytest.importorskip("prometheus_client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program.prompts("a", "b")
    assert program("run", "prompts.txt", "--metrics", f":{port}") == 0
    with socket.socket() as after:
        assert after.connect_ex(("127.0.0.1", port))  # nobody is left there


@pytest.mark.parametrize("address", ["x", ":0", ":70000", "host:", ":94 00", "http://host"])
def test_what_is_no_address_for_metrics(program: Program, address: str) -> None:
    program.prompts("a")
    assert program("run", "prompts.txt", f"--metrics={address}") == 2
    assert "is no address" in program.err and not job_ids(program)


def test_metrics_are_for_this_machine_unless_said() -> None:
    assert metrics.parse_address(":9400") == metrics.parse_address("9400") == ("127.0.0.1", 9400)
    assert metrics.parse_address("0.0.0.0:9400") == ("0.0.0.0", 9400)
    assert metrics.parse_address("[::1]:9400") == ("::1", 9400)


# -- a cluster, without one --------------------------------------------------------------------------------------------


def test_a_cluster_without_ray_is_said_before_there_is_a_job(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.engines.registry._installed", lambda module: module != "ray")
    program.prompts("a")
    assert program("run", "prompts.txt", "--cluster", "auto") == 2
    assert 'pip install "ai-router[cluster]"' in program.err and not job_ids(program)


def test_a_server_has_no_place_on_a_cluster(program: Program) -> None:
    (program.home / "models.yaml").write_text("models: {far: {url: 'http://127.0.0.1:1', model: m}}")
    program.prompts("a")
    assert program("run", "prompts.txt", "--model", "far", "--cluster", "auto") == 2
    assert "runs elsewhere already" in program.err and not job_ids(program)


def test_the_cluster_of_a_job_is_kept_with_it(program: Program) -> None:
    """A resumed job goes where it was; the entry's resources go with the model."""
    from ai_router.models import make_engine
    from batch.options import RunOptions, SamplingOptions

    pytest.importorskip("ray")
    program.models["quick"]["resources"] = {"gpus": 1, "actors": 3}
    (program.home / "models.yaml").write_text(json.dumps({"models": program.models}))
    from ai_router.models import Registry
    from ai_router.settings import load_workspace

    spec = Registry(load_workspace(str(program.home))).get("quick")
    assert spec.ready and dict(spec.resources) == {"gpus": 1, "actors": 3}
    engine = make_engine(spec.configured(RunOptions(cluster="auto", ship_model=True)), SamplingOptions(), workers=None)
    assert engine.name == "ray"
    told = engine._load["spec"]  # type: ignore[attr-defined]
    assert told["engine"] == "cores:open_core" and told["resources"] == {"gpus": 1, "actors": 3} and told["ship"]
    assert Path(told["model"]["path"]).is_absolute()


def test_resources_that_cannot_be_spoil_their_entry(program: Program) -> None:
    program.models["quick"]["resources"] = {"gpus": "many"}
    (program.home / "models.yaml").write_text(json.dumps({"models": program.models}))
    program.prompts("a")
    assert program("run", "prompts.txt") == 2
    assert "resources: gpus must be a number" in program.err


def test_a_shard_is_a_batch_error() -> None:
    assert issubclass(shards.ShardError, BatchError)


def test_the_status_of_no_cluster(program: Program) -> None:
    pytest.importorskip("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert program("cluster", "status", "--cluster", f"127.0.0.1:{port}") == 3
    assert program.err == f"Error: there is no cluster at 127.0.0.1:{port}: Connection refused\n"
    assert program("cluster", "status", "--cluster", "nowhere") == 2
    assert "is no cluster; say auto" in program.err
    assert program("cluster", "status", "--cluster", "local") == 2
    program.prompts("a")
    assert program("run", "prompts.txt", "--cluster", "nowhere") == 2
    assert "cluster: nowhere is no cluster; say auto" in program.err and not job_ids(program)
