"""One prompt and its answer so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batch.engines.local.intake import Row


@dataclass(slots=True, eq=False)
class Sequence(Row):
    """A row of the batch, and what was generated. Lengths are tokens."""

    tokens: list[int] = field(default_factory=list)  # generated
    processors: Any = None  # what the model's generation config asks of logits: transformers' own list
    generator: Any = None  # torch.Generator, made by the sampler at the first draw
    cache: Any = None  # the runner's own: a shared prefix, or all there is where rows share nothing
    filled: int = 0  # tokens whose keys and values are in the cache; kept by the packed runner
    guessed: list[int] = field(default_factory=list)  # tokens that a pass runs beside the newest one
    lookup: Any = None  # where they come from

    @property
    def takes_likeliest(self) -> bool:
        """Whether its next token is the likeliest one, of whose logits nothing else is wanted."""
        how = self.sampling
        plain = how.repetition_penalty in (None, 1.0) and not self.processors
        return (
            plain and not (how.temperature > 0 and how.top_p > 0) and self.logprobs is None and self.constraint is None
        )

    @property
    def last_token(self) -> int:
        """The newest token, which the model has not seen yet."""
        return self.tokens[-1] if self.tokens else self.prompt[-1]

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are not in the cache: one where the row decodes."""
        return len(self.prompt) + len(self.tokens) + len(self.guessed) - self.filled

    def known(self, first: int, last: int) -> list[int]:
        """The tokens [first, last) of prompt, answer and guesses; a row that was put back runs the two first again."""
        start = len(self.prompt)
        if last <= start:
            return self.prompt[first:last]
        said = self.tokens + self.guessed if self.guessed else self.tokens
        return self.prompt[first:] + said[max(first - start, 0) : last - start]

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the cache between two steps: all but the newest."""
        return len(self.prompt) + len(self.tokens) - 1
