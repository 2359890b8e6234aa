"""`--match regex`: patterns from data end in time, can be interrupted, and mean what Python's `re` takes them for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.evaluate import evaluate
from batch.evaluation.match import Unscorable, is_right
from batch.evaluation.normalise import Normalisation
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from batch.evaluation.reading import pattern
from batch.evaluation.reading.pattern import SlowPatternError, found_by
from batch.evaluation.tally import ScoreTally
from batch.evaluation.verdicts import Verdict

ENDLESS = r"(?:a|aa|a?)*$"  # on many letters a with another one behind them
LONG = "a" * 60 + "!"
PIECES = [
    *"ab{}[],:e0^$.|()?*+\\-<=>!#P1 ", "[:", "[[:alpha:]]", "[^", "{e}", "{e<=1}", "(?:", "(?i)", "\\d", "\\b", "{1,2}",
    "{,2}", "{1}", "{}", "{,}", "(?x)", "a{", "\\N{DIGIT ONE}", "&&", "||", "--", "~~", "(?s:", "\\A", "\\Z", "(?=",
    "(?<=",
    "(?>", "*+", "(?P<a>",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text("ab{}[]:e01,A^-|&~ ", max_size=8))
def test_a_pattern_is_what_re_takes_it_for(text: str, searched: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wanted = re.compile(text, re.DOTALL).search(searched) is not None
        except (re.error, OverflowError):
            with pytest.raises(ValueError):
                found_by(text, searched)
        else:
            assert found_by(text, searched) is wanted


@pytest.mark.parametrize("text", ["(unclosed", "*", "(?P<n>a)(?P<n>b)", "\\p{L}", "(?R)", "(?:" * 5_000, "a" * 200_000])
def test_what_is_no_pattern_is_not_scored(text: str) -> None:
    with pytest.raises(Unscorable, match="no regular expression"):
        is_right(text, "a", "regex", Normalisation())


def test_a_search_without_end_is_given_up() -> None:
    with pytest.raises(SlowPatternError, match=r"takes longer than 0\.05 s"):
        found_by(ENDLESS, LONG, seconds=0.05)


def test_the_verdict_of_such_a_row_is_that_it_cannot_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_by, "__kwdefaults__", {"seconds": 0.05})
    rows = [Pair("?", ENDLESS, LONG, "1"), Pair("?", "^b", "b", "2"), Pair("?", "^b", "ab", "3")]
    report = evaluate(rows, EvaluationOptions(match="regex", samples=0))
    assert report.verdicts == {Verdict.UNSCORABLE: 1, Verdict.RIGHT: 1, Verdict.WRONG: 1}
    assert "Not scored: 1 × the pattern takes longer than 0.05 s." in report.notes
    running = ScoreTally("regex")
    assert [running.add(row) for row in rows] == [None, True, False]
    assert (running.n, running.unscorable) == (2, 1)
    assert pattern.SECONDS <= 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_scoring_can_be_interrupted(tmp_path: Path) -> None:
    """SIGINT ends a run over patterns without end, here in the middle of one of a thousand."""
    rows = [{"example_id": at, "input": "?", "expected": ENDLESS, "predicted": LONG} for at in range(1_000)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = (
        "import sys; from batch.evaluation import match; from ai_router.cli.main import main\n"
        "before = match.found_by\n"
        "def told(*args): sys.stderr.write('searching\\n'); sys.stderr.flush(); return before(*args)\n"
        "match.found_by = told\n"
        f"sys.exit(main(['--workspace', {str(tmp_path)!r}, 'evaluate', {str(file)!r}, '--match', 'regex']))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr is not None
        while process.stderr.readline() != b"searching\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=200)
    assert process.returncode == 130, said
