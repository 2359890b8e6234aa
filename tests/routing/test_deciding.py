"""The best single model is left only for what is surely better; never by luck, always where evidence is plain."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ai_router.models import Registry
from ai_router.routing.evidence import Evidence, Graded
from ai_router.routing.plan import FilePlan, Wish
from ai_router.routing.planning import plan_file
from ai_router.routing.predictor import fit, quality_of
from ai_router.routing.router import Router
from ai_router.routing.rules import read_routes
from ai_router.settings import Settings, Workspace
from batch.items import Request

SUM, POEM = "What is {} * 7?", "Write a poem about {} cats"
ASKED = [text.format(n) for n in range(500, 560) for text in (SUM, POEM)]


def router(tmp_path: Path, right: dict[str, tuple[int, int]], n: int) -> Router:
    """Two models of which so many of `n` sums and of `n` poems were right."""
    evidence = Evidence(tmp_path / "evidence.db")
    evidence.path.unlink(missing_ok=True)
    for model, counts in right.items():
        for text, good in zip((SUM, POEM), counts, strict=True):
            evidence.add(Graded(text.format(i), model, float(i < good), "job", 5, 10, 20, 0.5) for i in range(n))
    predictors = {model: made for model in right if (made := fit(evidence, model)) is not None}
    entries = "".join(f"  {model}: {{url: 'http://127.0.0.1:9/v1', model: {model}}}\n" for model in right)
    (tmp_path / "models.yaml").write_text(f"models:\n{entries}")
    registry = Registry(Workspace(tmp_path, Settings()))
    return Router(registry, tuple(right), [], evidence.rates(), predictors)


def models(plan: FilePlan) -> dict[str, int]:
    return Counter(plan.lanes[n] for n in plan.lane_of)


def one(model: str, read: int, written: float) -> float:
    return 1.0


@pytest.mark.parametrize("wish", [Wish(), Wish(budget=len(ASKED) / 1e9), Wish(dial=1.0)])
def test_a_little_luck_moves_nothing(tmp_path: Path, wish: Wish) -> None:
    made = router(tmp_path, {"a": (15, 14), "b": (11, 17)}, 20)
    assert models(plan_file(made, ASKED, wish, cost_of=one)) == {"a": len(ASKED)}
    assert {made.choose(_asked(text)).lane for text in ASKED[:4]} == {"a"}


@pytest.mark.parametrize("wish", [Wish(), Wish(budget=len(ASKED) / 1e9)])
def test_plain_evidence_moves_what_it_is_about(tmp_path: Path, wish: Wish) -> None:
    made = router(tmp_path, {"a": (38, 10), "b": (5, 38)}, 40)
    plan = plan_file(made, ASKED, wish, cost_of=one)
    assert models(plan) == {"a": len(ASKED) // 2, "b": len(ASKED) // 2}
    assert plan.figures is not None and plan.figures.score is not None
    low, high = plan.figures.score[1:]
    assert low < 38 / 40 < high
    assert [made.choose(_asked(text)).lane for text in ASKED[:2]] == ["a", "b"]


def test_a_budget_is_never_passed_and_one_below_the_least_is_said(tmp_path: Path) -> None:
    from ai_router.routing.router import RoutingError

    made = router(tmp_path, {"a": (38, 10), "b": (5, 38)}, 40)

    def cost(model: str, read: int, written: float) -> float:
        return 3e6 if model == "b" else 1e6

    for budget in (0.12, 0.15, 0.2, 0.36):
        plan = plan_file(made, ASKED, Wish(budget=budget), cost_of=cost)
        assert plan.figures is not None and plan.figures.cost is not None
        assert plan.figures.cost[0] <= budget * 1e9 * (1 + 1e-9)
    with pytest.raises(RoutingError, match=r"The budget of \$0.11 is below the \$0.12 that the cheapest models take"):
        plan_file(made, ASKED, Wish(budget=0.11), cost_of=cost)
    with pytest.raises(RoutingError, match="is below one item's price"):
        plan_file(made, ASKED, Wish(budget=0.0005), cost_of=cost)


def test_doubt_is_smaller_the_more_is_known(tmp_path: Path) -> None:
    few, many = (router(tmp_path, {"a": (n * 3 // 4, n // 2)}, n).predictors["a"] for n in (20, 200))
    from ai_router.routing.evidence import vector

    x = [vector(text) for text in ASKED[:6]]
    assert (few.odds(x)[1] > many.odds(x)[1]).all() and (many.odds(x)[1] > 0).all()


def test_an_ece_says_how_much_of_it_is_chance() -> None:
    draw = np.random.default_rng(0)
    stated = draw.random(200)
    found = [quality_of(stated, (draw.random(200) < stated).astype(float)) for _ in range(50)]
    mean = sum(one.ece for one in found) / 50
    assert mean == pytest.approx(found[0].by_chance, rel=0.15)


def _asked(text: str) -> Request:
    return Request(text)


def test_a_route_to_a_provider_costs_what_its_lane_does(tmp_path: Path) -> None:
    def cost(lane: str) -> float:
        price = "{input: 1, output: 1, batch: {input: 0.5, output: 0.5}}"
        entry = f"{{engine: provider, provider: openai, model: gpt-4.1-mini, price: {price}}}"
        way = f", lane: {lane}" if lane else ""
        (tmp_path / "models.yaml").write_text(f"models:\n  dear: {entry}\nroutes:\n  - {{use: dear{way}}}\n")
        registry = Registry(Workspace(tmp_path, Settings()))
        routes = read_routes(tmp_path / "models.yaml", registry)
        made = Router(registry, ("dear",), routes, Evidence(tmp_path / "evidence.db").rates())
        figures = plan_file(made, ASKED).figures
        assert figures is not None and figures.cost is not None
        return figures.cost[0]

    assert cost("batch") == cost("") > 0
    assert cost("now") == pytest.approx(2 * cost("batch"))
