"""`--model auto`, `route` and `evidence`: what is said before, where items go, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch.checkpoint import CheckpointStore
from tests.cli.program import Program


def route(program: Program, *routes: dict[str, Any], text: str = "") -> None:
    """Put routes into models.yaml, which JSON is enough for."""
    lines = ["models: " + json.dumps(program.models)]
    lines += ["routes:", *(f"  - {json.dumps(one)}" for one in routes)] if routes else []
    (program.home / "models.yaml").write_text("\n".join(lines) + "\n" + text)


def answered(program: Program) -> list[tuple[str | None, str | None, str | None, int]]:
    path = program.job().checkpoint_file
    assert path is not None
    with CheckpointStore(path) as store:
        return [(r.model, r.meant_for, r.meant_why, r.attempts) for r in store.iter_results()]


@pytest.fixture
def other(program: Program) -> Program:
    program.add_model("other")
    return program


def test_routes_decide_and_every_row_says_why(other: Program) -> None:
    route(other, {"match": {"language": "ja"}, "use": "other"}, {"name": "the rest", "use": "quick"})
    path = other.prompts("What is a stack?", "駅はどこですか")
    assert other("route", path) == 0
    assert "route in line 3: language ja" in other.out and "the rest: all that is left" in other.out
    assert not other.seen
    assert other("run", path, "--model", "auto") == 0
    assert answered(other) == [
        ("quick", "quick", "the rest: all that is left", 1),
        ("other", "other", "route in line 3: language ja", 1),
    ]
    assert other("export", other.job().job_id, "--format", "jsonl", "--output", "-") == 0
    rows = [json.loads(line) for line in other.out.splitlines()]
    assert [(row["model"], row["meant_for"], row["reason"]) for row in rows] == [row[:3] for row in answered(other)]
    for form, said in (("json", '"why": "route in line 3: language ja"'), ("csv", ",route in line 3: language ja\r")):
        path = other.home / f"answers.{form}"
        assert other("export", other.job().job_id, "--format", form, "--output", path) == 0
        assert said in path.read_bytes().decode()


def test_a_chain_goes_on_where_the_check_fails(other: Program) -> None:
    other.answers = {"one": "no json", "two": "[2]"}
    route(other, {"use": ["quick", "other"], "check": {"json": True}})
    assert other("run", other.prompts("one", "two"), "--model", "auto") == 0
    lane = "quick → other (checked: json)"
    assert [row[:2] + row[3:] for row in answered(other)] == [("other", lane, 2), ("quick", lane, 1)]


def test_explain_and_json(other: Program) -> None:
    route(other, {"match": {"category": ["math"]}, "use": "other"}, {"use": "quick"})
    path = other.prompts("Solve 2x + 3 = 9 for x.", "Hello!")
    assert other("route", path, "--explain", "1") == 0
    assert "model     other" in other.out and "category  math" in other.out
    assert other("route", path, "--explain", "3") == 2 and "There is no item 3; the file has 2" in other.err
    assert other("route", path, "--json") == 0
    assert json.loads(other.out)["models"] == {"other": 1, "quick": 1}


def test_ask_says_the_model_and_why(other: Program) -> None:
    route(other, {"match": {"keywords": ["station"]}, "use": "other"}, {"use": "quick"})
    assert other("ask", "--model", "auto", "Where is the station?") == 0
    assert "Asking other (route in line 3: says 'station')…" in other.err
    assert other.asked is not None and other.asked[0] == "other"


def scored(program: Program, model: str, right: int, count: int = 24) -> None:
    path = program.home / f"{model}.jsonl"
    rows = [
        {"input": f"What is {n} * 7?", "expected": f"{7 * n}", "predicted": f"{7 * n * (n <= right)}", "example_id": n}
        for n in range(1, count + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert program("evidence", "--add", path, "--model", model) == 0
    assert f"Took in {count} graded answers" in program.err


def test_evidence_decides_what_no_route_does(other: Program) -> None:
    path = other.prompts("What is 3 * 8?", "Write a poem about the sea.")
    assert other("evidence") == 0 and "There is no evidence yet" in other.out
    scored(other, "quick", 4)
    scored(other, "other", 22)
    assert other("evidence", "--quality") == 0
    assert "Brier" in other.out and "ECE" in other.out
    assert other("evidence", "--json") == 0
    known = {row["model"]: row["n"] for row in json.loads(other.out) if row["category"] == "math"}
    assert known == {"quick": 24, "other": 24}
    assert other("route", path, "--curve") == 0
    assert "right expected (22 of 24 graded" in other.out
    assert "not enough evidence for creative; best single model" in other.out
    assert "all quick" in other.out and "all other" in other.out
    assert other("run", path, "--model", "auto") == 0
    assert [row[0] for row in answered(other)] == ["other", "other"]


def test_models_that_are_gone_get_nothing(other: Program) -> None:
    scored(other, "other", 24)
    del other.models["other"]
    route(other)
    assert other("evidence") == 0
    assert "other is no model of this workspace any more; nothing goes to it" in other.err
    assert other("run", other.prompts("What is 3 * 8?"), "--model", "auto") == 0
    assert answered(other)[0][0] == "quick"


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([{"match": {"language": "ja"}}], "line 3: the route names no model; say which with use: MODEL"),
        ([{"use": "othr"}], "line 3: there is no model othr (did you mean other?)"),
        ([{"use": ["other", "quick", "other"]}], "line 3: the chain comes back to other: other → quick → other"),
        ([{"use": "other", "chek": {}}], "line 3: unknown key chek (did you mean check?)"),
        ([{"match": {"langage": "ja"}, "use": "other"}], "unknown key match.langage (did you mean match.language?)"),
        ([{"match": {"language": "jp"}, "use": "other"}], "match.language"),
        ([{"match": {"category": "codin"}, "use": "other"}], "did you mean coding?"),
        ([{"match": {"regex": "("}, "use": "other"}], "line 3: regex: missing )"),
        ([{"match": {"max_tokens": "many"}, "use": "other"}], "match.max_tokens is a whole number of tokens"),
        ([{"use": "other", "check": {"json": True}}], "a check needs a second model"),
        ([{"use": "other"}, {"use": "quick"}], "line 3: this route matches everything"),
        ([{"use": "other", "pass_filtered": True}], "pass_filtered needs a second model that answers then"),
        ([{"use": "other", "lane": "bath"}], "line 3: lane is batch, now, auto, not bath"),
        ([{"use": "other", "lane": "batch"}], "lane is for a provider's model; other runs on cores:open_core"),
    ],
)
def test_routes_that_cannot_be(other: Program, routes: list[dict[str, Any]], said: str) -> None:
    route(other, *routes)
    for verb in (["route"], ["run", "--model", "auto"]):
        assert other(*verb, other.prompts("What is a stack?")) == 2
        assert said in other.err
        assert other.err.count("Error:") == 1
    assert not other.files()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--quality", "2"], "--quality is from 0 to 1"),
        (["--budget", "-1"], "--budget is a number of dollars"),
        (["--budget", "1", "--dial", "0.5"], "both at once say two things"),
        (["--quality", "0.9"], "--quality needs evidence"),
        (["--models", "nobody"], "Unknown model: nobody"),
    ],
)
def test_wishes_that_cannot_be(other: Program, flags: list[str], said: str) -> None:
    assert other("route", other.prompts("What is a stack?"), *flags) == 2
    assert said in other.err


def test_nothing_runs_on_a_model_that_is_not_allowed(other: Program) -> None:
    route(other, {"match": {"language": "ja"}, "use": "other"}, {"use": "quick"})
    assert other("run", other.prompts("駅はどこですか"), "--model", "auto", "--models", "quick") == 2
    assert "uses other, which is not among the models that this job may use: quick" in other.err


def test_routing_flags_go_with_auto_alone(other: Program) -> None:
    assert other("run", other.prompts("a"), "--dial", "1") == 2
    assert "--dial chooses among models, and one is named; it goes with --model auto" in other.err
    assert other("ask", "a", "--models", "quick") == 2


def test_a_regex_that_takes_too_long_is_said(other: Program) -> None:
    route(other, {"match": {"regex": r"(?:a|aa|a?)*$"}, "use": "other"}, {"use": "quick"})
    assert other("route", other.prompts("a" * 60 + "!")) == 2
    assert "The regex of the route in line 3 takes over 0.25 s on an item" in other.err


def test_an_empty_file_has_no_plan(other: Program) -> None:
    assert other("route", other.prompts("# nothing")) == 2
    assert "There are no prompts in" in other.err


def test_a_budget_is_held_against_the_plans_own_prices(other: Program) -> None:
    prices = {"quick": {}, "dear": {"price": {"input": 100, "output": 100}}}
    for name, said in prices.items():
        other.models[name + "-server"] = {"url": "http://127.0.0.1:9/v1", "model": name, **said}
    route(other, {"match": {"keywords": ["long"]}, "use": "dear-server"}, {"use": ["other", "quick"]})
    path = other.prompts("a long story", "a short one")
    assert other("route", path, "--budget", "0.001") == 2
    assert "The budget of $0.0010 is below" in other.err
    assert other("run", path, "--model", "auto", "--budget", "0.001") == 2
    assert "The budget of $0.0010 is below" in other.err and not other.files()
    assert other("route", path, "--budget", "1") == 0
    assert "$0.03 ($0.00–$0.05)" in other.out
    route(other, {"use": ["other", "quick-server"]})
    assert other("route", path, "--budget", "1") == 2
    assert "No price of quick-server is known, so --budget cannot be held" in other.err


def test_a_model_falls_back_to_those_that_its_entry_names(other: Program) -> None:
    other.models["quick"]["fallback"] = ["other"]
    route(other)
    other.down = {"quick"}
    assert other("run", other.prompts("a", "b")) == 0
    assert [row[0] for row in answered(other)] == ["other", "other"]
    assert other("export", other.job().job_id, "--format", "jsonl", "--output", "-") == 0
    assert {json.loads(line)["model"] for line in other.out.splitlines()} == {"other"}


def test_a_fallback_that_the_job_may_not_use_is_left_out_and_said(other: Program) -> None:
    other.models["quick"]["fallback"] = ["other"]
    route(other)
    other.down = {"quick"}
    assert other("run", other.prompts("a"), "--model", "auto", "--models", "quick") == 3
    assert "quick does not fall back to other, which is not among the models that this job may use" in other.err
    assert "no model is left for 1 item (quick: quick is down)" in other.err
    assert not other.seen


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"quick": ["othr"]}, "its fallback othr is no model (did you mean other?)"),
        ({"quick": ["quick"]}, "its fallbacks go round in a circle: quick → quick"),
        ({"quick": ["other"], "other": ["quick"]}, "its fallbacks go round in a circle: quick → other → quick"),
    ],
)
def test_fallbacks_that_cannot_be(other: Program, fallback: dict[str, list[str]], said: str) -> None:
    for name, names in fallback.items():
        other.models[name]["fallback"] = names
    route(other)
    assert other("run", other.prompts("a")) == 2
    assert said in other.err and not other.files()


def test_a_category_that_no_route_serves_is_said(other: Program) -> None:
    route(other, {"match": {"category": "creative"}, "use": "other"})
    assert other("route", other.prompts("Write a poem about the sea.", "What is 3 * 8?")) == 0
    assert "No route serves math (1): evidence decides" in other.out


def test_a_column_that_no_item_has_is_said(other: Program) -> None:
    route(other, {"match": {"column": {"topik": "law"}}, "use": "other"}, {"use": "quick"})
    path = other.home / "table.csv"
    path.write_text("prompt,topic\nIs it so?,law\n")
    assert other("route", path) == 0
    assert "The route in line 3 asks for a column topik that no item has (did you mean topic?)" in other.out


def test_all_lanes_down(other: Program) -> None:
    route(other, {"use": ["quick", "other"]})
    other.down = {"quick", "other"}
    assert other("run", other.prompts("a", "b"), "--model", "auto") == 3
    assert other.err.count("no model is left for 2 items (") == 1
    assert "quick is down" in other.err and "other is down" in other.err


def test_a_longer_context_takes_what_is_too_long(other: Program) -> None:
    other.models["quick"]["context"] = 50
    route(other, {"use": ["quick", "other"]})
    text = "word " * 100
    assert other("run", other.prompts("short", text.strip()), "--model", "auto") == 0
    assert [row[0] for row in answered(other)] == ["quick", "other"]
    assert "too long for quick" in str(answered(other)[1][2])
    other.models["other"]["context"] = 60
    route(other, {"use": ["quick", "other"]})
    assert other("route", other.prompts(text.strip())) == 2
    assert "is too long for every model of the route in line 3: quick, other" in other.err


def test_a_share_explores_and_says_so(other: Program) -> None:
    scored(other, "quick", 2)
    scored(other, "other", 24)
    path = other.prompts(*(f"What is {n} * 8?" for n in range(200)))
    assert other("route", path, "--explore", "0.1", "--json") == 0
    plan = json.loads(other.out)
    explored = sum(row["items"] for row in plan["reasons"] if "explores" in row["why"])
    assert 8 <= explored <= 36 and plan["models"]["other"] > 160
    assert {row["model"] for row in plan["reasons"] if "explores" in row["why"]} == {"quick", "other"}
    assert other("route", path, "--json") == 0 and json.loads(other.out)["models"] == {"other": 200}


def test_scored_jobs_are_evidence_once_and_again_when_they_have_grown(other: Program) -> None:
    rows = [{"prompt": f"{n} + 1", "completion": f"{n} + 1"} for n in range(12)]
    rows[3] = {"prompt": "fail once", "completion": "x"}
    path = other.home / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ["dataset", "run", "--test-file", path, "--model-path"]
    assert other(*run, "quick", "--output-file", "a.jsonl") == 1

    def known() -> dict[str, tuple[int, float]]:
        assert other("evidence", "--json") == 0
        return {row["model"]: (row["n"], row["right"]) for row in json.loads(other.out) if not row["category"]}

    assert known() == {"quick": (11, 11)} == known(), "what failed is neither right nor wrong"
    other.answers_of["other"] = {f"{n} + 1": "wrong" for n in range(6)}
    assert other(*run, "other", "--output-file", "b.jsonl") == 1
    assert known() == {"quick": (11, 11), "other": (11, 6)}
