"""What can be chosen about an evaluation, declared once for flags, forms and files."""

from __future__ import annotations

from dataclasses import dataclass

from batch.evaluation.match import MATCHES
from batch.evaluation.tokens import TOKENISERS
from batch.options import option

TASKS = ("auto", "correction", "answer")
LEVELS = ("token", "character")


@dataclass(slots=True)
class EvaluationOptions:
    """How predictions are scored."""

    match: str = option("exact", "when a prediction is right", choices=MATCHES)
    task: str = option(
        "auto", "correction compares edits of the input, answer does not; auto looks at the data", choices=TASKS
    )
    tokeniser: str = option("auto", "what tokens are; auto looks at the language and what is there", choices=TOKENISERS)
    normalise: str = option(
        "none", "differences that do not count, of nfkc, width, whitespace, case (with commas)", metavar="LIST"
    )
    level: str = option("token", "the edits that tell over- from under-corrected", choices=LEVELS)
    fluency: bool = option(True, "BLEU and chrF, where sacrebleu is installed", advanced=True)
    errant: bool = option(False, "score English edits with ERRANT as well (slow)", advanced=True)
    samples: int = option(
        1_000, "bootstrap samples for the intervals; 0 leaves them out", minimum=0, maximum=1_000_000, metavar="N"
    )
    seed: int = option(0, "of the bootstrap and the tests", minimum=0, metavar="N")
    rows: int = option(50, "most rows of each kind kept for the reports", minimum=0, maximum=100_000, metavar="N")
