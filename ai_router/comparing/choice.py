"""What a person prefers among answers to one prompt, as evidence for routing."""

from __future__ import annotations

from collections.abc import Collection

from ai_router.comparing.answers import ComparisonError, Row
from ai_router.routing.evidence import Evidence, Graded

SOURCE = "choice"


def choose(evidence: Evidence, row: Row, best: Collection[int]) -> int:
    """Keep that these of a prompt's answers (by their places) were chosen, and the others not; returns how many rows.

    A failed answer is never chosen, and counts against its model. The same prompt judged again takes the place of what
    was said before. Raises ComparisonError for a place without an answer.
    """
    for at in best:
        answer = row.answers[at] if 0 <= at < len(row.answers) else None
        if answer is None or answer.text is None:
            raise ComparisonError(f"There is no answer {at + 1} to choose")
    return evidence.add(
        Graded(
            row.prompt, answer.model, float(at in best), SOURCE, answer.cost, answer.tokens_input,
            answer.tokens_output, answer.seconds,
        )
        for at, answer in enumerate(row.answers)
        if answer is not None
    )  # fmt: skip
