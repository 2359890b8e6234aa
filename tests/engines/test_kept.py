"""What is reckoned of a model's memory before it is loaded is what its runner takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ai_router.cli import models as listed
from ai_router.models import ModelSpec, describe, reckoning
from ai_router.models.discovery.kept import of_config
from ai_router.tui.models import screen
from batch.engines.gguf import kept as gguf_kept
from batch.engines.local import processor

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

from batch.engines.gguf.header import read_header  # noqa: E402
from batch.engines.torch import held  # noqa: E402
from batch.engines.torch.engine import TorchCore  # noqa: E402
from batch.engines.torch.lean import weights  # noqa: E402
from batch.engines.torch.loader import Loaded  # noqa: E402
from batch.engines.torch.single import SingleRunner  # noqa: E402
from tests.engines import architectures, gguf_files  # noqa: E402

NAMES = ("llama", "gemma2", "falcon", "deepseek_v3", "deepseek_v32", "gemma4_text", "mamba", "lfm2", "falcon_h1")
NAMES += (
    "qwen3_next",
    "nemotron_h",
    "zamba2",
    "minimax",
    "rwkv",
    "gpt2",
    "longcat_flash",
    "xlstm",
    "zaya",
    "inkling_text",
)


def measured(model: Any) -> tuple[int, int]:
    with torch.inference_mode():
        runner = SingleRunner(model)
        return runner.bytes_per_token, runner.bytes_per_row


@pytest.mark.parametrize("name", NAMES)
def test_a_config_tells_what_a_row_takes(name: str) -> None:
    if name not in architectures.names():
        pytest.skip(f"this transformers has no {name}")
    model = architectures.make(name)
    per_token, per_row = measured(model)
    found = of_config(json.loads(model.config.to_json_string(use_diff=False)))
    assert found is not None
    assert 2 * found.per_token == per_token  # which are in 32 bits here
    assert per_row - 64 <= found.per_row <= 1.4 * per_row  # windows count what they saw, in a few bytes


def test_what_a_config_does_not_tell_is_not_known() -> None:
    absurd = [{}, {"num_hidden_layers": 2**40, "num_attention_heads": 4}, {"num_hidden_layers": "many"}]
    absurd += [{"num_hidden_layers": 4, "model_type": "deepseek_v4", "num_attention_heads": 4, "hidden_size": 64}]
    absurd += [{"num_hidden_layers": 4, "model_type": odd} for odd in ([], {}, 5, None)]
    assert [of_config(config) for config in absurd] == [None] * len(absurd)
    spec = ModelSpec("m", "m", "torch", "m", "found", size_bytes=1000, parameters=250)
    assert spec.memory(8) is None  # and not that of the weights alone
    assert (listed._memory_text(spec), screen._memory(spec)) == ("unknown", "unknown")
    served = replace(spec, engine="openai", size_bytes=None, parameters=None)
    assert (listed._memory_text(served), screen._memory(served)) == ("—", "—")
    without = of_config({"num_hidden_layers": 4, "model_type": "recurrent_gemma", "num_attention_heads": 4})
    assert without is not None and (without.per_token, without.per_row) == (0, 0)
    known = replace(spec, cache_bytes_per_token=0, cache_bytes_per_row=0)
    assert known.memory(8) == reckoning.RUNTIME["torch"] + 4 * 250


@pytest.mark.parametrize("name", ["llama", "qwen3", "falcon", "mamba"])
def test_a_header_tells_what_a_row_takes(name: str, tmp_path: Path) -> None:
    model = gguf_files.model_of(name)
    header = read_header(gguf_files.write(tmp_path / "m.gguf", name, model))
    per_token, per_row = measured(model)
    assert 2 * (gguf_kept.cache_bytes_per_token(header) or 0) == per_token
    assert gguf_kept.cache_bytes_per_row(header) == per_row
    assert gguf_kept.embeddings(header) == model.config.vocab_size * model.config.hidden_size


def test_rows_that_run_one_by_one_are_no_more_than_memory_holds() -> None:
    model = architectures.make("roformer")
    with torch.inference_mode():
        per_token = SingleRunner(model).bytes_per_token
    about = {"device": "cpu", "precision": "fp32", "parameters": 0}
    loaded = Loaded(model, gguf_files_tokenizer(), frozenset(), 160, about)
    core = TorchCore(loaded, max_batch=64, cache_bytes=per_token * 200)
    assert core.about["runner"] == "one by one" and core._scheduler.cache_tokens == 200
    rwkv = architectures.make("rwkv")
    with torch.inference_mode():
        per_row = SingleRunner(rwkv).bytes_per_row
    assert TorchCore(replace(loaded, model=rwkv), max_batch=64, cache_bytes=per_row * 10).room == 5


def gguf_files_tokenizer() -> Any:
    import transformers
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(100)}, unk_token="w0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words)


def test_each_tensor_is_counted_once() -> None:
    one = torch.zeros(100)
    assert held.bytes_of({"a": one, "b": [one[:10], (one,)], "c": torch.nn.Linear(3, 3), "d": None}) == 400


@pytest.mark.parametrize(
    ("precision", "int8", "parameters", "weights"),
    [
        ("fp32", True, 10_000_000, 40_000_000),
        ("auto", True, 10_000_000, 40_000_000),
        ("auto", False, 200_000_000, 800_000_000),
        ("auto", True, 200_000_000, 190_000_000 * 1.04 + 10_000_000 * 5.04),
        ("int4", True, 200_000_000, 190_000_000 * 0.63 + 10_000_000 * 4.63),
    ],
)
def test_weights_are_reckoned_as_they_run(
    precision: str, int8: bool, parameters: int, weights: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx512_vnni", "avx512_bf16"} if int8 else ()))
    monkeypatch.setattr(processor, "GPU", tmp_path / "none")
    known = {"size_bytes": 1000, "parameters": parameters, "quantisation": "Q8_0", "embeddings": 10_000_000}
    known |= {"cache_bytes_per_token": 100, "cache_bytes_per_row": 7, "context": 4000}
    spec = ModelSpec("m", "m", "torch", tmp_path, "found", engine_options={"precision": precision}, **known)
    cached = 8 * ((100 if precision != "fp32" and int8 and parameters > 1e8 else 200) * 1000 + 7)
    assert spec.memory(8) == pytest.approx(reckoning.RUNTIME["torch"] + weights + cached)
    narrow = replace(spec, engine_options={"precision": precision, "kv_cache": "int8"})
    assert narrow.memory(8) == pytest.approx(reckoning.RUNTIME["torch"] + weights + 8 * (100 * 9 // 16 * 1000 + 7))
    # A folder is read as a whole, in fp32.
    assert (replace(spec, quantisation="").memory() or 0) >= 4 * parameters
    kept = replace(spec, engine="gguf").memory(8)
    assert kept == reckoning.RUNTIME["gguf"] + 1000 + 8 * (100 * 1000 + 7)


@pytest.mark.parametrize("tied", [True, False])
def test_what_stays_in_the_file_is_not_reckoned(tied: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx512_vnni", "avx512_bf16"}))
    monkeypatch.setattr(processor, "GPU", tmp_path / "none")
    folder, table = tmp_path / "m", 100 * 64
    model = architectures.make("llama", tie_word_embeddings=tied, vocab_size=100, hidden_size=64)
    model.save_pretrained(folder)
    spec = describe(folder, source="found")
    source = weights.open_folder(folder)
    assert source is not None and spec.parameters and spec.embeddings == table
    held = spec.parameters - (0 if tied else table)
    numbers = {p.data_ptr(): p.numel() for p in source.whole().parameters()}
    assert spec.held == held == sum(numbers.values())
    for precision, bytes_each in (("fp32", 4), ("int8", 1.04), ("int4", 0.63)):
        known = replace(spec, engine_options={"precision": precision}, cache_bytes_per_token=0, cache_bytes_per_row=0)
        # The head is read in fp32 before it is rounded, when no answer has kept anything.
        assert known.memory(8) == reckoning.RUNTIME["torch"] + int(held * bytes_each) + 4 * table
        long = replace(known, cache_bytes_per_row=10 * table)
        assert long.memory(8) == reckoning.RUNTIME["torch"] + int(held * bytes_each) + 80 * table
        merged = replace(known, adapter=tmp_path)  # read as a whole, by transformers
        assert merged.memory(8) == reckoning.RUNTIME["torch"] + 4 * spec.parameters
    if not tied:  # a generation config beside it that takes transformers
        (folder / "generation_config.json").write_text('{"no_repeat_ngram_size": 3}')
        assert describe(folder, source="found").held is None


def test_a_file_is_described_with_all_of_it(tmp_path: Path) -> None:
    file = gguf_files.write(tmp_path / "m.gguf", "mamba")
    spec = describe(file, source="found")
    assert spec.cache_bytes_per_row and spec.cache_bytes_per_token == 0 and spec.embeddings
    assert (spec.memory(8) or 0) - (spec.memory(1) or 0) == 7 * spec.cache_bytes_per_row


def test_llama_cpp_has_as_many_slots_as_memory_has_room_for_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batch.engines.gguf import engine
    from batch.errors import FatalError

    header = read_header(gguf_files.write(tmp_path / "m.gguf", "mamba"))
    row = gguf_kept.cache_bytes_per_row(header)
    assert row and not gguf_kept.cache_bytes_per_token(header)
    rooms = {}
    for answers in (0.5, 3.5, 100):
        free = header.size_bytes + int(answers * row / engine.CACHE_SHARE) + 1
        monkeypatch.setattr(engine, "available", lambda free=free: free)
        if answers < 1:
            with pytest.raises(FatalError, match="the states of one answer take"):
                engine._shape(header, 64, 8)
        else:
            rooms[answers] = engine._shape(header, 64, 8)[1]
    assert rooms == {3.5: 3, 100: 8}


def test_what_macos_says_of_an_intel_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"machdep.cpu.features": "FPU SSE4.2 AVX1.0", "machdep.cpu.leaf7_features": "AVX2 AVX512VNNI"}
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    monkeypatch.setattr(processor, "_sysctl", lambda name: says.get(name, ""))
    assert processor.features.__wrapped__() == {"fpu", "sse4.2", "avx", "avx2", "avx512_vnni"}
    says.clear()  # as on Apple's own
    assert processor.features.__wrapped__() == frozenset()


def test_a_name_that_no_system_has_says_nothing() -> None:
    assert processor._sysctl("machdep.cpu.none") == ""
