"""What transformers' own `generate` says of a prompt, for the judge: a family may prepare its input in ways of its own.

XLNet is asked for a token that it is shown the place of, RoBERTa is told positions that it counts otherwise by itself:
a plain pass, by which runners are judged, is another question there. Which of the two is meant cannot be known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from batch.engines.torch.troubles import first_line, out_of_memory
from batch.errors import FatalError


def generated(model: Any, prompt: list[int], following: list[int]) -> torch.Tensor:
    """Logits of `generate` without a cache, at the prompt's end and after each token: [1 + following, vocabulary].

    Its answer is made to be `following`, and no more; what the model's generation config asks for is left out.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    def made(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, float("-inf"))
        forced[:, [*following, 0][ids.shape[1] - len(prompt)]] = 0.0
        return forced

    ids = torch.tensor([prompt], device=model.device)
    usual = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([made]),
            **{"do_sample": False, "use_cache": False, "max_new_tokens": 1 + len(following), "pad_token_id": 0},
            **{"output_logits": True, "return_dict_in_generate": True},
        )
    finally:
        model.generation_config = usual
    return torch.cat(list(out.logits)).float()


def check_generated(
    model: Any, tokens: list[int], length: int, exact: torch.Tensor, near: Callable[[torch.Tensor, torch.Tensor], bool]
) -> None:
    """Raise FatalError where `generate` says of a prompt of so many tokens other things than one plain pass over all.

    exact: that pass's logits, [tokens, vocabulary]; near: whether logits are the same but for rounding.
    """
    name = type(model).__name__
    try:
        found = generated(model, tokens[:length], tokens[length : length + 1])
    except Exception as error:  # each family's own
        if out_of_memory(error):
            raise FatalError(f"not enough memory to run the model: {first_line(error)}") from error
        raise FatalError(f"{name} cannot be run: transformers' generate fails: {first_line(error)}") from error
    if near(exact[length - 1 : length + 1], found):
        return
    alone = model(input_ids=torch.tensor([tokens[:length]], device=model.device), use_cache=False).logits[0].float()
    if near(alone[-1:], found[:1]):
        why = "what it says of a token changes with those that follow it, so it is no causal language model"
    else:
        why = "transformers' generate asks it in a way of its own, and gets other logits than a plain pass"
    raise FatalError(f"{name} cannot be run: {why}")
