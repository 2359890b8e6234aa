"""Scoring a run: exact match, edits, GLEU and characters of generated Japanese pairs, on one core."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator

from batch.evaluation.evaluate import evaluate
from batch.evaluation.options import EvaluationOptions
from batch.evaluation.pairs import Pair
from benchmarks.common import Row, Skipped, in_process

TARGET = 30
PEOPLE = ("先生", "友達", "母", "社長", "学生", "太郎さん", "妹", "看護師", "隣の人", "私")
TIMES = ("昨日", "来週", "毎朝", "夏休みに", "日曜日の夜", "雨が降ったので", "時間があれば")
PLACES = ("図書館", "駅前の喫茶店", "京都", "大学の研究室", "コンピューターセンター", "家")
THINGS = ("新聞", "日本語", "新しいカメラ", "野菜のスープ", "長い手紙", "レポート", "切符")
VERBS = ("読みました", "買いたいです", "見せてくれました", "忘れてしまいました", "探しています", "説明しました")
PARTICLES = ("は", "が", "を", "に", "で", "と", "の")


def pairs(count: int, seed: int = 1) -> Iterator[Pair]:
    """Sentences with one or two wrong particles; most predictions put them right, some not, some something else."""
    rng = random.Random(seed)
    for number in range(count):
        words = [
            *(rng.choice(TIMES), "、", rng.choice(PEOPLE), "は", rng.choice(PLACES), "で"),
            *(rng.choice(THINGS), "を", rng.choice(VERBS), "。"),
        ]
        wrong = list(words)
        for at in rng.sample((3, 5, 7), rng.randint(0, 2)):
            wrong[at] = rng.choice(PARTICLES)
        made = list(words)
        if rng.random() < 0.4:
            made = list(wrong) if rng.random() < 0.5 else made
            made[rng.choice((2, 3, 5, 6, 7))] = rng.choice(PARTICLES + THINGS)
        yield Pair("".join(wrong), "".join(words), "".join(made), str(number), error_type=rng.choice(PARTICLES))


def score(count: int, fluency: bool) -> tuple[float, float, str]:
    """Processor seconds, peak memory in MB, and the tokeniser; bootstrap intervals of all scores included."""
    import resource

    begin = time.process_time()
    report = evaluate(pairs(count), EvaluationOptions(fluency=fluency))
    assert report.scored == count and report.score("gleu") and report.score("character_f1")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return time.process_time() - begin, memory, report.tokeniser


def measure(quick: bool) -> list[Row]:
    """A small run and a large one."""
    if sys.platform == "win32":
        raise Skipped("no getrusage")
    small, large = (200, 1_000) if quick else (10_000, 100_000)
    _, little, _ = in_process(score, small, False)
    seconds, much, tokens = in_process(score, large, False)
    everything, *_ = in_process(score, large, True)
    return [
        Row(f"scoring {large:,} pairs, tokens by {tokens}", f"< {TARGET} s", f"{seconds:.1f} s", seconds < TARGET),
        Row("  with BLEU and chrF", "", f"{everything:.1f} s", None),
        Row("  resident memory", "", f"{much:.0f} MB", None),
        Row(f"  of which more than at {small:,}", "flat", f"{much - little:+.0f} MB", much - little < 50),
    ]
