"""What a job will cost is said before it runs: prompts counted by the model's tokenizer, at the price of its lane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_router import estimate, jobs
from ai_router.models import Registry
from ai_router.settings import Settings, Workspace
from batch.options import RunOptions, SamplingOptions
from batch.sources import open_source

TOKENIZER = Path(estimate.__file__).parent / "demo"
PRICE = "{input: 2, output: 8, batch: {input: 1, output: 4}}"
PROMPTS = ["Where is the harbour?", "日本語の質問", "one"]


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    """The plan of three prompts on the model of an entry."""
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS), "utf-8")

    def plan(entry: str, run: RunOptions | None = None, **sampling: int) -> estimate.Estimate | None:
        (tmp_path / "models.yaml").write_text(f"models:\n  m: {entry}\n", "utf-8")
        spec = Registry(Workspace(tmp_path, Settings())).get("m")
        chosen = SamplingOptions(**sampling)  # type: ignore[arg-type]
        return estimate.before(spec, jobs.check(open_source(file), spec, jobs.JobPlan("m", chosen)), chosen, run)

    return plan


def test_tokens_are_counted_where_the_tokenizer_is_at_hand(planned: Any) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    exact = sum(len(theirs.encode(text).ids) for text in PROMPTS)
    for place in (TOKENIZER, TOKENIZER / "tokenizer.json"):
        entry = f"{{url: 'https://example.org/v1', model: m, price: {PRICE}, tokenizer: '{place.as_posix()}'}}"
        found = planned(entry, max_tokens=10)
        assert found.tokens_input == (exact + 3, exact + 3 * estimate.TEMPLATE)
    guessed = planned(f"{{url: 'https://example.org/v1', model: m, price: {PRICE}}}", max_tokens=10)
    assert guessed.tokens_input[0] <= exact < guessed.tokens_input[1]


@pytest.mark.parametrize("by_run", [False, True])
@pytest.mark.parametrize(
    ("lane", "low", "high"), [("batch", (1, 4), (1, 4)), ("now", (2, 8), (2, 8)), ("auto", (1, 4), (2, 8))]
)
def test_a_providers_batches_cost_what_batches_cost(
    planned: Any, lane: str, low: tuple[int, int], high: tuple[int, int], by_run: bool
) -> None:
    entry = f"{{engine: provider, provider: openai, model: tiny, price: {PRICE}"
    run = RunOptions(lane=lane, deadline="6h") if by_run else None
    found = planned(f"{entry}}}" if by_run else f"{entry}, lane: {lane}, deadline: 6h}}", run, max_tokens=1000)
    assert found is not None and found.cost is not None
    for at, (rates, answers) in enumerate([(low, 3 * 1), (high, 3 * 1000)]):
        tokens = found.tokens_input[at] // 3 * 3, answers
        assert found.cost[at] == sum(n * rate * 1000 for n, rate in zip(tokens, rates, strict=True))
