"""An item as a row of a batch: what every engine that holds the model itself makes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from batch.engines.local.core import item_sampling
from batch.engines.schema import Constraint, Schemas
from batch.engines.torch.prompt import encode_request, truncated  # which knows nothing of torch
from batch.engines.torch.text import Detokenizer
from batch.errors import Cause, PermanentError
from batch.items import BatchItem, ItemId, Request
from batch.options import SamplingOptions


@dataclass(slots=True, eq=False)
class Row:
    """One prompt and how it is to be answered. Lengths are tokens."""

    id: ItemId
    prompt: list[int]
    sampling: SamplingOptions
    max_tokens: int  # what the request allows, cut to what the context has left
    text: Detokenizer
    stop_ids: frozenset[int] = frozenset()
    priority: int = 0
    ignored: list[str] = field(default_factory=list)  # names of parameters that had no effect
    constraint: Constraint | None = None  # the schema that the answer must fit
    logprobs: list[float] | None = None  # of each generated token; None where nobody asked

    @property
    def most_tokens(self) -> int:
        """How long it can get, prompt included."""
        return len(self.prompt) + self.max_tokens


R = TypeVar("R", bound=Row)


class Intake:
    """Makes rows of items for one model: its tokenizer, the tokens that end an answer, and its context, if it has one.

    `truncate` is the side on which a prompt that is too long is cut; None: it fails. Raises FatalError for sampling
    that no item could have.
    """

    def __init__(
        self,
        tokenizer: Any,
        end_ids: frozenset[int],
        context: int | None,
        sampling: SamplingOptions | None = None,
        truncate: str | None = None,
    ) -> None:
        self.sampling = sampling or SamplingOptions()  # where an item says nothing else
        self._tokenizer, self._end_ids, self._context, self._truncate = tokenizer, end_ids, context, truncate
        self._special: Mapping[str, int] = tokenizer.get_added_vocab()
        self._schemas = Schemas(tokenizer, end_ids)
        self._schemas.check(self.sampling.json_schema)

    def row(self, item: BatchItem[Request], make: type[R]) -> R:
        """An item as a row; raises PermanentError where it cannot be answered."""
        request = item.data
        params = dict(request.params)
        logprobs: list[float] | None = [] if params.pop("logprobs", None) else None
        sampling, ignored = item_sampling(self.sampling, params)
        prompt = encode_request(self._tokenizer, request, sampling.system)
        if not prompt:
            raise PermanentError("the prompt is empty")
        room = sampling.max_tokens
        if self._context is not None:
            if len(prompt) >= self._context and self._truncate:
                prompt = truncated(prompt, max(1, self._context - room), self._truncate)
            if len(prompt) >= self._context:
                raise PermanentError(
                    f"the prompt is too long: {len(prompt):,} tokens, and the model's context is {self._context:,}",
                    cause=Cause.REFUSED,
                )
            room = min(room, self._context - len(prompt))
        # A stop text that is one special token never shows in the text; it stops as a token.
        special = {self._special[text] for text in sampling.stop if text in self._special}
        return make(
            id=item.id,
            prompt=prompt,
            sampling=sampling,
            max_tokens=room,
            text=Detokenizer(self._tokenizer, sampling.stop),
            stop_ids=self._end_ids | special,
            priority=item.priority,
            ignored=ignored,
            constraint=self.constraint(sampling),
            logprobs=logprobs,
        )

    def constraint(self, sampling: SamplingOptions) -> Constraint | None:
        """A fresh constraint to the schema that an answer must fit, if there is one."""
        return None if sampling.json_schema is None else self._schemas.constraint(sampling.json_schema)
