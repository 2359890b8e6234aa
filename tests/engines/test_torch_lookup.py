"""Guesses from what was said before: answers stay word for word what they are without, in fewer passes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.engines.torch.lookup import LONGEST_REST, MOST_ROWS, PASS_TOKENS, Lookup

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import native, packed  # noqa: E402
from batch.engines.torch.engine import TorchCore  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.items import BatchItem, Request  # noqa: E402
from batch.options import SamplingOptions  # noqa: E402

TEXTS = [
    "you fix the list and say the list and say the list",
    "日本語 日本語 the fox",
    "queue",
    "a b a b a b a b a b a",
]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, PASS_TOKENS))
def test_a_guess_is_what_followed_the_newest_tokens(known: list[int], most: int) -> None:
    found = Lookup().guess(known, most)
    assert len(found) <= most
    places = [i for i in range(1, len(known)) if known[i - 1] == known[-1]]
    assert bool(found) == bool(places)
    assert not found or any(known[i : i + len(found)] == found for i in places)
    longest = max((n for n in (1, 2, 3) for i in places if i >= n and known[i - n : i] == known[-n:]), default=0)
    assert not found or any(known[i - longest : i] == known[-longest:] for i in places if known[i] == found[0])


def test_guesses_that_are_always_wrong_come_seldom() -> None:
    lookup, known, came = Lookup(), [1, 2, 1], 0
    for _ in range(500):
        guess = lookup.guess(known, 9)
        if guess:
            came += 1
            lookup.heard(len(guess), 0)
        known.append(known[-2])
    assert 500 / LONGEST_REST <= came <= 500 / LONGEST_REST + 8


def answers(core: TorchCore, params: list[dict[str, Any]]) -> tuple[dict[Any, list[int]], int]:
    """The tokens of all answers, and how many passes they took."""
    seen: dict[Any, Any] = {}
    take = core._take

    def keep(row: Any, token: int) -> str | None:
        seen[row.id] = row.tokens
        return take(row, token)

    core._take = keep  # type: ignore[method-assign]
    for i, asked in enumerate(params):
        core.submit(BatchItem(i, Request(TEXTS[i % len(TEXTS)], {"params": asked})))
    steps = 0
    while core.busy:
        core.step()
        steps += 1
    return seen, steps


@pytest.mark.parametrize(
    ("kind", "precision", "width"), [("qwen3", "fp32", 1), ("llama", "int8", 3), ("mistral", "int4", 2)]
)
def test_answers_are_word_for_word_what_they_are_without(
    models: Any, kind: str, precision: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With guesses from the text, and with some that are right for a while, which random models' texts hardly give."""
    if native.kernels() is None:
        pytest.skip("no native kernels here")
    loaded = load(models(kind), precision)
    params = [{"max_tokens": n} for n in (60, 33, 1, 2, 47)]

    def run() -> tuple[dict[Any, list[int]], int]:
        return answers(TorchCore(loaded, SamplingOptions(temperature=0), width), params)

    found, passes = run()
    with monkeypatch.context() as patched:
        patched.setattr(packed, "guess", lambda rows: False)
        usual, more = run()
    assert found == usual and passes <= more
    rng = random.Random(width)

    def right_for_a_while(lookup: Lookup, known: list[int], most: int) -> list[int]:
        said = next(tokens for tokens in usual.values() for n in range(len(tokens)) if n and known[-n:] == tokens[:n])
        at = next(n for n in range(len(said), 0, -1) if known[-n:] == said[:n])
        guess = said[at : at + most]
        if guess and rng.random() < 0.5:
            guess[rng.randrange(len(guess))] += 1
        return guess

    monkeypatch.setattr(Lookup, "guess", right_for_a_while)
    found, passes = run()
    assert found == usual
    assert passes < 0.7 * more


def test_logits_of_guesses_are_those_of_single_tokens(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit where products are exact."""
    kernels = native.kernels()
    if kernels is None or not kernels.panel:
        pytest.skip("no exact product here")
    loaded = load(models("llama"), "int8")

    def run() -> Any:
        core, heard = TorchCore(loaded, SamplingOptions(temperature=0), 1), {}
        forward = core._runner._forward

        def keep(tokens: list[int], positions: list[int], *rest: Any, **_: bool) -> Any:
            logits = forward(tokens, positions, *rest)
            for token, position, scores in zip(tokens, positions, logits, strict=False):
                if len(tokens) == len(logits):
                    heard[position, token] = scores.clone()
            return logits

        core._runner._forward = keep
        return heard, answers(core, [{"max_tokens": 50}])

    guessed, (tokens, _) = run()
    monkeypatch.setattr(packed, "guess", lambda rows: False)
    single, (usual, _) = run()
    assert tokens == usual and set(single) <= set(guessed)
    assert all(torch.equal(guessed[place], scores) for place, scores in single.items())


@pytest.mark.parametrize(
    "asked", [{"temperature": 0.7, "seed": 3}, {"repetition_penalty": 1.2}, {"logprobs": True}, {"wide": True}]
)
def test_who_may_not_guess_does_not(models: Any, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if native.kernels() is None:
        pytest.skip("no native kernels here")
    core = TorchCore(load(models("qwen3"), "fp32"), SamplingOptions(temperature=0), MOST_ROWS + 1)
    wide = asked.pop("wide", False)
    passes: list[tuple[int, int]] = []  # rows, and tokens

    def run(parts: list[tuple[int, int]], **how: Any) -> Any:
        passes.append((len({row for row, _ in parts}), len(parts)))
        return usual(parts, **how)

    usual = core._runner._pass
    monkeypatch.setattr(core._runner, "_pass", run)
    answers(core, [{"max_tokens": 20, **asked}] * (MOST_ROWS + 1 if wide else 1))
    least = MOST_ROWS + 1 if wide else 1
    assert any(rows == least for rows, _ in passes)
    assert all(tokens == rows for rows, tokens in passes if rows >= least)
