"""`--match json`: own cases of fences, numbers and what is no JSON, each with its right verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.match import Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading.value import fields_of, json_in

PLAIN = Normalisation()
WANTED = '{"a": 1, "b": [1, "x"]}'
VALUE = '{"b": [1, "x"], "a": 1}'

# a prediction, and whether it is the value wanted
CASES = [
    (VALUE, True),
    (f"  {VALUE}\n", True),
    (f"\ufeff{VALUE}", True),
    (f"```json\n{VALUE}\n```", True),
    (f"```json\r\n{VALUE}\r\n```\r\n", True),
    (f"```\n{VALUE}\n```", True),
    (f"```JSON\n{VALUE}\n```", True),
    (f"``` json\n{VALUE}\n```", True),
    (f"~~~json\n{VALUE}\n~~~", True),
    (f"````json\n{VALUE}\n````", True),
    (f"```json\n{VALUE}", True),
    (f"```json {VALUE} ```", True),
    (f"```{VALUE}```", True),
    (f"Here it is:\n```json\n{VALUE}\n```\nI hope this helps.", True),
    (f"1. The answer:\n   ```json\n   {VALUE}\n   ```", True),
    (f"> ```json\n{VALUE}\n> ```", True),
    (f"First, the code:\n```python\nprint({{}})\n```\nand then\n```json\n{VALUE}\n```", True),
    (f'The input was\n```json\n{{"a": 0}}\n```\nThe output is\n```json\r\n{VALUE}\r\n```', True),
    (f'```json\n{VALUE}\n```\nCorrected:\n```json\n{{"a": 0}}\n```', False),
    (f"```json\n{VALUE}\n```\nIt prints\n```\n42\n```", True),
    (f"```\n{VALUE}\n```\n```text\nnot json\n```", True),
    ('```json\n{"a": 1, "b": [1,\n"x"]\n}\n```', True),
    ('{"a": 1.0, "b": [1e0, "x"]}', True),
    ('{"a": 10e-1, "b": [1, "x"]}', True),
    ('{"a": "1", "b": [1, "x"]}', False),
    ('{"a": true, "b": [1, "x"]}', False),
    ('{"a": 1, "b": ["x", 1]}', False),
    ('{"a": 1, "b": [1, "x"], "c": null}', False),
    ('{"a": 1, "b": [1, "x"]', False),
    ("{'a': 1, 'b': [1, 'x']}", False),
    (f"The answer is {VALUE}", False),
    ('{"a": 1, "b": [1, "x"],}', False),
    ("", False),
]


@pytest.mark.parametrize(("predicted", "right"), CASES)
def test_the_verdict(predicted: str, right: bool) -> None:
    assert is_right(WANTED, predicted, "json", PLAIN) is right


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1e400", "1e500", False),
        ("1e400", "10e399", True),
        ("0.1", "0.10", True),
        ("0.1", "0.1000000000000000055511151231257827", False),
        ("-0.0", "0", True),
        ("12345678901234567890.0", "12345678901234567890", True),
        ("12345678901234567891", "12345678901234567890.0", False),
        ("1e999999999", "1e999999999", True),
        ('"1"', "1", False),
        ("true", "1", False),
        ("null", '"null"', False),
        ("[]", "{}", False),
        ('{"0": 1}', "[1]", False),
        ('"\\u00e9"', '"é"', True),
    ],
)
def test_numbers_are_compared_exactly(one: str, other: str, same: bool) -> None:
    assert is_right(one, other, "json", PLAIN) is same


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "[" * 100_000, "```\nnot json\n```", "", "9" * 5_000, "1e" + "9" * 30]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        json_in(text)
    with pytest.raises(Unscorable):
        is_right(text, "1", "json", PLAIN)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    VALUES,
    st.sampled_from(
        ["{}", "```json\n{}\n```", "```json\r\n{}\r\n```", "~~~\n{}\n~~~", "So:\n```\n{}\n```\nThat is it."]
    ),
)
def test_every_value_is_read_from_every_fence(value: Any, shape: str) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)):
        assert is_right(json.dumps(value), shape.format(text), "json", PLAIN)
        assert fields_of(json_in(text), PLAIN) == fields_of(value, PLAIN)


def test_long_texts_are_no_trap() -> None:
    for piece in ("```\n", "```json {} ", "~~~\r\n", "```", "`", "> ", "{"):
        with pytest.raises(ValueError):
            json_in(piece * 2_000 + "x")
