"""What a runner must show at load: the logits of a few steps that the whole model gives without any cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from batch.engines.torch.generated import check_generated
from batch.engines.torch.lean.model import LeanModel
from batch.engines.torch.sequence import Sequence
from batch.engines.torch.single import reset_rope, rope_border
from batch.engines.torch.text import Detokenizer
from batch.engines.torch.turns import Runner
from batch.errors import FatalError
from batch.options import SamplingOptions

LENGTH = 40  # tokens of the longer prompt: more than a page of the cache, and than a block of queries
SHORT = 3
STEPS = 4
REAL_STEPS = 24  # of a real text, one after the other
MOST_DIVERGENCE = 0.02  # nats, the mean over these steps: where rounding alone may take two ways of summing
LEAST_AGREEMENT = 0.9  # of the likeliest tokens there
OTHERWISE = 0.1  # nats: so far apart are logits of another question, and not of other rounding
# Of a config: beyond so many tokens a layer computes otherwise.
WINDOWS = (
    *("sliding_window", "attention_window_size", "window_size", "attention_chunk_size"),
    *("chunk_size", "mamba_chunk_size", "block_size"),
)
NARROW = 8  # what a window longer than the trial is made for it
WORK = 1e11  # parameters times tokens that a trial may cost on a CPU
AHEAD = 6  # tokens beyond a window
ROUNDED = 1e-2  # the tolerance from which on numbers are rounded on the way


class Trial:
    """Two prompts with what follows them, and the logits at each place from passes over the whole, without a cache.

    `text` is a real one in tokens: there runners that round are judged by what that costs. Raises FatalError where a
    prompt's logits depend on what ran before it.
    """

    def __init__(self, model: Any, text: list[int] | None = None) -> None:
        self._model = model
        self._text = text or []
        self._text_logits: torch.Tensor | None = None
        self.measured = ""  # of the last runner, in words; "" where nothing is to be said of it
        self._narrow, length = _narrowed(model)
        most = getattr(model.config.get_text_config(), "vocab_size", 10)
        self._long = [1 + (7 * i * i + 3 * i) % min(most - 1, 199) for i in range(length + STEPS)]
        self._short = [1 + (5 * i * i + i) % min(most - 1, 199) for i in range(SHORT + STEPS + 1)]
        with self._narrow_windows():
            long_logits = self._whole(self._long)
            self._short_logits = self._whole(self._short)
            apart = self._whole(self._long).sub_(long_logits)
        self._long_logits = long_logits[-STEPS - 1 :].clone()  # of the last token of the prompt, and of what follows
        if not _largest(apart) <= 1e-4 * _largest(long_logits) + 1e-6:
            name = type(model).__name__
            raise FatalError(f"{name} cannot be run: its state of one prompt reaches the next, or it is not a number")

    def check_generate(self, tolerance: float) -> None:
        """Raise FatalError where transformers' `generate` asks the model otherwise than a plain pass does."""

        def near(exact: torch.Tensor, found: torch.Tensor) -> bool:
            apart = float((found - exact).abs().max())
            if apart <= tolerance * max(float(exact.abs().max()), 1e-9):
                return True
            return tolerance >= ROUNDED and divergence(exact, found) <= OTHERWISE

        check_generated(self._model, self._short, SHORT, self._short_logits, near)

    def agrees(self, runner: Runner, tolerance: float) -> bool:
        """Whether rows of different lengths, one joining late, one coming again, give the logits they give alone.

        Sums in another order differ a little: `tolerance` is a share of the largest logit. One that differs more, where
        numbers are rounded on the way, is still right if the real text's tokens are as likely as without a cache.
        """
        self.measured = ""
        with self._narrow_windows():
            pairs = list(self._steps(runner))
        largest = max(float(expected.abs().max()) for _, expected in pairs)
        apart = max(float((found - expected).abs().max()) for found, expected in pairs) / max(largest, 1e-9)
        if apart <= tolerance:
            return True
        self.measured = f"logits differ by {apart:.1%} of the largest"
        if tolerance < ROUNDED or not len(self._text) > REAL_STEPS:
            return False
        lost, same = self.quality(runner)
        self.measured += f", {self._said(lost, same)}"
        return lost <= MOST_DIVERGENCE and same >= LEAST_AGREEMENT

    def cost(self, runner: Runner) -> str:
        """What a runner's rounding costs on the real text, in words."""
        return self._said(*self.quality(runner)) if len(self._text) > REAL_STEPS else "not compared, for want of a text"

    def _said(self, lost: float, same: float) -> str:
        return f"KL {lost:.4f} and {same:.0%} of tokens the same after {len(self._text)} of a text"

    def quality(self, runner: Runner) -> tuple[float, float]:
        """Beside the whole model on the real text: mean KL divergence in nats, and the share of likeliest tokens."""
        if self._text_logits is None:
            self._text_logits = self._whole(self._text, REAL_STEPS + 1)[:-1]
        row = _row(self._text[:-REAL_STEPS], REAL_STEPS)
        found = []
        try:
            found.append(runner.prefill([row])[0])
            for token in self._text[-REAL_STEPS:-1]:
                row.tokens.append(token)
                found.append(runner.decode()[0])
        finally:
            runner.release(list(runner.rows))
        ours = torch.stack(found).float()
        return divergence(self._text_logits, ours), agreement(self._text_logits, ours)

    def _steps(self, runner: Runner) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        length, short = len(self._long) - STEPS, SHORT
        early, late = _row(self._long[:length]), _row(self._short[:short])
        try:
            yield runner.prefill([early])[0], self._long_logits[0]
            early.tokens.append(self._long[length])
            yield runner.prefill([late])[0], self._short_logits[short - 1]
            late.tokens.append(self._short[short])
            for step in range(1, STEPS):
                found = runner.decode()
                yield found[0], self._long_logits[step]
                yield found[1], self._short_logits[short - 1 + step]
                early.tokens.append(self._long[length + step])
                late.tokens.append(self._short[short + step])
            runner.release([early])
            yield runner.decode()[0], self._short_logits[short - 1 + STEPS]
            again = _row(self._long[:length])
            yield runner.prefill([again])[0], self._long_logits[0]
        finally:
            runner.release(list(runner.rows))

    def _whole(self, tokens: list[int], last: int = 0) -> torch.Tensor:
        """Logits of all tokens; of the last ones alone, which spares memory, where the model is known to give them."""
        if rope_border(self._model)[1]:
            reset_rope(self._model)
        ids = torch.tensor([tokens], device=self._model.device)
        only = {"logits_to_keep": last} if last and isinstance(self._model, LeanModel) else {}
        logits: torch.Tensor = self._model(input_ids=ids, use_cache=False, **only).logits[0].float()
        return logits[-last:]

    @contextlib.contextmanager
    def _narrow_windows(self) -> Iterator[None]:
        """Windows that are longer than the trial made narrow, wherever the model keeps them."""
        changed: list[tuple[Any, str, int]] = []
        config = self._model.config
        places = {id(place): place for place in (config, config.get_text_config(), *self._model.modules())}
        try:
            for place in places.values() if self._narrow else ():
                for name, value in list(vars(place).items()):
                    window = "window" in name or "chunk" in name
                    if window and type(value) is int and value in self._narrow:
                        changed.append((place, name, value))
                        setattr(place, name, NARROW)
            yield
        finally:
            for place, name, value in changed:
                setattr(place, name, value)


def divergence(exact: torch.Tensor, found: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of what is found from what is exact, in nats; logits: [tokens, vocabulary]."""
    mean = torch.nn.functional.kl_div(
        found.log_softmax(-1), exact.log_softmax(-1), reduction="batchmean", log_target=True
    )
    return float(mean) if bool(mean == mean) else float("inf")


def agreement(exact: torch.Tensor, found: torch.Tensor) -> float:
    """The share of positions whose likeliest token is the same; logits: [tokens, vocabulary]."""
    return float((exact.argmax(-1) == found.argmax(-1)).float().mean())


def _largest(x: torch.Tensor) -> float:
    """The largest magnitude, without a table of them; NaN where one is."""
    least, most = (abs(float(end)) for end in x.aminmax())
    return max(least, most, key=lambda size: (size != size, size))


def _narrowed(model: Any) -> tuple[frozenset[int], int]:
    """The windows that are too long to run past, and the length of the trial's longer prompt."""
    config = model.config.get_text_config()
    found = {getattr(config, name, None) for name in WINDOWS}
    windows = {window for window in found if type(window) is int and window > 0}
    work = WORK if model.device.type == "cpu" else 50 * WORK
    most = max(LENGTH, int(work / max(sum(p.numel() for p in model.parameters()), 1)))
    context = getattr(config, "max_position_embeddings", None) or most + AHEAD + STEPS
    most = min(most, context - AHEAD - STEPS)
    kept = [window for window in windows if window <= most]
    length = min(max([LENGTH, *(window + AHEAD for window in kept)]), context - STEPS)
    return frozenset(windows - set(kept)), max(length, 1)


def _row(prompt: list[int], steps: int = STEPS) -> Sequence:
    return Sequence("trial", prompt, SamplingOptions(), steps, Detokenizer(None, []))
