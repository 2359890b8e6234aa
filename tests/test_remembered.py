"""What is remembered for a person: choices, chats with full-text search."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_router.memory import NAME, Memory, MemoryFileError, Turn


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.recall("a", 3) == 3 and memory.chats() == [] and memory.prompts() == [] and memory.named("x") == {}
    assert not (tmp_path / NAME).exists()


def test_choices_come_back(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.keep("preset:a", {"n": 1, "text": "日本語 \ud800"})
    memory.keep("preset:b", [1])
    assert Memory(tmp_path).recall("preset:a")["n"] == 1
    assert list(memory.named("preset:")) == ["a", "b"]
    memory.keep("preset:a", None)
    assert memory.recall("preset:a") is None
    if os.name == "posix":
        assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


def test_chats_are_found_by_their_words(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    one = memory.begin_chat("Zebras\n and more", "demo", {"max_tokens": 5})
    memory.add_turn(one, Turn("What is a zebra?", "A striped animal", "demo", None, 4, 3, 0.5), {"max_tokens": 6})
    memory.add_turn(one, Turn("And a deque?", "", "other", "it failed"), {})
    two = memory.begin_chat("日本語", "demo", {})
    memory.add_turn(two, Turn("日本語 の 文", "striped 答え", "demo"), {})
    assert [chat.id for chat in memory.chats()] == [two, one]
    assert [chat.id for chat in memory.chats("zebra deque")] == []  # all words in one turn
    assert [chat.id for chat in memory.chats("STRIP")] == [two, one]
    assert "animal" in memory.chats("animal")[0].hit
    three = memory.begin_chat("日本語", "demo", {})
    memory.add_turn(
        three, Turn("次の文を直してください。昨日、学校を行きました。", "学校へ行きました 🚀 C++", "demo"), {}
    )
    for words in ("学校", "学校 行き", "🚀", "++", "学校 c"):
        assert [chat.id for chat in memory.chats(words)] == [three], words
    assert "学校" in memory.chats("学校")[0].hit and not memory.chats("学校 zebra")
    found, turns = memory.chats("学校")[0], memory.turns(three)
    memory.forget_chat(three)
    assert not memory.chats("学校")
    memory.restore_chat(found, turns)
    assert memory.turns(three) == turns and memory.chats("学校") == [found]
    memory.forget_chat(three)
    assert memory.chats()[1].title == "Zebras and more" and memory.chats()[1].model == "other"
    assert [turn.prompt for turn in memory.turns(one)] == ["What is a zebra?", "And a deque?"]
    assert memory.prompts() == ["日本語 の 文", "And a deque?", "What is a zebra?"]
    memory.forget_chat(one)
    assert memory.turns(one) == [] and memory.chats("zebra") == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text())
def test_any_words_may_be_looked_for(tmp_path: Path, words: str) -> None:
    memory = Memory(tmp_path)
    if not memory.chats():
        memory.add_turn(memory.begin_chat("a", "m", {}), Turn("p", "a"), {})
    memory.chats(words)


def test_a_file_that_is_none_is_said_and_a_choice_is_its_default(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database" * 100)
    memory = Memory(tmp_path)
    assert memory.recall("a", 3) == 3 and memory.named("a") == {}
    with pytest.raises(MemoryFileError, match="Cannot use"):
        memory.keep("a", 1)
    with pytest.raises(MemoryFileError):
        memory.chats()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(MemoryFileError, match="newer version"):
        Memory(tmp_path).keep("a", 1)


def test_killed_at_any_statement_a_turn_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks: list[Path] = []
    file = tmp_path / "now" / NAME

    def copied(statement: str) -> None:  # the disk as it stands before a statement, and as one finds it after a kill
        disks.append(tmp_path / str(len(disks)))
        shutil.copytree(file.parent, disks[-1])

    real = sqlite3.connect

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*args, **options)
        connection.execute("PRAGMA cache_size = 0")  # pages go to the disk before the transaction is over
        connection.set_trace_callback(copied)
        return connection

    def what_is_known(folder: Path) -> tuple[Any, ...]:
        memory = Memory(folder)
        chats = memory.chats()
        return memory.recall("model"), [[turn.prompt for turn in memory.turns(chat.id)] for chat in chats]

    states: list[tuple[Any, Any]] = [(None, [])]
    memory = Memory(file.parent)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        memory.keep("model", "m")
        states.append(("m", []))
        chat = memory.begin_chat("t", "m", {})
        states.append(("m", [[]]))
        for prompt in ("p" * 9000, "q"):
            memory.add_turn(chat, Turn(prompt, "a" * 9000), {})
            states.append(("m", [[*states[-1][1][0], prompt]]))
        memory.forget_chat(chat)
        states.append(("m", []))
    seen = [what_is_known(disk) for disk in disks]
    at = 0
    for state in seen:
        at = next(n for n in range(at, len(states)) if states[n] == state)
    assert at >= len(states) - 2 and len(disks) > 30
    for disk in disks:  # and one can go on from any of them
        Memory(disk).keep("model", "n")
        assert Memory(disk).recall("model") == "n"
