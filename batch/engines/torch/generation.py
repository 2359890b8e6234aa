"""What a model's generation_config.json asks for beside its end tokens: honoured by transformers' own code, or said."""

from __future__ import annotations

import copy
from typing import Any

import torch

from batch.options import SamplingOptions

# Each with the value at which it does nothing; None is that for all of them.
HONOURED: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "min_length": 0,
    "min_new_tokens": None,
    "exponential_decay_length_penalty": None,
    "remove_invalid_values": False,
}
NOT_HONOURED: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "penalty_alpha": None,
    "dola_layers": None,
    "watermarking_config": None,
    "stop_strings": None,
    "constraints": None,
    "force_words_ids": None,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
SAMPLING = ("temperature", "top_p", "top_k", "min_p")


class Generation:
    """What a model asks for of every answer; `notes` are for its line."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = self._config = copy.deepcopy(model.generation_config)
        self._asked = [name for name, nothing in HONOURED.items() if _asks(config, name, nothing)]
        self.notes = [f"as the model asks: {_said(config, self._asked)}"] if self._asked else []
        refused = [name for name, nothing in NOT_HONOURED.items() if _asks(config, name, nothing)]
        if refused:
            self.notes.append(f"not done though the model asks: {_said(config, refused)}")
        if getattr(config, "do_sample", False):
            values = [name for name in SAMPLING if getattr(config, name, None) is not None]
            said = f" ({_said(config, values)})" if values else ""
            self.notes.append(f"the model asks for sampling{said}; answers are greedy where no temperature is given")
        config.do_sample = False
        for name, nothing in NOT_HONOURED.items():
            setattr(config, name, nothing)
        for name in SAMPLING:
            setattr(config, name, None)

    def processors(self, prompt: list[int], max_tokens: int, sampling: SamplingOptions) -> Any:
        """transformers' list of processors for one answer, None where the model asks for nothing.

        The repetition penalty is the user's where one was given.
        """
        if not self._asked:
            return None
        config = copy.copy(self._config)
        if sampling.repetition_penalty != 1.0:
            config.repetition_penalty = sampling.repetition_penalty
        config.max_length = len(prompt) + max_tokens
        config.max_new_tokens = max_tokens
        if config.min_new_tokens:
            config.min_length = len(prompt) + config.min_new_tokens
        device = self._model.device
        self._model._prepare_special_tokens(config, kwargs_has_attention_mask=True, device=device)
        return self._model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=len(prompt),
            encoder_input_ids=torch.tensor([prompt], device=device),
            prefix_allowed_tokens_fn=None,
            logits_processor=[],
            device=device,
        )


def _asks(config: Any, name: str, nothing: Any) -> bool:
    value = getattr(config, name, None)
    return value is not None and value != nothing and value != [] and value != {}


def _said(config: Any, names: list[str]) -> str:
    found = {name: getattr(config, name) for name in names}
    shown = {name: value if isinstance(value, (int, float, str)) else "" for name, value in found.items()}
    return ", ".join(f"{name} {value}".strip() for name, value in shown.items())
