"""What became of one pair, in a word."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from batch.evaluation.edits import Edit


class Verdict(StrEnum):
    """What became of one pair.

    over-corrected: all that was expected was changed, and more. under-corrected: some of it, and nothing else. not
    corrected: the input came back, and should not have. wrong: everything else that is not right. failed: there is no
    prediction. unscorable: there is no expected answer that could be compared, or its pattern took too long.
    """

    RIGHT = "right"
    WRONG = "wrong"
    OVER_CORRECTED = "over-corrected"
    UNDER_CORRECTED = "under-corrected"
    NOT_CORRECTED = "not corrected"
    FAILED = "failed"
    UNSCORABLE = "unscorable"


# One ASCII sign each, so that no colour is needed to tell them apart.
SIGNS = {
    Verdict.RIGHT: "=",
    Verdict.WRONG: "x",
    Verdict.OVER_CORRECTED: "+",
    Verdict.UNDER_CORRECTED: "-",
    Verdict.NOT_CORRECTED: "0",
    Verdict.FAILED: "!",
    Verdict.UNSCORABLE: "?",
}


def edit_counts(expected: Iterable[Edit], predicted: Iterable[Edit]) -> tuple[int, int, int]:
    """Edits in both, only in the prediction, only in what was expected; equal in place and replacement."""
    wanted, made = set(expected), set(predicted)
    both = len(wanted & made)
    return both, len(made) - both, len(wanted) - both


def verdict_of(*, right: bool, unchanged: bool, extra: int, missing: int, correction: bool) -> Verdict:
    """The verdict on a prediction: whether it is right, whether it is the input, and the edits too many and too few."""
    if right:
        return Verdict.RIGHT
    if not correction:
        return Verdict.WRONG
    if unchanged:
        return Verdict.NOT_CORRECTED
    if extra and not missing:
        return Verdict.OVER_CORRECTED
    if missing and not extra:
        return Verdict.UNDER_CORRECTED
    return Verdict.WRONG
