"""What a model thinks aloud, apart from its answer; and where that goes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.export import page
from batch.export.records import line_record
from batch.job import BatchJob, BatchResult
from batch.thinking import thinking_apart, with_thinking


@pytest.mark.parametrize(
    ("text", "extra", "apart"),
    [
        ("<think>a\nb</think>\n\nc", None, ("a\nb", "c")),
        ("\n<thinking>a</thinking>c", None, ("a", "c")),
        ("<think>still", None, ("still", "")),
        ("<think>\n\n</think>\n\nc", None, ("", "c")),
        ("what the template began\n</think>\n\nc", None, ("what the template began", "c")),
        ("a <think>b</think>", None, ("", "a <think>b</think>")),
        ("write `</think>` at its end", None, ("", "write `</think>` at its end")),
        ("c", {"reasoning": "a\n"}, ("a", "c")),
        ("c", {"raw": "<think>a</think>c<|im_end|>"}, ("a", "c")),
        ("c", {"finish_reason": "stop"}, ("", "c")),
    ],
)
def test_apart(text: str, extra: dict[str, str] | None, apart: tuple[str, str]) -> None:
    assert thinking_apart(text, extra) == apart


@given(st.text("ab \n<>"), st.text("ab \n<>"))
def test_joined_and_apart_again(thought: str, text: str) -> None:
    thought, answer = thought.strip(), text.strip()
    assert thinking_apart(with_thinking(thought, answer)) == (thought, answer)


def test_exports_keep_it_apart() -> None:
    sent = BatchResult(0, "p", "c", extra={"reasoning": "a <b>"})
    assert line_record(sent)["reasoning"] == "a <b>" and line_record(sent)["response_text"] == "c"
    assert "reasoning" not in json.dumps(line_record(BatchResult(0, "p", "c")))
    for result in (sent, BatchResult(0, "p", "<think>a <b></think>c")):
        row = page._row(BatchJob("aaaaaaaa", "m", ["p"], 1), result, open_=True)
        assert '<summary>Thinking, 5 characters</summary><div class="t" dir="auto">a &lt;b&gt;</div>' in row
        assert '<div class="t" dir="auto">c</div>' in row
