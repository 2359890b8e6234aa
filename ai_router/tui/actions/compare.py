"""What the keys of the comparison of models do."""

from __future__ import annotations

from ai_router.tui.actions.action import Action

COMPARE = (
    Action("compare.models", "f2", "models", "Choose the models", "Compare"),
    Action("compare.file", "f3", "a file", "Compare the models over a file of prompts", "Compare"),
    Action("compare.export", "e", "export", "Write the comparison as JSON and Markdown", "Compare"),
    Action("compare.open", "o", "answers", "The answers to this prompt side by side", "Compare"),
    Action("compare.next", "right_square_bracket", "next", "The next prompt", "Compare", key_display="]",
           method="step('1')"),
    Action("compare.previous", "left_square_bracket", "previous", "The prompt before", "Compare", key_display="[",
           method="step('-1')"),
    *(
        Action(f"compare.{at + 1}", str(at + 1), f"best: {at + 1}", f"Keep as evidence that answer {at + 1} is best",
               "Compare", False, method=f"choose('{at}')")
        for at in range(4)
    ),
    Action("compare.all", "a", "all right", "Keep as evidence that all answers are right", "Compare", False,
           method="choose('all')"),
    Action("compare.none", "n", "none right", "Keep as evidence that no answer is right", "Compare", False,
           method="choose('none')"),
)  # fmt: skip
