"""`--match number`: own cases in the forms of answers to GSM8K- and MATH-like tasks, each with its verdict."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.evaluation.match import Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.reading.number import number_in, read_number

PLAIN = Normalisation()

# expected, predicted, the verdict
CASES = [
    # as GSM8K writes its answers, and as models write them
    ("#### 72", "#### 72", True),
    ("48/2 = <<48/2=24>>24 clips in May.\n48+24 = <<48+24=72>>72 in all.\n#### 72", "72", True),
    ("She sold 48/2 = 24 in May.\nThat is 48+24 = 72 in total.", "The answer is 72.", True),
    ("72", "In all that makes 48+24 = <<48+24=72>>72", True),
    ("#### 1,200", "So the total is $1,200.00.", True),
    ("#### -3", "#### −3", True),
    ("18", "#### 18\n\nQuestion: A tank holds 40 litres. How many are left?\nAnswer: #### 7", True),
    ("18", "The answer is 18.\n\nQ: There are 21 trees. How many now?\nA: The answer is 6.", True),
    ("8", "The answer is 8. There were 15 to begin with.", True),
    ("15", "The answer is 8. There were 15 to begin with.", False),
    ("8", "**Answer: 8** (she had 23 and paid 15)", True),
    ("8", "Final Answer: $8", True),
    ("8", "The final answer is $\\boxed{8}$. I checked it 3 times.", True),
    ("8", "Answer: 6\nWait, that is wrong.\nAnswer: 8", True),
    ("8", "The answer is 23 - 15 = 8 dollars.", True),
    ("8", "The answer is 5 apples + 3 apples = 8 apples", True),
    ("8", "Answer: She has 5 apples and gets 3 more, so she has 8.", True),
    ("6", "The answer is not 5 but 6.", True),
    ("5", "The answer is not 5 but 6.", False),
    ("12", "The answer is 12, 5 more than before.", True),
    ("12", "Answer:\n\n12 apples", True),
    ("12", "The total cost of the 3 books is therefore 12", True),
    ("12", "There are 12 eggs in total. Here is why:\n1. She has 5.\n2. She buys 7, so 5 + 7 = 12.", True),
    ("12", "She needs 12.\n\n1. Count them\n2. Add them", True),
    ("12", "答えは12個です。", True),
    ("12", "１２個です", True),
    ("12", "答案是12", True),
    ("12", "正解：１２。元は３０個でした。", True),
    ("12", "La réponse est 12.", True),
    ("12", "Die Antwort lautet 12, denn 3 mal 4 ist 12", True),
    ("12", "La respuesta es: 12", True),
    ("12", "Ответ: 12", True),
    ("12", "I do not know", False),
    ("12", "twelve", False),
    # digits are no substring
    ("5", "25", False),
    ("10", "110", False),
    ("5", "The answer is 55", False),
    ("3.14", "33.14", False),
    ("0", "10", False),
    ("0", "0", True),
    # signs
    ("-5", "5", False),
    ("-5", "x = -5", True),
    ("-5", "x=-5", True),
    ("-5", "Answer: - 5", True),
    ("-5", "negative 5", True),
    ("-5", "-$5", True),
    ("-5", "$-5", True),
    ("5", "- 5 apples", True),
    ("5", "20-5", False),
    ("15", "20 - 5 = 15", True),
    ("5", "20 - 5", False),
    ("5", "it is between 3-5", False),
    # fractions
    ("3/4", "1/4", False),
    ("3/4", "3/4", True),
    ("3/4", "0.75", True),
    ("3/4", "6/8", True),
    ("3/4", "4", False),
    ("3/4", "The answer is \\frac{3}{4}.", True),
    ("1/2", "\\boxed{\\frac{3}{2}}", False),
    ("\\frac{3}{2}", "\\boxed{\\dfrac{3}{2}}", True),
    ("\\frac{3}{2}", "$\\tfrac32$", True),
    ("-1/2", "\\boxed{-\\frac{1}{2}}", True),
    ("-1/2", "\\frac{-1}{2}", True),
    ("2.5", "2 1/2", True),
    ("2.5", "2½ cups", True),
    ("2.5", "2\\frac{1}{2}", True),
    ("2.5", "1/2", False),
    ("0.5", "½", True),
    ("0.5", "-½", False),
    ("1/2", "2分の1です", True),
    ("1/3", "0.333", False),
    ("3", "12 / 4", True),
    ("2", "1/0", False),
    # how a number is written
    ("1234567", "1,234,567", True),
    ("1234567", "12,34,567", True),
    ("1234567", "1 234 567", True),
    ("1234567", "1\u202f234\u202f567", True),
    ("1234567", "1.234.567", True),
    ("1234.5", "1.234,5", True),
    ("15000", "\\$15,\\!000", True),
    ("15000", "15{,}000", True),
    ("15000", "15\\,000", True),
    ("15000", "1'5000", False),
    ("15000", "15'000", True),
    ("15000", "15_000", True),
    ("000", "15 000", False),
    ("3.5", "3,5", True),
    ("1000", "1e3", True),
    ("1000", "10^3", True),
    ("1500", "1.5 \\times 10^3", True),
    ("1500", "1.5 × 10³", True),
    ("0.0015", "1.5 \\times 10^{-3}", True),
    ("1024", "\\boxed{2^{10}}", True),
    ("2", "2.0", True),
    ("2", "2.00 dollars", True),
    ("0.5", ".5", True),
    ("5", "5.", True),
    ("5", "5!", True),
    # what stands behind a number
    ("60", "60%", True),
    ("60", "60\\%", True),
    ("60", "60 percent", True),
    ("0.6", "60%", True),
    ("60%", "60", True),
    ("60%", "0.6%", False),
    ("60%", "0.6", True),
    ("5000000", "5 million", True),
    ("5", "5 million", True),
    ("5 million", "5 billion", False),
    ("5000", "$5k", True),
    ("30000", "3万円", True),
    ("120000000", "1億2000万円", True),
    ("10", "\\boxed{10\\text{ cm}}", True),
    ("10", "10 cm^2", True),
    ("10", "10 m²", True),
    ("74", "\\boxed{74^\\circ}", True),
    ("10", "10km/h", True),
    ("5", "\\boxed{x = 5}", True),
    # what is no number
    ("2", "H2O", False),
    ("19", "COVID-19", False),
    ("4", "The ratio is 1:4", False),
    ("30", "at 3:30", False),
    ("12", "12 left at 3:30", True),
    ("2001", "9/11/2001", False),
    ("3", "version 1.2.3", False),
    ("3", "2\\sqrt{3}", False),
    ("3", "\\boxed{2\\sqrt{3}}", False),
    ("3", "2√3", False),
    ("2", "\\frac{\\sqrt{3}}{2}", False),
    ("2", "x^2", False),
    ("2", "2\\pi", False),
    ("5", "5x", False),
    ("5", "(3, 5)", False),
    ("5", "x = 3 or x = 5", False),
    ("5", "3 and 5", False),
    ("5", "\\boxed{3, 5}", False),
    ("5", "\\boxed{A}, as 5 is not", False),
    ("12", "In 2019, 12 people came", True),
]
NO_NUMBER = [
    "3:30",
    "(3, 5)",
    "3, 5",
    "2\\sqrt{3}",
    "x^2 + 3",
    "5x",
    "twelve",
    "9/11/2001",
    "3-4",
    "1/0",
    "20 - 5",
    "9" * 2_000,
]


@pytest.mark.parametrize(("expected", "predicted", "right"), CASES)
def test_the_verdict(expected: str, predicted: str, right: bool) -> None:
    assert is_right(expected, predicted, "number", PLAIN) is right


def test_every_case_is_its_own() -> None:
    assert len({case[:2] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("expected", NO_NUMBER)
def test_what_is_no_single_number_is_not_scored(expected: str) -> None:
    with pytest.raises(Unscorable, match="no single number"):
        is_right(expected, expected, "number", PLAIN)


FRACTIONS = st.fractions(min_value=-1000, max_value=1000, max_denominator=999)
SHAPES = (
    "{}", "#### {}", "The answer is {}.", "Answer: {}", "**{}**", "$\\boxed{{{}}}$", "So in the end we get {}",
    "答えは{}です", "It was 7 before. Now it is {}.", "The final answer is: $ {} $", "x = {}",
)  # fmt: skip


@given(FRACTIONS, FRACTIONS, st.sampled_from(SHAPES))
@settings(max_examples=40)
def test_fractions_are_right_where_they_are_equal(wanted: Fraction, given_: Fraction, shape: str) -> None:
    for number in (wanted, given_):
        sign = "-" if number < 0 else ""
        above, below = abs(number.numerator), number.denominator
        for text in (f"{sign}{above}/{below}", f"{sign}\\frac{{{above}}}{{{below}}}", f"{sign}{above * 3}/{below * 3}"):
            assert is_right(f"{wanted.numerator}/{wanted.denominator}", shape.format(text), "number", PLAIN) is (
                number == wanted
            )


@given(
    st.integers(-(10**9), 10**9), st.sampled_from(SHAPES), st.sampled_from(["{}", "{:,}", "{}.0", "${:,}", "{} apples"])
)
def test_whole_numbers_are_read_in_every_shape(number: int, shape: str, form: str) -> None:
    assert number_in(shape.format(form.format(number))) == number


@given(st.text("0123456789.,:/-–^{}()[]$%\\ eExk×+=√π½²万億#\nanswer is", max_size=60))
def test_nothing_makes_it_fail(text: str) -> None:
    read_number(text)
    read_number("\\boxed{" + text)
    read_number("The answer is " + text)


def test_long_texts_are_no_trap() -> None:
    for piece in (
        "1,",
        "1 ",
        "- ",
        "\\frac{",
        "{",
        "(1,",
        "answer ",
        "1 + ",
        "\\boxed{",
        "1:",
        "sqrt",
        "1万",
        "<<",
        "^",
        "#### ",
        "\\text{",
        "1/",
        "x^",
        "²",
    ):
        read_number(piece * 2_000)
