"""Models whose past is no plain KV cache: their answers are those of transformers, whoever came before them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch.errors import FatalError
from batch.items import BatchItem, Request
from batch.options import SamplingOptions

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
t = pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import trial, verdicts  # noqa: E402
from batch.engines.torch.context import context_of  # noqa: E402
from batch.engines.torch.engine import TorchCore  # noqa: E402
from batch.engines.torch.loader import load  # noqa: E402
from batch.engines.torch.packed import PackedRunner  # noqa: E402
from batch.engines.torch.runner import Trial, open_runner  # noqa: E402
from batch.engines.torch.single import SingleRunner  # noqa: E402
from batch.engines.torch.states import StatesRunner  # noqa: E402
from tests.engines.conftest import save_tokenizer  # noqa: E402

COMMON = {"vocab_size": 320, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0, "initializer_range": 0.25}
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
KV = {"num_key_value_heads": 2, "max_position_embeddings": 160}
NEAR = 2e-3  # where the reference's two best logits are closer, either answer is right
SHARED = "packed, native kernels"
STATES = "packed with states, native kernels"


def config(kind: str) -> Any:
    plain = {**COMMON, **SHAPE, **KV}
    if kind == "rwkv":
        return t.RwkvConfig(**COMMON, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=256)
    if kind == "gpt-1":
        return t.OpenAIGPTConfig(
            vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=160, initializer_range=0.25
        )
    if kind == "recurrent-gemma":
        return t.RecurrentGemmaConfig(**plain, attention_window_size=24, lru_width=32)
    if kind == "bamba":
        return t.BambaConfig(
            **plain, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_expand=2
        )
    if kind == "minimax":
        layers = ["linear_attention", "full_attention"]
        return t.MiniMaxConfig(**plain, head_dim=8, layer_types=layers, num_local_experts=2, block_size=16)
    if kind == "mamba2":
        return t.Mamba2Config(
            **COMMON,
            hidden_size=32,
            num_hidden_layers=2,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=1,
            chunk_size=16,
        )
    if kind == "longrope":
        rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
        rope |= {"original_max_position_embeddings": 64}
        return t.Phi3Config(**plain, original_max_position_embeddings=64, rope_parameters=rope)
    if kind == "dynamic":
        rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
        return t.LlamaConfig(**{**plain, "max_position_embeddings": 64}, rope_parameters=rope)
    if kind == "gpt-bigcode":
        return t.GPTBigCodeConfig(
            **COMMON, n_embd=64, n_layer=2, n_head=16, n_positions=160, multi_query=True, n_inner=64
        )
    if kind == "gpt-bigcode-48":  # more query heads than a block of the native attention has lanes at once
        return t.GPTBigCodeConfig(
            **COMMON, n_embd=96, n_layer=2, n_head=48, n_positions=160, multi_query=True, n_inner=64
        )
    if kind == "gemma2":
        return t.Gemma2Config(**plain, head_dim=8, sliding_window=12, query_pre_attn_scalar=8)
    raise ValueError(kind)


def save(folder: Path, made: Any, **generation: Any) -> Path:
    torch.manual_seed(7)
    save_tokenizer(folder, chat=False)
    model = t.AutoModelForCausalLM.from_config(made)
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return folder


def prompts() -> list[list[int]]:
    return [
        [3 + (i * i * 7 + seed * i) % 300 for i in range(length)] for seed, length in enumerate([50, 3, 61, 20, 90])
    ]


def answers(core: TorchCore, asked: list[list[int]], limit: int) -> list[list[int]]:
    seen: dict[Any, Any] = {}
    take = core._take

    def keep(row: Any, token: int) -> str | None:
        seen[row.id] = row
        return take(row, token)

    core._take = keep  # type: ignore[method-assign]
    for i, prompt in enumerate(asked):
        sequence = core._sequence(BatchItem(i, Request("fox", {"params": {"max_tokens": limit}})))
        sequence.prompt = prompt
        if sequence.processors is not None:
            sequence.processors = core._generation.processors(prompt, limit, sequence.sampling)
        core._runner.register(sequence)
        core._scheduler.add(sequence)
    while core.busy:
        core.step()
    return [seen[i].tokens for i in range(len(asked))]


def expected(path: Path, prompt: list[int], limit: int, **options: Any) -> tuple[list[int], list[float]]:
    """By a model that has seen no other prompt; and how far apart the two best logits are at each token."""
    model = t.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=limit,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
        **options,
    )
    best = [row[0].topk(2).values for row in out.scores]
    return out.sequences[0, len(prompt) :].tolist(), [float(two[0] - two[1]) for two in best]


def same(path: Path, core: TorchCore, limit: int, **options: Any) -> None:
    asked = prompts()
    for prompt, ours in zip(asked, answers(core, asked, limit), strict=True):
        tokens, gaps = expected(path, prompt, limit, **options)
        ended = next((i + 1 for i, token in enumerate(tokens) if token in core._loaded.end_ids), len(tokens))
        if ours != tokens[:ended]:
            at = next((i for i, (a, b) in enumerate(zip(ours, tokens, strict=False)) if a != b), len(ours))
            assert at < len(gaps) and gaps[at] < NEAR, (len(prompt), at, ours, tokens)


@pytest.mark.parametrize(
    ("kind", "runner"),
    [
        ("rwkv", "one by one"),
        ("gpt-1", None),
        ("recurrent-gemma", None),
        ("bamba", STATES),
        ("minimax", "rows with states"),
        ("mamba2", STATES),
        ("longrope", "one by one"),
        ("dynamic", "one by one"),
        ("gpt-bigcode", SHARED),
        ("gpt-bigcode-48", SHARED),
        ("gemma2", None),
    ],
)
def test_answers_are_those_of_transformers(tmp_path: Path, kind: str, runner: str | None) -> None:
    path = save(tmp_path, config(kind))
    core = TorchCore(load(path, "fp32"), SamplingOptions(), 3)
    name = core.about["runner"]
    if runner is not None and core.about["kernels"] == "torch":
        runner = runner.removesuffix(", native kernels")
    assert runner is None or name == runner, core.about
    assert ("without a cache" in name) == any("slow:" in note for note in core.about.get("notes", []))
    # What generate keeps in its cache of longer ones was turned by other angles: there it is not what the model says.
    same(path, core, 24, **({"use_cache": False} if kind in ("dynamic", "rwkv", "recurrent-gemma") else {}))


@pytest.mark.parametrize("kind", ["rwkv", "gpt-1", "bamba", "minimax", "gemma2"])
def test_a_width_is_found_for_every_runner(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_folder", lambda: tmp_path)
    found = load(save(tmp_path, config(kind)), "fp32")
    for key in ("", "known", "known"):  # measured for itself, kept, and as it was kept
        core = TorchCore(replace(found, key=key), SamplingOptions())
        assert core.room > 0, core.about


def test_rows_with_states_share_a_pass_a_token() -> None:
    """And prompts of one length one pass; of rows that went no state is kept."""
    torch.manual_seed(7)
    model = t.AutoModelForCausalLM.from_config(config("bamba")).eval()
    with torch.inference_mode():
        runner = StatesRunner(model, 8)
        shapes: list[list[int]] = []

        def note(_: Any, args: Any, options: Any) -> None:
            shapes.append(list(options["input_ids"].shape))

        model.register_forward_pre_hook(note, with_kwargs=True)
        rows = [trial._row([3 + i] * length) for i, length in enumerate((9, 5, 9))]
        for row, logits in zip(rows, runner.prefill(rows), strict=True):
            row.tokens.append(int(logits.argmax()))
        runner.decode()
        assert shapes == [[2, 9], [1, 5], [3, 1]]
        held = sum(state.nbytes for state in states(runner))
        assert held == 3 * runner.bytes_per_row > 0 < runner.bytes_per_token
        runner.release(list(rows))
        assert runner.rows == [] and sum(state.nbytes for state in states(runner)) == 0


@pytest.mark.parametrize(("kind", "keyed"), [("bamba", True), ("mamba2", False)])
def test_states_count_in_what_the_rows_may_take(tmp_path: Path, kind: str, keyed: bool) -> None:
    """Half of the memory at most, and keys and values have the rest."""
    loaded = load(save(tmp_path, config(kind)), "fp32")
    core = TorchCore(loaded, SamplingOptions(), 64, cache_bytes=200_000)
    row, token = core._runner.bytes_per_row, core._runner.bytes_per_token
    assert core.room == min(64, 100_000 // row) < 64 and bool(token) is keyed
    if keyed:
        assert core._scheduler.cache_tokens == (200_000 - core.room * row) // token
    assert TorchCore(loaded, SamplingOptions(), 4, cache_bytes=1_000).room == 1
    assert TorchCore(loaded, SamplingOptions(), 4, cache_bytes=100_000_000).room == 4


def states(runner: StatesRunner) -> list[Any]:
    """All states of all rows."""
    return [states[key] for states, key in runner._states._states()]


def test_a_long_window_is_run_past_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made narrow for the trial, and is as it was after it."""
    monkeypatch.setattr(trial, "WORK", 1.0)
    made = t.MistralConfig(**COMMON, **SHAPE, num_key_value_heads=2, max_position_embeddings=512, sliding_window=100)
    model = t.AutoModelForCausalLM.from_config(made).eval()
    with torch.inference_mode():
        seen = Trial(model)
        assert seen._narrow == {100} and len(seen._long) < 60

        class Forgets(SingleRunner):
            """Whose window is one too short."""

            def _forward(self, sequence: Any) -> Any:
                model.config.sliding_window -= 1
                try:
                    return super()._forward(sequence)
                finally:
                    model.config.sliding_window += 1

        assert seen.agrees(SingleRunner(model), 1e-3)
        assert not seen.agrees(Forgets(model), 1e-3)
        assert model.config.sliding_window == 100
        assert open_runner(model, 4).name.startswith("packed")


def test_a_model_that_remembers_other_prompts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = t.AutoModelForCausalLM.from_config(config("gpt-1")).eval()
    original, calls = model.forward, []

    def forward(input_ids: Any, **options: Any) -> Any:
        calls.append(1)
        out = original(input_ids)
        out.logits = out.logits + len(calls)
        return out

    monkeypatch.setattr(model, "forward", forward)
    with torch.inference_mode(), pytest.raises(FatalError, match="state of one prompt reaches the next"):
        open_runner(model, 4)


def test_no_memory_for_the_faster_runner_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from batch.engines.torch import runner

    def full(*args: Any, **options: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    for name in ("NativePackedRunner", "PlainPackedRunner"):
        monkeypatch.setattr(runner, name, full)
    model = t.AutoModelForCausalLM.from_config(t.LlamaConfig(**COMMON, **SHAPE, **KV)).eval()
    notes: list[str] = []
    with torch.inference_mode():
        assert open_runner(model, 4, notes=notes).name == "rectangle"
    assert notes and all("no memory for the" in note for note in notes)


GENERATION = {
    "repetition_penalty": 1.4,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[7], [9, 11]],
    "suppress_tokens": [20, 21, 22],
    "begin_suppress_tokens": [30, 31],
    "forced_bos_token_id": 15,
    "forced_eos_token_id": 4,
    "min_new_tokens": 6,
    "eos_token_id": [4, 44],
}


@pytest.mark.parametrize("name", [*GENERATION, "all"])
def test_generation_config_is_honoured(tmp_path: Path, name: str) -> None:
    asked = GENERATION if name == "all" else {name: GENERATION[name], "eos_token_id": [4, 44]}
    path = save(tmp_path, t.LlamaConfig(**COMMON, **SHAPE, **KV), **asked)
    core = TorchCore(load(path, "fp32"), SamplingOptions(), 3)
    if name not in ("all", "eos_token_id"):
        assert any(name in note for note in core.about["notes"])
    same(path, core, 12)


@pytest.mark.parametrize(("given", "wanted"), [(None, 1.4), (1.0, 1.0), (1.9, 1.9)])
def test_a_penalty_that_the_model_asks_for_is_the_users_where_one_is_given(
    tmp_path: Path, given: float | None, wanted: float
) -> None:
    path = save(tmp_path, t.LlamaConfig(**COMMON, **SHAPE, **KV), repetition_penalty=1.4)
    core = TorchCore(load(path, "fp32"), SamplingOptions(repetition_penalty=given), 3)
    same(path, core, 12, repetition_penalty=wanted)


def test_what_of_it_is_not_honoured_is_said(tmp_path: Path) -> None:
    path = save(tmp_path, t.LlamaConfig(**COMMON, **SHAPE, **KV), num_beams=4, do_sample=True, temperature=0.6)
    notes = TorchCore(load(path, "fp32"), SamplingOptions(), 1).about["notes"]
    assert any("not done" in note and "num_beams 4" in note for note in notes)
    assert any("sampling" in note and "temperature 0.6" in note for note in notes)


@pytest.mark.parametrize(
    ("rope", "written", "tokens"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 64, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256, 256),
        ({"rope_type": "dynamic", "factor": 2.0}, 64, 128),
        ({"type": "dynamic", "factor": 2.0}, 64, 128),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}, 1024, 1024),
        ({"rope_type": "linear", "factor": 8.0}, 1024, 1024),
        (
            {"full_attention": {"rope_type": "yarn", "factor": 3.0}, "sliding_attention": {"rope_type": "default"}},
            50,
            150,
        ),
        ({}, None, None),
    ],
)
def test_stretched_contexts_are_counted(rope: dict[str, Any], written: int | None, tokens: int | None) -> None:
    class Config:
        rope_parameters = rope
        max_position_embeddings = written

    assert context_of(Config()) == tokens


def test_a_runner_that_rounds_is_judged_by_a_real_text(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is said, of one that is taken and of one that is not."""
    model, text = load(qwen3, "fp32", lean=False).model, [3 + (5 * i) % 190 for i in range(260)]
    seen: list[str] = []
    noise: list[float] = []
    real = PackedRunner._forward

    def rounding(self: Any, *arguments: Any) -> Any:
        logits = real(self, *arguments)
        return logits + noise[-1] * logits.abs().max() * torch.randn(logits.shape, generator=random)

    monkeypatch.setattr(PackedRunner, "_forward", rounding)
    with torch.inference_mode():
        for wrong, kind in ((0.0, "packed"), (0.02, "packed"), (2.0, "rectangle")):
            noise.append(wrong)
            random, notes = torch.Generator().manual_seed(1), []  # type: ignore[var-annotated]
            options: dict[str, Any] = {"cache_dtype": torch.bfloat16, "notes": notes, "text": text}
            found = open_runner(model, 4, **options)
            assert found.name.startswith(kind)
            seen.append(" ".join(notes))
    assert seen[0] == ""
    assert "runner by trial: logits differ by" in seen[1] and "of tokens the same after 260 of a text" in seen[1]
    assert "packed runner is not used, its logits differ by" in seen[2] and "KL" in seen[2]
