"""Models assigned to a whole file: beside an integer programme, never over the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ai_router.routing.assign import AssignmentError, best_for_budget, cheapest_for_score, with_dial

scipy = pytest.importorskip("scipy")


def exact(score: np.ndarray, cost: np.ndarray, *, budget: float | None = None, wanted: float | None = None) -> float:
    """The optimum, by HiGHS: the most score for the budget, or the least cost for the score wanted."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    items, models = score.shape
    usable = np.isfinite(score).ravel()
    worth = np.where(usable, score.ravel(), 0.0)
    one = np.kron(np.eye(items), np.ones(models))
    constraints = [LinearConstraint(one, 1, 1)]
    if budget is not None:
        constraints.append(LinearConstraint(cost.ravel()[None], -np.inf, budget))
    if wanted is not None:
        constraints.append(LinearConstraint(worth[None], wanted, np.inf))
    aim = -worth if budget is not None else cost.ravel()
    bounds = Bounds(0, usable.astype(float))
    found = milp(
        aim, constraints=constraints, bounds=bounds, integrality=np.ones(aim.size), options={"mip_rel_gap": 1e-6}
    )
    assert found.success, found.message
    return abs(float(found.fun))


def instance(seed: int, items: int, models: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    price = np.sort(draw.gamma(1, 5, models))
    cost = price * draw.gamma(2, 1, (items, models))
    score = 1 / (1 + np.exp(-(np.linspace(-1, 1.5, models) + draw.normal(0, 1, (items, models)))))
    score[draw.random((items, models)) < 0.1] = -np.inf
    score[np.arange(items), draw.integers(models, size=items)] = 0.5
    return score, cost


@pytest.mark.parametrize(("seed", "items", "models"), [(0, 3, 2), (1, 12, 5), (2, 64, 4), (3, 65, 3), (4, 200, 5)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_within_one_per_cent_of_the_integer_programme(seed: int, items: int, models: int, share: float) -> None:
    score, cost = instance(seed, items, models)
    usable = np.where(np.isfinite(score), cost, np.inf)
    least = usable.min(axis=1).sum()
    most = cost[np.arange(items), score.argmax(axis=1)].sum()
    budget = least + share * max(0.0, most - least) + 1e-9
    found = best_for_budget(score, cost, budget)
    assert found.cost <= budget
    optimum = exact(score, cost, budget=budget)
    assert optimum * 0.99 <= found.score <= optimum + 1e-6
    assert found.bound >= optimum - 1e-6
    rows = np.arange(items)
    assert found.score == pytest.approx(score[rows, found.models].sum())
    assert found.cost == pytest.approx(cost[rows, found.models].sum())


@pytest.mark.parametrize(("seed", "items", "models"), [(5, 4, 3), (6, 40, 4), (7, 250, 3)])
@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_the_least_spend_for_a_score(seed: int, items: int, models: int, share: float) -> None:
    score, cost = instance(seed, items, models)
    usable = np.where(np.isfinite(score), cost, np.inf)
    floor = score[np.arange(items), usable.argmin(axis=1)].sum()
    wanted = floor + share * (score.max(axis=1).sum() - floor)
    found = cheapest_for_score(score, cost, wanted)
    assert found.score >= wanted - 1e-6
    assert found.cost <= exact(score, cost, wanted=wanted - 1e-9) * 1.01 + 1e-9


numbers = st.floats(0, 1, width=16)


@given(
    arrays.arrays(np.float64, (7, 3), elements=numbers),
    arrays.arrays(np.float64, (7, 3), elements=st.floats(0, 100, width=16)),
    st.floats(0, 1),
)
def test_never_over_the_budget_and_never_under_the_cheapest(score: np.ndarray, cost: np.ndarray, share: float) -> None:
    least, most = cost.min(axis=1).sum(), cost.max(axis=1).sum()
    budget = least + share * (most - least)
    found = best_for_budget(score, cost, budget)
    assert found.cost <= budget + 1e-9
    cheapest = score[np.arange(7), np.where(cost == cost.min(axis=1, keepdims=True), score, -1).argmax(axis=1)].sum()
    assert found.score >= cheapest - 1e-9


def test_what_is_free_is_taken_and_equal_costs_are_no_trouble() -> None:
    score, cost = np.array([[0.1, 0.9], [0.8, 0.2]] * 100), np.zeros((200, 2))
    assert best_for_budget(score, cost, 0.0).score == pytest.approx(170)
    assert cheapest_for_score(score, cost + 1, 170).score == pytest.approx(170)


def test_the_dial_goes_from_the_cheapest_to_the_best() -> None:
    score, cost = instance(9, 300, 4)
    found = [with_dial(score, cost, dial) for dial in (0, 0.3, 0.6, 1)]
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    assert found[-1].score == pytest.approx(score.max(axis=1).sum())
    assert found[0].cost == pytest.approx(np.where(np.isfinite(score), cost, np.inf).min(axis=1).sum())


def test_what_cannot_be_is_said() -> None:
    score, cost = np.array([[0.5, 0.9]]), np.array([[1.0, 2.0]])
    with pytest.raises(AssignmentError, match=r"below the least that all items cost together: 0\.5 < 1"):
        best_for_budget(score, cost, 0.5)
    with pytest.raises(AssignmentError, match=r"0\.900 on average, below 0\.950"):
        cheapest_for_score(score, cost, 0.95)
    with pytest.raises(AssignmentError, match="no model that may answer it"):
        best_for_budget(np.full((1, 2), -np.inf), cost, 9)
    with pytest.raises(AssignmentError, match="not known"):
        best_for_budget(score, np.array([[np.nan, 1.0]]), 9)
