"""Tokenizers that need no transformers: equal to transformers' own, or not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from batch.engines.torch import shelf  # noqa: E402
from batch.engines.torch.lean import kept  # noqa: E402
from batch.engines.torch.lean.tokenizer import LeanTokenizer, copied, environment  # noqa: E402

DEMO = Path(__file__).resolve().parents[2] / "ai_router" / "demo"
THEIRS = transformers.AutoTokenizer.from_pretrained(DEMO)
MADE = copied(THEIRS)
assert MADE is not None
FORM, OURS = MADE

TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}), min_size=1
)


@given(st.text() | st.sampled_from(sorted(THEIRS.get_added_vocab())), st.booleans())
def test_texts_are_cut_and_put_together_as_transformers_does(text: str, special: bool) -> None:
    ids = THEIRS(text, add_special_tokens=special)["input_ids"]
    assert OURS(text, add_special_tokens=special)["input_ids"] == ids
    for skip in (True, False):
        wanted = THEIRS.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        assert OURS.decode(ids, skip_special_tokens=skip) == wanted


TEMPLATES = [
    THEIRS.chat_template,
    "{% for m in messages %}\n  {%- if m.role == 'user' %}{% continue %}{% endif %}\n{{ m.content | trim }}{%endfor%}",
    "{{ bos_token }}{{ messages | tojson }}{{ messages | tojson(indent=1) }}{% if tools %}x{% endif %}",
    "{% set a = namespace(n=0) %}{% for m in messages %}{% set a.n = a.n + 1 %}{% endfor %}{{ a.n }}{{ eos_token }}",
    "{{ dict(a=1) }}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}",
    "{% if messages[0].role != 'user' %}{{ raise_exception('no: ' ~ messages[0].role) }}{% endif %}ok",
    "{{ strftime_now('%Y') }}{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].__class__.__mro__ }}",
    "{% set n = namespace(__class__=1) %}{{ n.__init__.__globals__ }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@given(TURNS)
def test_chats_are_rendered_as_transformers_does(template: str, turns: list[dict[str, Any]]) -> None:
    """Refusals too."""
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=TINY, bos_token="<s>", eos_token="</s>", chat_template=template
    )
    ours = LeanTokenizer(
        {"backend": TINY.to_str(), "template": template, "special": theirs.special_tokens_map, "end": 1}
    )
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    assert said(ours, turns, options) == said(theirs, turns, options)


TINY = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "</s>": 1, "a": 2}, unk_token="a"))


def said(tokenizer: Any, turns: list[dict[str, Any]], options: dict[str, Any]) -> tuple[str, str]:
    try:
        return "", tokenizer.apply_chat_template(turns, **options)
    except Exception as error:  # a template is a program
        return type(error).__name__, ""


def test_a_template_reaches_no_python() -> None:
    made = environment()
    for text in ("{{ ''.__class__ }}", "{{ dict.__class__.__mro__ }}", "{{ raise_exception.__globals__ }}"):
        with pytest.raises(Exception, match=r"unsafe|undefined"):
            made.from_string(text + "{{ x.y }}").render()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"chat_template": {"default": "a", "rag": "b"}}, "several templates"),
        ({"chat_template": "{% generation %}a{% endgeneration %}"}, "a block that is followed"),
        ({"split_special_tokens": True}, "special tokens that are text"),
    ],
)
def test_what_it_does_not_do_is_left_to_transformers(change: dict[str, Any], what: str) -> None:
    assert copied(transformers.PreTrainedTokenizerFast(tokenizer_object=TINY, **change)) is None, what


def test_a_tokenizer_with_ways_of_its_own_is_left_to_transformers() -> None:
    class Odd(transformers.PreTrainedTokenizerFast):  # type: ignore[misc]
        def _encode_plus(self, text: Any, *args: Any, **kwargs: Any) -> Any:
            return super()._encode_plus(text.lower() if isinstance(text, str) else text, *args, **kwargs)

    assert copied(Odd(tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()))) is not None
    assert copied(Odd(tokenizer_file=str(DEMO / "tokenizer.json"))) is None


def test_an_entry_that_is_not_what_was_written_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "folder", lambda: tmp_path)
    assert kept.find("a") is None and kept.find("") is None
    kept.keep("a", THEIRS)
    assert kept.find("a") is not None
    file = tmp_path / "a" / kept.FILE
    file.write_bytes(file.read_bytes().replace(b"<|im_end|>", b"<|im_End|>", 1))
    assert kept.find("a") is None and not file.exists()
