"""The one YAML reader: texts stay texts, everything is bounded, and only one kind of error comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ai_router.models import Registry
from ai_router.settings import SettingsError, load_settings, load_workspace
from batch.datasets.config import Config, ConfigError
from batch.errors import BatchError
from batch.jobfile import JobFileError, load_jobfile
from batch.options import SamplingOptions, build_options
from batch.yamlfile import YamlError, as_written, parse_yaml, plain, read_yaml

FAST = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]"] + [
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]" for n in range(9)
])  # fmt: skip


@pytest.mark.parametrize("word", ["no", "on", "yes", "2024-01-31", "2020-13-45", "12:30:00", "0777", "1_000", "=", "n"])
def test_what_yaml_would_guess_at_is_a_text(word: str) -> None:
    assert parse_yaml(f"a: {word}", "f") == {"a": word}
    assert parse_yaml(f"{word}: a", "f") == {word: "a"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("1.50", 1.5),
        ("1e-1", 0.1),
        (".5", 0.5),
        ("0x1F", 31),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_and_the_three_words(word: str, value: Any) -> None:
    made = parse_yaml(f"a: {word}", "f")
    assert made == {"a": value} and type(made["a"]) is type(value)
    assert made.texts["a"] == word


def test_a_number_is_a_text_where_a_text_is_meant() -> None:
    written = as_written(
        parse_yaml("system: 1.10\nstop: [1.0, no, '2']\nmax_tokens: 5\ntemperature: 1e-1", "f"), SamplingOptions
    )
    made = build_options(SamplingOptions, written)
    assert (made.system, made.stop, made.max_tokens, made.temperature) == ("1.10", ["1.0", "no", "2"], 5, 0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5000, "line 1, column 52: nested more than"),
        ("{a: " * 5000, "nested more than"),
        (BOMB, "line 5, column 36: more than 100,000 values, aliases spelled out"),
        ("a: &x [1, *x]", "line 1, column 11: an alias within what it stands for"),
        ("a: *x", "line 1, column 4: "),
        ("a: " + "9" * 6000, "a number of more than 400 digits"),
        ("a: 1\n\nb: 2\na: 3", "line 4, column 1: the key 'a' stands here for the second time (first in line 1)"),
        ("a: !!python/object:os.system x", "line 1, column 4: could not determine a constructor"),
        ("a: !!binary x", "could not determine a constructor"),
        ("a: !!int x", "'x' is no int"),
        ("? [a]\n: b", "line 1, column 3: a key is a text"),
        ("a: 1\n---\nb: 2", "line 2, column 1: another document begins"),
        ("a: 1\nb: \x07", "line 2: special characters"),
        ("a: [1, 2\nb: 3", "line 2, column"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text, "f.yaml")
    assert says in str(caught.value) and str(caught.value).startswith("f.yaml, line ")


def test_merge_keys_and_aliases() -> None:
    made = parse_yaml("base: &b {x: 1, y: no}\nother:\n  <<: *b\n  y: 2.0\nagain: *b", "f")
    assert made == {"base": {"x": 1, "y": "no"}, "other": {"y": 2.0, "x": 1}, "again": {"x": 1, "y": "no"}}
    assert (made["other"].line_of("y"), made["other"].line_of("x"), made.line_of("again")) == (4, 1, 5)


def test_too_long_and_not_there(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("a: " + "x" * 2**21)
    with pytest.raises(YamlError, match=r"long\.yaml is longer than 2 MiB"):
        read_yaml(path)
    with pytest.raises(YamlError, match="is a folder, not a file"):
        read_yaml(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "none.yaml")
    path.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(YamlError, match="line 2: not UTF-8"):
        read_yaml(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@FAST
@given(JSON)
def test_json_is_read_as_json(value: Any) -> None:
    assert plain(parse_yaml(json.dumps(value), "f")) == value


WORDS = (
    "a|model|sampling|path|run|notify|keymap|: |\n|  |- |[|]|{|}|&a |*a|!!|!!int |!!float |!!str |!!timestamp |!!omap "
)
MORE = "|<<|'|---\n|...\n|%YAML 1.1\n|? |, |1e999|.nan|0x|0o9|~|\t|\x07|\x85|\\x|\\ud800|\\U00110000|#|😀|\ufeff"
PIECES = st.sampled_from(
    [*(WORDS + MORE).split("|"), '"', "|", ">", "9" * 500, "[" * 60, "{a: " * 60, "1:1:1", "-.inf"]
)
YAMLS = st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60)
READERS: list[tuple[Callable[[Path], Any], type[BatchError]]] = [
    (read_yaml, YamlError),
    (load_settings, SettingsError),
    (load_jobfile, JobFileError),
    (Config.load, ConfigError),
]


@FAST
@given(YAMLS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40))
@example(b"- 0b_")
@example(b"checkpoints: ~nouser/x\nsampling: {json_schema: ~nouser/x}")
@example(b'checkpoints: "a\\0b"')
@example(b"checkpoints: [a]")
@example(b"keymap: {a: !!float x}")
@example(b"sampling: {json_schema: !!timestamp 1}")
def test_nothing_but_its_own_error_comes_out(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    for read, error in READERS:
        try:
            read(path)
        except error as raised:
            assert "any.yaml" in str(raised) and "\n" not in str(raised)


@pytest.mark.parametrize("place", ["~nouser/x", "1.10", "2024-01-31", "no"])
def test_folders_of_the_settings_are_texts(tmp_path: Path, place: str) -> None:
    (tmp_path / "ai-router.yaml").write_text(f"checkpoints: {place}\nmodels_dir: {place}\nmodel: {place}\nbell: no\n")
    workspace = load_workspace(tmp_path)
    assert workspace.checkpoints == workspace.models_dir == tmp_path / place
    assert workspace.settings.model == place and workspace.settings.bell is False
    assert Registry(workspace).get("demo").id == "demo"
    assert Config({}, tmp_path / "c.yaml").locate("~nouser/x") == Path("~nouser/x")
