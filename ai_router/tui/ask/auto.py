"""Asking in auto: which model answers a prompt and why, which is next, and what a person thinks of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_router.asking import Asking
    from ai_router.comparing.answers import Said
    from ai_router.models import ModelSpec, Registry


class Auto:
    """The router, and how far one prompt has come with it. Made in a thread: evidence is read and fitted."""

    def __init__(self, registry: Registry) -> None:
        from ai_router.routing.workspace import router_of

        self.registry = registry
        self.router, self.notes = router_of(registry)
        self.why = ""  # one line
        self._prompt = ""
        self._order: list[str] = []
        self._at = 0
        self._answers: dict[str, Said] = {}

    def begin(self, prompt: str) -> ModelSpec:
        """The model that a new prompt goes to. Raises RoutingError where none may have it."""
        from batch.items import Request

        request = Request(prompt)
        choice = self.router.choose(request)
        self._prompt, self._answers = prompt, {}
        self._order, self._at = self.router.ranked(request, choice), 0
        self.why = f"{choice.models[0]}: {choice.reason}"
        return self.registry.get(choice.models[0])

    def next(self) -> ModelSpec | None:
        """The model to try after this one; None after the last."""
        if self._at + 1 >= len(self._order):
            return None
        self._at += 1
        self.why = f"{self._order[self._at]}: the next to try, {self._at + 1} of {len(self._order)}"
        return self.registry.get(self._order[self._at])

    def heard(self, asking: Asking) -> None:
        """An answer is there."""
        if not asking.stopped:
            self._answers[asking.model] = said_of(asking)

    def choose(self) -> int:
        """Keep that the last answer is the best of those to this prompt; returns how many are graded so."""
        from ai_router.comparing.answers import Row
        from ai_router.comparing.choice import choose
        from ai_router.routing.evidence import Evidence

        answers = list(self._answers.values())
        model = self._order[self._at]
        best = [at for at, answer in enumerate(answers) if answer.model == model]
        return choose(Evidence.of(self.registry.workspace), Row(1, self._prompt, tuple(answers)), best)


def said_of(asking: Asking) -> Said:
    """What was asked once as an answer beside others; one that was stopped has failed."""
    from ai_router.comparing.answers import Said

    error = asking.error or ("stopped" if asking.stopped else None)
    return Said(
        asking.model, None if error else asking.answer, error, asking.tokens_input, asking.tokens_output,
        asking.duration or 0.0,
    )  # fmt: skip
