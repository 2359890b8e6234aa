"""`--match choice`: own cases in the forms that answers to MMLU-like questions have; every letter is treated alike."""

from __future__ import annotations

import re
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.match import Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading.choice import choice_in

PLAIN = Normalisation()

# @ stands for the letter, & for a small one. Each names it, whichever it is.
NAMES_IT = [
    "@", "&", "(@)", "(&)", "@.", "&.", "@)", "&)", "[@]", "**@**", "`@`", '"@"', "「@」", "$@$", "@\n", " @ ",
    "@. Paris", "@) Paris", "(@) Paris", "@: Paris", "@ - Paris", "@ – Paris", "@ (Paris)", "**@.** Paris",
    "**@) Paris**", "@\nbecause it is the capital", "@, because it is the capital", "@ because it is the capital",
    "@. Because it is.", "Answer: @", "Answer: &", "answer: (@)", "ANSWER: @", "Answer:@", "Answer: @.",
    "Answer: **@**", "**Answer: @**", "**Answer:** @", "Answer: @) Paris", "Answer: @. Paris", "Answer: @ Paris",
    "Answer: Option @", "Answer:\n@", "Answer: [@]", "Answer: <@>", "Answer = @", "Answers: @", "Final Answer: @",
    "Final answer: (@) Paris", "### Answer: @", "Answer – @", "The answer is @", "The answer is @.",
    "The answer is &.", "the answer is (&)", 'The answer is "@"', "The answer is “@”.", "The answer is '@'.",
    "The answer is **@**.", "The answer is: @", "The answer is therefore @.", "The answer is option @.",
    "The answer is letter @", "The answer is choice (@).", "The answer is @, not the others.",
    "The answer is @ because it is so.", "The correct answer is @.", "The correct answer is: **(@) Paris**",
    "The best answer is @.", "The right answer would be @.", "The correct answer is option @: Paris",
    "So the answer to the question is @.", "I think the answer is @.", "The answer must be @", "My answer is @.",
    "The answer is \\boxed{@}.", "$\\boxed{\\text{@}}$", "\\boxed{(@)}", "\\boxed{@) Paris}",
    "\\boxed{\\textbf{(@)}\\ Paris}", "The answer is $@$.", "The answer is \\(@\\).", "@ is correct", "@ is right.",
    "I think @ is right", "I believe (@) is correct.", "Option @ is correct.", "**@** is the correct answer.",
    "@ is the best answer", "Choice @ seems to be right.", "Therefore, option (@) is the right answer.",
    "@ must be true.", "I choose @.", "I would choose option @.", "I'd go with @", "I pick @.", "I select (@).",
    "We choose @ because it is so.", "I would say @", "I think it is @", "It is @.", "It must be @.", "So, @.",
    "Therefore @", "Let us think.\n\n@", "Let us think.\n(@)", "After some thought → @", "Thus: @.", "It's @.",
    "答えは@です", "答えは@", "答え：@", "正解は@です。", "正解：@", "選択肢は @ です", "@です", "@が正解です。",
    "「@」が正解", "回答：@", "解答は（@）です", "答えは「@」です。", "答案是@", "答案：@", "正确答案是 @。",
    "正確答案是@", "我选@", "选择 @", "@是正确的", "정답은 @입니다", "정답: @", "La réponse est @.",
    "La respuesta correcta es @", "Die Antwort ist @.", "Die richtige Antwort lautet @", "A resposta é @.",
    "La risposta corretta è @", "Ответ: @", "Réponse : @", "Answer: @\n\nQuestion: What is next?\nAnswer: Z",
    "I think the answer is @. Some would say it is hard.",
    "The answer is not obvious. After some thought, the answer is @.", "Answer: @ (see above)",
    "A) Paris\nB) Berlin\nC) Rome\n\nThe answer is @", "(A) Paris (B) Berlin (C) Rome\nAnswer: @",
    "Options: A, B, C, D. Answer: @", "Answer choices: (A) Paris (B) Rome (C) Bern\nThe correct answer is (@).",
]  # fmt: skip

# Names none, whichever the letter is.
NAMES_NONE = [
    "@ hash table is quick", "& hash table is quick", "The answer is & dog", "The answer is @ dog", "Answer: & dog",
    "It has a @-shaped hole in it", "Vitamin @ deficiency is the reason", "the Gram@ negative kind", "@'s turn",
    "the @.Z. of it", "It is @ or Z.", "The answer is @ or Z", "Answer: @ or (Z)", "neither @ nor that",
    "The answer is not @", "It is not @.", "@ and Z are wrong", "答えは@ではありません", "@ is not correct",
    "@ is incorrect", "Option @ is wrong", "I would never choose @.", "T@p",
]  # fmt: skip

# expected, predicted, the verdict
CASES = [
    ("S", "Answers: B", False), ("B", "Answers: B", True), ("S", "Options: A, B, C", False), ("S", "Choices", False),
    ("C", "Options: A, B, C", False), ("D", "A) Paris\nB) Berlin\nC) Rome\nD) Oslo", False),
    ("D", "(A) Paris (B) Rome (C) Bern (D) Oslo", False), ("A", "A) Paris\nB) Berlin\nC) Rome\nD) Oslo", False),
    ("A", "A. Paris B. Rome C. Bern D. Oslo", False), ("A", "A is correct", True), ("A", "I think A is right", True),
    ("A", 'The answer is "A"', True), ("A", "選択肢は A です", True), ("A", "The answer is a dog", False),
    ("I", "I think so", False), ("I", "I do not know", False), ("I", "I am sure it is B", False),
    ("B", "I think B", True), ("B", "A, not B", False), ("A", "A, not B", True), ("B", "Not A, so B", True),
    ("B", "The answer is not A, it is B.", True), ("C", "Answer: C, though A is near", True),
    ("A", "Answer: C, though A is near", False), ("B", "Option A is wrong. Option B is correct.", True),
    ("A", "Option A is wrong. Option B is correct.", False),
    ("B", "A is incorrect and C is incorrect, so B is correct.", True), ("B", "Answer: A\nWait. Answer: B", True),
    ("A", "Answer: A\nWait. Answer: B", False), ("B", "B) Paris\n\nA) is wrong since it is a river.", True),
    ("B", "B is correct. A is not correct.", True),
    ("D", "I'd say it is a tie between B and C, but D is the best answer", True),
    ("A", "Answer: A. The answer to part two is not asked for.", True), ("A", "The answer is A, I think.", True),
    ("A", "The answer, I think, is A", True), ("A, C", "Answer: A, C", True), ("A, C", "Answer: C and A", True),
    ("AC", "The answers are A and C.", True), ("AC", "Answer: AC", True), ("A, C", "Answer: A", False),
    ("A", "Answer: A, C", False), ("A, B, C", "ANSWER: A, B, and C", True), ("A", "Answer: A/B", False),
    ("(B) Paris", "B", True), ("B. Paris", "b", True), ("B", "Paris", False), ("B", "", False), ("B", "1", False),
    ("b", "B", True), ("B", "Ｂ", True), ("B", "U.S. B-tree T-shirt", False), ("B", "BBC", False),
    ("B", "The answer is Berlin", False),
]  # fmt: skip
NO_CHOICE = ["Paris", "2", "none of them", "The answer is a dog", "A or B", "Options: A, B, C, D"]


@pytest.mark.parametrize("form", NAMES_IT)
def test_every_letter_is_found(form: str) -> None:
    assert [(letter, choice_in(_with(form, letter))) for letter in ascii_uppercase] == [(x, x) for x in ascii_uppercase]


@pytest.mark.parametrize("form", NAMES_NONE)
def test_no_letter_is_found(form: str) -> None:
    letters = [letter for letter in ascii_uppercase if letter != "Z"]
    assert [letter for letter in letters if choice_in(_with(form, letter)) is not None] == []


@pytest.mark.parametrize(("expected", "predicted", "right"), CASES)
def test_the_verdict(expected: str, predicted: str, right: bool) -> None:
    assert is_right(expected, predicted, "choice", PLAIN) is right


@pytest.mark.parametrize("expected", NO_CHOICE)
def test_what_names_no_choice_is_not_scored(expected: str) -> None:
    with pytest.raises(Unscorable, match="no choice"):
        is_right(expected, expected, "choice", PLAIN)


PIECES = st.sampled_from(
    [
    "@", "&", "%", "(@)", "(%)", "**@**", "@. ", "%. ", "@) ", "\n", " ", ", ", ". ", "answer", "Answer: ",
    "The answer is ", "is", " is correct", " is not correct", "not ", "or ", "and ", "because ", "dog ", "Paris ",
    "option ", "I choose ", "答えは", "です", '"', "5 ",
    ]
)  # fmt: skip
PAIRS = st.tuples(st.sampled_from(ascii_uppercase), st.sampled_from(ascii_uppercase)).filter(
    # In this order and no neighbours: AB is a list of letters where BA is none, and A) B) are choices written out.
    lambda pair: ord(pair[0]) + 1 < ord(pair[1]) and pair[1] <= "J"
)


@given(st.lists(PIECES, max_size=9), PAIRS)
def test_letters_are_alike(pieces: list[str], pair: tuple[str, str]) -> None:
    """With other letters in the same places, those in the same places are read."""
    form = "".join(pieces)
    other, another = pair
    named = choice_in(_with(form, "B").replace("%", "H"))
    wanted = None if named is None else named.translate({ord("B"): other, ord("H"): another})
    assert choice_in(_with(form, other).replace("%", another)) == wanted


@given(st.lists(PIECES.filter(lambda piece: "%" not in piece), max_size=9), st.sampled_from(ascii_uppercase))
def test_every_letter_is_like_every_other(pieces: list[str], letter: str) -> None:
    """The whole alphabet, the words A and I among it, with one letter in the text."""
    named = choice_in(_with("".join(pieces), "B"))
    assert choice_in(_with("".join(pieces), letter)) == (named if named is None else named.replace("B", letter))


def test_long_texts_are_no_trap() -> None:
    for piece in (
        "A, ",
        "(A) ",
        "A. ",
        "\nA) ",
        "B is ",
        "choose ",
        "the option ",
        "**",
        "A or ",
        "answer: A, ",
        "answer ",
        "\\text{",
        "Q:\n",
        "$",
        "A",
    ):
        choice_in(piece * 2_000)


def _with(form: str, letter: str) -> str:
    return re.sub("[@&]", lambda found: letter if found[0] == "@" else letter.lower(), form)
