"""What the program says and imports before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from program import ROOT, Program

from ai_router import __version__
from ai_router.cli.main import VERBS, main

GOLDEN = Path(__file__).parent / "golden" / "help.txt"
HEAVY = {
    "textual",
    "rich",
    "torch",
    "mlx",
    "mlx_lm",
    "transformers",
    "tokenizers",
    "openai",
    "ray",
    "google",
    "anthropic",
}


def modules_after(program: Program, *words: str) -> set[str]:
    """The modules that a process has imported when the program is through."""
    program_text = (
        "import sys; from ai_router.cli.main import main; code = main(sys.argv[1:]);"
        "print(code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text, *words],
        env=program.env,
        cwd=program.home,
        capture_output=True,
        text=True,
        check=True,
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    assert code == "0"
    return set(modules)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["jobs"], ["jobs", "--json"], ["run", "--help"]])
def test_nothing_heavy_is_imported(program: Program, words: list[str]) -> None:
    modules = modules_after(program, *words)
    assert not HEAVY & modules
    if "jobs" in words:
        assert "asyncio" not in modules
    if words[0].startswith("--"):
        assert not {name for name in modules if name.split(".")[0] in ("batch", "asyncio", "yaml", "sqlite3", "json")}
        assert len(modules) < 110  # about what argparse brings


def test_help_is_as_it_was(program: Program) -> None:
    assert program("--help") == 0
    assert program.out == GOLDEN.read_text(encoding="utf-8")
    assert max(map(len, program.out.splitlines())) <= 105


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(program: Program, verb: str) -> None:
    assert program(verb, "--help") == 0
    assert program.out.startswith(f"usage: ai-router {verb}")
    assert f"  ai-router {verb}" in program.out
    assert f"  {verb}" in GOLDEN.read_text(encoding="utf-8")


def test_version(program: Program) -> None:
    assert program("--version") == 0
    assert program.out == f"ai-router {__version__}\n"


def test_without_a_terminal_there_are_no_screens(program: Program) -> None:
    process = program.start()
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (2, "")
    assert err == "Error: there is no terminal here to open the screens in; run prompts with: ai-router run FILE\n"


def test_with_a_terminal_the_screens_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = []

    class App:
        return_code = 4

        def __init__(self, workspace: object, *, tour: bool) -> None:
            opened.append(workspace)

        def run(self, *, mouse: bool) -> None:
            pass

    module = type(sys)("ai_router.tui.app")
    module.RouterApp = App  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_router.tui.app", module)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["--workspace", str(tmp_path)]) == 4
    assert opened[0].root == tmp_path  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rn"], "unknown verb rn; did you mean run?"),
        (["prompts.txt"], "unknown verb prompts.txt; to answer the prompts of a file: ai-router run prompts.txt"),
        (["zzz"], "unknown verb zzz; there are run, resume,"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["show"], "the following arguments are required: JOB"),
    ],
)
def test_usage_errors_are_one_sentence(program: Program, words: list[str], sentence: str) -> None:
    program.prompts("x")
    assert program(*words) == 2
    assert program.err.startswith(f"Error: {sentence}") and program.err.count("\n") == 1
    assert program.out == ""


def test_the_package_is_the_program(program: Program) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ai_router", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ai-router {__version__}\n"


def test_stdout_is_utf8_whatever_the_locale(program: Program) -> None:
    source = program.prompts("Gruß 日本")
    program.env |= {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    process = program.start("run", source, "--output", "-", "--format", "csv")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Gruß 日本" in out
    process = program.start("show", program.job().job_id)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Gruß 日本" in out
