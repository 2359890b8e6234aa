"""What a model's generation_config.json asks for beside its end tokens: honoured by transformers' own code, or said."""

from __future__ import annotations

import copy
from typing import Any

import torch

from batch.engines.torch.asked import HONOURED, NOT_HONOURED, SAMPLING, asks, said, sampled
from batch.options import SamplingOptions


class Generation:
    """What a model asks for of every answer; `notes` are for its line."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = self._config = copy.deepcopy(model.generation_config)
        self._asked = [name for name, nothing in HONOURED.items() if asks(config, name, nothing)]
        self.notes = [f"as the model asks: {said(config, self._asked)}"] if self._asked else []
        refused = [name for name, nothing in NOT_HONOURED.items() if asks(config, name, nothing)]
        if refused:
            self.notes.append(f"not done though the model asks: {said(config, refused)}")
        self.notes += sampled(config)
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
        if sampling.repetition_penalty is not None:
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
