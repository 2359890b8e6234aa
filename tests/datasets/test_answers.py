"""What a model writes around its answer goes, and nothing of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_router.models import DEMO_PATH
from batch.datasets.answers import CleaningEngine, clean_answer
from batch.engines.desk import MemoryDesk
from batch.engines.function import FunctionEngine
from batch.engines.torch.prompt import encode_chat
from batch.items import BatchItem, Request


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" a \n", "a"),
        ("<think>\nhm\n</think>\n\na", "a"),
        ("a<think>one</think>b<think>two</think>", "ab"),
        ("hm, I think</think>a", "a"),
        ("<think>never ends", ""),
        ("a<|im_end|>\n<|im_start|>user\nmore", "a"),
        ("<|im_start|>assistant\na<|endoftext|>", "a"),
        ("a</s>", "a"),
        ("1 < 2 and think > talk", "1 < 2 and think > talk"),
    ],
)
def test_clean_answer(text: str, answer: str) -> None:
    assert clean_answer(text) == answer


def test_an_echoed_prompt_goes() -> None:
    assert clean_answer("Fix: 本が読む。\n本を読む。", "Fix: 本が読む。") == "本を読む。"


@given(st.text(alphabet=st.characters(exclude_characters="<", exclude_categories=["Cs"])))
def test_a_plain_answer_stays(text: str) -> None:
    assert clean_answer(text) == text.strip()
    assert clean_answer(f"<think>{text}</think>{text}<|im_end|>{text}") == text.strip()


def test_a_hostile_answer_ends() -> None:
    """Were it quadratic, the suite's limit of time would end it."""
    assert clean_answer("<think>" * 150_000) == ""
    assert clean_answer("</think>" * 100_000 + "a").endswith("a")


def test_thinking_is_switched_off_where_the_template_knows_how() -> None:
    pytest.importorskip("jinja2")
    transformers = pytest.importorskip("transformers")
    if not (DEMO_PATH / "tokenizer.json").is_file():
        pytest.skip("the model is not there")
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_PATH)
    tokenizer.chat_template = (
        "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}"
        "<think></think>{% endif %}"
    )
    ids = encode_chat(tokenizer, [{"role": "user", "content": "hello"}], None)
    assert tokenizer.decode(ids) == "hello<think></think>"


async def test_answers_of_an_engine_are_cleaned() -> None:
    said = {"one": "<think>hm</think>1", "two": "<think>hm</think>", "three": "Fix: three\n3", "four": "four"}
    engine = CleaningEngine(FunctionEngine(lambda text: said[text]))

    async def items() -> AsyncIterator[BatchItem[Request]]:
        for number, text in enumerate(said):
            extra = {"messages": [{"role": "user", "content": f"Fix: {text}"}], "input": text}
            yield BatchItem(number, Request(text, extra))

    responses = {r.id: r async for r in engine.answer(items(), MemoryDesk())}
    texts = [responses[i].data.text if responses[i].data else None for i in range(4)]  # type: ignore[union-attr]
    assert texts == ["1", None, "3", "four"]
    assert "no answer beside its thinking" in responses[1].error.message  # type: ignore[union-attr]
    assert responses[0].data.extra == {"raw": "<think>hm</think>1"}  # type: ignore[union-attr]
    await engine.close()
