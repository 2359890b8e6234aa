"""Rows with recurrent state in packed steps: what is run in a pass, what is shared, and what is kept."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import native, packed_states, recurrent  # noqa: E402
from batch.engines.torch.attention import Native, Plan, set_plan  # noqa: E402
from batch.engines.torch.packed_states import RowStates, StatesMixin  # noqa: E402
from batch.engines.torch.runner import open_runner  # noqa: E402
from batch.engines.torch.slots import SlotCache  # noqa: E402
from batch.engines.torch.trial import _row  # noqa: E402
from tests.engines.architectures import COMMON, differs, expected, make  # noqa: E402


@pytest.fixture(scope="module")
def bamba() -> Any:
    return make("bamba", num_hidden_layers=2, attn_layer_indices=[1])


@pytest.fixture(scope="module")
def mamba() -> Any:
    return make("mamba", num_hidden_layers=2)


def watched(model: Any, runner: Any, *do: Any) -> list[list[int]]:
    """The shapes of the passes that are run meanwhile."""
    shapes: list[list[int]] = []

    def note(_: Any, args: Any, options: Any) -> None:
        shapes.append(list(options["input_ids"].shape))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        for one in do:
            one()
    finally:
        hook.remove()
    return shapes


def test_prompts_go_in_by_pieces_that_many_rows_have(bamba: Any) -> None:
    with torch.inference_mode():
        runner: Any = open_runner(bamba, 8)
        assert isinstance(runner, StatesMixin) and runner._goes_on
        rows = [_row([3 + i] * length) for i, length in enumerate((9, 5, 9))]

        def begin() -> None:
            for row, logits in zip(rows, runner.prefill(rows), strict=True):
                row.tokens.append(int(logits.argmax()))

        assert watched(bamba, runner, begin, runner.decode) == [[2, 8], [1, 4], [3, 1], [3, 1]]
        held = runner._states._held
        assert sum(states[:3].nbytes for states in held.values()) == 3 * runner._states.bytes_per_row() > 0
        assert runner.bytes_per_token > 0
        runner.release(list(rows))
        assert not runner.rows and not held and runner.bytes_per_row > 0


def test_a_state_that_cannot_be_gone_on_from_takes_its_prompt_token_by_token(mamba: Any) -> None:
    """Beside the rows that decode; without a state all that the rows have goes in at once."""
    with torch.inference_mode():
        runner: Any = open_runner(mamba, 8)
        assert not runner._goes_on and not runner.bytes_per_token
        rows = [_row([3 + i] * length) for i, length in enumerate((6, 4))]
        done: list[int] = []

        def step() -> None:
            newest, logits = runner.advance([] if runner.rows else rows)
            for row, scores in zip(newest, logits if logits is not None else (), strict=True):
                row.tokens.append(int(scores.argmax()))
            done.append(len(newest))

        assert watched(mamba, runner, step, step, step) == [[2, 3], [2, 1], [2, 1], [2, 1]]
        assert done == [1, 1, 2]
        runner.release(list(rows))


@pytest.mark.parametrize("which", ["bamba", "mamba"])
def test_what_prompts_begin_with_is_run_once(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    prompts = [[3 + (i * i * 7 + seed * i) % 300 for i in range(COMMON + 3 + seed)] for seed in range(3)]
    for prompt in prompts[1:]:
        prompt[:COMMON] = prompts[0][:COMMON]
    with torch.inference_mode():
        runner: Any = open_runner(model, 8)
        rows = [_row(prompt) for prompt in prompts]
        for row in rows:
            runner.register(row)

        def begin() -> None:
            for row, logits in zip(rows, runner.prefill(rows), strict=True):
                row.tokens.append(int(logits.argmax()))

        shapes = watched(model, runner, begin)
        assert sum(count * tokens for count, tokens in shapes) == sum(map(len, prompts)) - 2 * 32
        assert runner.prefixes.computed == 1
        for _ in range(11):
            for row, logits in zip(rows, runner.decode(), strict=True):
                row.tokens.append(int(logits.argmax()))
        runner.release(list(rows))
        for row, prompt in zip(rows, prompts, strict=True):
            assert not differs(row.tokens, *expected(model, prompt))


def test_chunks_are_as_before_after_a_pass(bamba: Any) -> None:
    with torch.inference_mode():
        runner: Any = open_runner(bamba, 8)
        usual = [module.chunk_size for module in runner._chunked]
        assert usual
        with runner._narrow_chunks(3):
            assert all(module.chunk_size == 4 for module in runner._chunked)
        assert [module.chunk_size for module in runner._chunked] == usual


@given(st.lists(st.integers(0, 600), min_size=1, max_size=32))
def test_pieces_are_of_rows_that_have_them(lengths: list[int]) -> None:
    """All is run, no more is run of a row than it has, and in no more passes than there are rows or powers of two."""
    left = {i: length for i, length in enumerate(lengths) if length}
    passes = 0
    while left:
        size, rows = packed_states._piece(left)
        assert rows and all(left[i] >= size > 0 for i in rows)
        left = {i: length - size * (i in rows) for i, length in left.items() if length > size * (i in rows)}
        passes += 1
    assert passes <= max(lengths) // 256 + min(9, len(set(lengths) - {0})) + 8 * bool(max(lengths))


@given(st.lists(st.tuples(st.sampled_from(["run", "drop", "take"]), st.integers(0, 5)), max_size=12))
def test_states_stay_with_their_rows(steps: list[tuple[str, int]]) -> None:
    """Whoever runs beside whom, comes, goes, or begins with what another has."""
    linear = packed_states._Linear(number_of_states=1)
    states, rows, newest, taken = RowStates([linear], 8), [], 0, None  # type: ignore[var-annotated]
    for step, at in steps:
        if step == "run":
            fresh = at >= len(rows)
            group = [len(rows)] if fresh else sorted({at, len(rows) - 1})
            states.enter(group, fresh=fresh)
            seen = linear.recurrent_states[0]
            assert fresh == (seen is None) and (fresh or seen[:, 0].tolist() == [rows[i] for i in group])
            newest += 1
            values = torch.tensor([[float(newest * 10 + i)] for i in group])
            linear.recurrent_states[0] = values if fresh else seen.copy_(values)
            states.leave(group)
            rows[slice(len(rows) if fresh else 0, None)] = (
                [values[0, 0].item()]
                if fresh
                else [values[group.index(i), 0].item() if i in group else row for i, row in enumerate(rows)]
            )
        elif step == "drop" and at < len(rows):
            states.copy(len(rows) - 1, at)
            rows[at] = rows[-1]
            rows.pop()
        elif step == "take" and at < len(rows):
            taken = states.take(at), rows[at]
        if taken is not None and len(rows) < 6:
            states.put(len(rows), taken[0])
            rows.append(taken[1])
            taken = None
    states.enter(list(range(len(rows))), fresh=not rows)
    assert not rows or linear.recurrent_states[0][:, 0].tolist() == rows


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_a_step_of_states_is_that_of_the_classes(kind: str, gated: bool) -> None:
    """In place, in packed steps with native kernels; elsewhere, and of what is not known, it is their own."""
    quick = native.kernels()
    if quick is None:
        pytest.skip("no native kernels here")
    model = make(kind)
    code = sys.modules[type(model).__module__]
    recurrent.adapt(model)
    assert recurrent.adapt(model) == 0
    step = getattr(code, f"{kind}_selective_state_update")
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(2))
    if kind == "mamba":
        x, steps, rates, skip, bias = draw(3, 24), draw(3, 24), -draw(24, 16).abs(), draw(24), draw(24)
        b, c = draw(3, 16), draw(3, 16)
    else:
        x, b, c = draw(3, 6, 8), draw(3, 2, 16), draw(3, 2, 16)
        steps, skip, bias = draw(3, 6, 1).expand(-1, -1, 8), draw(6, 1).expand(-1, 8), draw(6, 1).expand(-1, 8)
        rates = (-draw(6).abs())[:, None, None].expand(-1, 8, 16)
    said = {"dt_bias": bias, "dt_softplus": True, "z": draw(*x.shape) if gated else None}
    usual = draw(*x.shape, 16)
    ours = usual.clone()
    with torch.inference_mode():
        wanted = step(usual, x, steps, rates, b, c, skip, **said)
        assert recurrent._step(ours, x, steps, rates, b, c, skip, **said) is None  # no packed step
        set_plan(Plan(SlotCache(None, 1), [], [], Native(quick, torch.zeros(1, 1, dtype=torch.int64), [], 1, [])))
        try:
            assert recurrent._step(ours.transpose(0, 1), x, steps, rates, b, c) is None
            assert recurrent._step(ours, x.double(), steps, rates, b, c) is None
            found = recurrent._step(ours, x, steps, rates, b, c, skip, **said)
        finally:
            set_plan(None)
    assert found is not None
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours, usual, rtol=1e-4, atol=1e-5)
