"""Models that `generate` asks in a way of its own, and those that continue no text at all, are refused."""

from __future__ import annotations

from typing import Any

import pytest

from batch.engines.local.folder import not_causal
from batch.errors import FatalError

pytestmark = pytest.mark.model
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

from batch.engines.torch import generated  # noqa: E402
from batch.engines.torch.runner import open_runner  # noqa: E402
from tests.engines import architectures  # noqa: E402

ITS_OWN_WAY = "asks it in a way of its own, and gets other logits"
LATER = "changes with those that follow it, so it is no causal language model"


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        ("xlnet", {}, ITS_OWN_WAY),  # is shown the place it is asked for
        ("roberta", {}, ITS_OWN_WAY),  # is told positions that it counts otherwise by itself
        ("xlm", {}, ITS_OWN_WAY),  # is given a mask token to fill in
        ("bert", {"is_decoder": False}, LATER),
        ("electra", {"is_decoder": False}, LATER),
        ("cpmant", {}, LATER),  # reads its prompt in both directions
    ],
)
def test_a_model_that_says_two_things_is_refused(
    name: str, said: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = architectures.make(name, **said)
    with torch.inference_mode(), pytest.raises(FatalError, match=f"{type(model).__name__} cannot be run: .*{why}"):
        open_runner(model, 4)


def test_what_the_model_asks_for_of_answers_is_left_out_of_the_question() -> None:
    """Beams, forced and suppressed tokens or early ends change which tokens come, and no logits."""
    model = architectures.make("llama")
    config = model.generation_config
    config.update(num_beams=3, do_sample=True, temperature=0.1, forced_eos_token_id=5, eos_token_id=7, max_length=1)
    prompt, following = [3, 4, 5], [7, 9]
    with torch.inference_mode():
        found = generated.generated(model, prompt, following)
        exact = model(input_ids=torch.tensor([prompt + following]), use_cache=False).logits[0, 2:]
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
        assert model.generation_config is config
        assert open_runner(model, 4).name.startswith("packed")


def test_a_generate_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = architectures.make("llama")
    monkeypatch.setattr(model, "prepare_inputs_for_generation", lambda *args, **options: {})
    with torch.inference_mode(), pytest.raises(FatalError, match=r"LlamaForCausalLM cannot be run: .*generate fails"):
        open_runner(model, 4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "(BertForMaskedLM)"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, "(Qwen2ForSequenceClassification)"),
        ({"architectures": ["Qwen3Model"], "model_type": "qwen3"}, "(Qwen3Model)"),
        ({"architectures": ["MarianMTModel"], "is_encoder_decoder": True}, "an encoder with a decoder (MarianMTModel)"),
        ({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, "an encoder with a decoder"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "(t5)"),
        ({"architectures": ["LlamaForCausalLM"]}, ""),
        ({"architectures": ["GPT2LMHeadModel"], "is_encoder_decoder": False}, ""),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}, ""),
        ({"architectures": ["ReformerModelWithLMHead"]}, ""),
        ({"architectures": [1, None]}, ""),
        ({"architectures": "LlamaForCausalLM"}, ""),
        ({"architectures": None, "is_encoder_decoder": "yes"}, ""),
        ({}, ""),
    ],
)
def test_a_config_that_continues_no_text(config: dict[str, Any], why: str) -> None:
    assert why in not_causal(config) and bool(not_causal(config)) == bool(why)


def test_every_class_for_causal_language_models_may_be_loaded() -> None:
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    assert [name for name in names if not_causal({"architectures": [name]})] == []
