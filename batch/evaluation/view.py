"""One pair as the metrics see it: normalised, tokenised and aligned once, however many ask."""

from __future__ import annotations

from functools import cached_property

from batch.evaluation.edits import edits
from batch.evaluation.match import Match, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.pairs import Pair
from batch.evaluation.tokens import Tokeniser
from batch.evaluation.verdicts import Verdict, edit_counts, verdict_of


class View:
    """A pair and what is made of it on demand. Raises Unscorable where nothing can be compared."""

    def __init__(
        self,
        pair: Pair,
        match: Match,
        normalise: Normalisation,
        tokenise: Tokeniser,
        *,
        correction: bool = True,
        level: str = "token",
    ) -> None:
        self.pair = pair
        self.normalise = normalise
        self.right = is_right(pair.expected, pair.predicted, match, normalise)
        plain = not normalise
        self.input = pair.input if plain else normalise(pair.input)
        self.expected = pair.expected if plain else normalise(pair.expected)
        self.predicted = pair.predicted if plain else normalise(pair.predicted)
        self._tokenise = tokenise
        self._correction = correction
        self._level = level

    @cached_property
    def exact(self) -> bool:
        """Whether the texts are the same."""
        return self.expected == self.predicted

    @cached_property
    def input_tokens(self) -> list[str]:
        """Tokens of the input."""
        return self._tokenise(self.input)

    @cached_property
    def expected_tokens(self) -> list[str]:
        """Tokens of what was expected."""
        return self.input_tokens if self.expected == self.input else self._tokenise(self.expected)

    @cached_property
    def predicted_tokens(self) -> list[str]:
        """Tokens of what came."""
        if self.exact:
            return self.expected_tokens
        return self.input_tokens if self.predicted == self.input else self._tokenise(self.predicted)

    @cached_property
    def token_edits(self) -> tuple[int, int, int]:
        """Edits of tokens: right, too many, missing."""
        wanted = edits(self.input_tokens, self.expected_tokens)
        if self.predicted_tokens is self.expected_tokens:
            return len(wanted), 0, 0
        return edit_counts(wanted, edits(self.input_tokens, self.predicted_tokens))

    @cached_property
    def character_edits(self) -> tuple[int, int, int]:
        """Edits of characters: right, too many, missing."""
        wanted = edits(self.input, self.expected)
        if self.exact:
            return len(wanted), 0, 0
        return edit_counts(wanted, edits(self.input, self.predicted))

    @cached_property
    def verdict(self) -> Verdict:
        """What became of it."""
        if self.right or not self._correction:
            return Verdict.RIGHT if self.right else Verdict.WRONG
        _, extra, missing = self.token_edits if self._level == "token" else self.character_edits
        return verdict_of(
            right=False, unchanged=self.predicted == self.input, extra=extra, missing=missing, correction=True
        )
