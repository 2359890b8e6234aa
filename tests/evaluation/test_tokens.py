"""Tokenisers, with and without what is installed."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import MissingExtraError
from batch.evaluation.tokens import find_tokeniser

JAPANESE = ["山下先生は母をご存知です。"]


def test_script_keeps_words_numbers_and_katakana() -> None:
    split = find_tokeniser("script")
    assert split("彼はカメラを3.5個 don't買うGruß_1") == [
        *("彼", "は", "カメラ", "を", "3.5", "個", "don't", "買", "う", "Gruß", "_", "1"),
    ]
    assert split("我喜欢 Python3。") == ["我", "喜", "欢", "Python", "3", "。"]
    assert split(" \n") == []


@given(st.text(max_size=60))
def test_no_tokeniser_loses_a_character(text: str) -> None:
    for name in ("script", "character"):
        assert "".join(find_tokeniser(name)(text)) == "".join(text.split())


def test_mecab_has_the_words_of_sacrebleu_s_ja_mecab() -> None:
    pytest.importorskip("MeCab")
    reference = pytest.importorskip("sacrebleu.tokenizers.tokenizer_ja_mecab").TokenizerJaMecab()
    split = find_tokeniser("mecab")
    for text in (*JAPANESE, "コンピューターセンターで English を３時に勉強しました!", ""):
        assert split(text) == reference(text).split()
    assert split(*JAPANESE) == ["山下", "先生", "は", "母", "を", "ご存知", "です", "。"]
    assert split("一行\n二行\0三") == ["一行", "二", "行", "\ufffd", "三"]
    assert split.name.startswith("mecab-0.") and split.bleu == "ja-mecab"


@pytest.mark.parametrize(("name", "cls"), [("13a", "Tokenizer13a"), ("zh", "TokenizerZh")])
def test_tokenisers_of_sacrebleu(name: str, cls: str) -> None:
    reference = getattr(pytest.importorskip(f"sacrebleu.tokenizers.tokenizer_{name}"), cls)()
    text = 'He said: "No, 3.5 don\'t-care." 我喜欢Python。'
    found = find_tokeniser(name)
    assert found(text) == reference(text).split() and found.bleu == name


def test_auto_looks_at_the_language_and_at_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("MeCab")
    pytest.importorskip("sacrebleu")
    assert find_tokeniser("auto", JAPANESE).bleu == "ja-mecab"
    assert find_tokeniser("auto", ["plain words"]).name == "13a"
    assert find_tokeniser("auto", ["我喜欢"]).name == "zh"
    for module in ("MeCab", "sacrebleu.tokenizers.tokenizer_13a", "sacrebleu.tokenizers.tokenizer_zh"):
        monkeypatch.setitem(sys.modules, module, None)
    for texts in (JAPANESE, ["plain words"], ["我喜欢"]):
        found = find_tokeniser("auto", texts)
        assert found.name == "script" and 'pip install "ai-router[evaluation]"' in found.note
    for name in ("mecab", "13a", "zh"):
        with pytest.raises(MissingExtraError, match="evaluation"):
            find_tokeniser(name)


def test_there_is_no_other() -> None:
    with pytest.raises(ValueError, match="there are auto, mecab"):
        find_tokeniser("spacy")
