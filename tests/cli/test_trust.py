"""A folder is data: whatever its files say, nothing is run, called or imported until the user has trusted it."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from program import Program

from ai_router import jobs, trust
from ai_router.models import Registry
from ai_router.settings import load_workspace, save_settings
from batch.checkpoint import CheckpointStore
from batch.jobfile import JobFile, save_jobfile
from batch.notify import NotifyOptions


class Clone:
    """A workspace that somebody else made, in which a subfolder is stood in."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.root = program.home.parent / f"{program.home.name}-clone"
        self.told = self.root / "told"
        model = self.root / "models" / "small"
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
        (model / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # a header of no tensors
        self.script = self.root / "tell.py"
        self.script.write_text(f"open({str(self.told)!r}, 'a').write('told')")
        self.command = f"{sys.executable} tell.py"
        self.prompts = self.root / "sub" / "prompts.txt"
        self.prompts.parent.mkdir()
        self.prompts.write_text("one\n")
        self.settings(notify_command=f"{sys.executable} {self.script}")

    def settings(self, **said: str) -> None:
        (self.root / "ai-router.yaml").write_text(json.dumps({"model": "small", **said}))

    def run(self, *words: str | Path) -> int:
        return self.program("run", self.prompts, "--workspace", self.root, *words)


@pytest.fixture
def clone(program: Program, monkeypatch: pytest.MonkeyPatch) -> Clone:
    made = Clone(program)
    monkeypatch.chdir(made.prompts.parent)
    return made


def test_a_command_of_a_folder_above_is_not_run_until_it_is_trusted(program: Program, clone: Clone) -> None:
    assert load_workspace().root == clone.root  # found from below, as every command finds it
    assert load_workspace().settings.notify_command is None
    assert clone.run() == 0
    assert not clone.told.exists()
    assert (
        f"Warning: {clone.root / 'ai-router.yaml'} is not trusted, so this is left out: notify_command" in program.err
    )
    assert f"ai-router trust {clone.root}" in program.err
    assert program("trust", clone.root) == 2  # nobody to ask
    assert f"notify_command: runs the command {sys.executable} {clone.script}" in program.out
    assert program("trust", clone.root, "--yes") == 0
    assert clone.run() == 0
    assert clone.told.read_text() == "told" and "not trusted" not in program.err
    assert program("trust", "--list") == 0
    assert str(clone.root / "ai-router.yaml") in program.out and "runs the command" in program.out


def changed_command(clone: Clone) -> None:
    clone.settings(notify_command=f"{sys.executable} {clone.script} more")


def changed_script(clone: Clone) -> None:
    clone.script.write_text(f"{clone.script.read_text()}; x = 1")


def added_webhook(clone: Clone) -> None:
    clone.settings(notify_command=f"{sys.executable} {clone.script}", webhook="http://127.0.0.1:1/")


def revoked(clone: Clone) -> None:
    assert clone.program("trust", clone.root, "--revoke") == 0


@pytest.mark.parametrize("change", [changed_command, changed_script, added_webhook, revoked])
def test_trust_ends_with_a_change(program: Program, clone: Clone, change: Callable[[Clone], None]) -> None:
    assert program("trust", clone.root, "--yes") == 0
    assert load_workspace().settings.notify_command
    change(clone)
    settings = load_workspace().settings
    assert settings.notify_command is None and settings.webhook is None


def test_what_changes_nothing_of_it_keeps_the_trust(program: Program, clone: Clone) -> None:
    assert program("trust", clone.root, "--yes") == 0
    (clone.root / "ai-router.yaml").write_text(
        f"theme: dark  # and a remark\nmodel: small\nnotify_command: {sys.executable} {clone.script}\n"
    )
    assert load_workspace().settings.notify_command


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "models/small", "engine": "evil:open_core"},
        {"url": "http://example.org/v1", "engine": "server", "model": "x", "api_key_env": "MY_KEY"},
        {"url": "http://127.0.0.1.example.org/v1", "engine": "server", "model": "x", "provider": "openai"},
        {"base_urls": ["http://example.org"], "engine": "server", "model": "x", "api_key_keyring": "a/b"},
        {"engine": "server", "model": "x", "provider": "openai", "proxy": "http://example.org"},
        {"engine": "provider", "model": "x", "provider": "vertex", "bucket": "gs://somebody-elses", "project": "p"},
    ],
)
def test_modules_and_keys_of_models(program: Program, clone: Clone, entry: dict[str, object]) -> None:
    (clone.root / "evil.py").write_text(f"open({str(clone.told)!r}, 'w')")
    (clone.root / "models.yaml").write_text(json.dumps({"models": {"odd": entry, "plain": {"path": "models/small"}}}))
    spec = Registry(load_workspace()).get("odd")
    assert not spec.ready and "is not trusted" in spec.why
    assert Registry(load_workspace()).get("plain").ready
    assert clone.run("--model", "odd") == 2
    assert program("trust", clone.root, "--yes") == 0 and "models.odd" in program.out
    assert "not trusted" not in Registry(load_workspace()).get("odd").why
    if "evil" in str(entry):
        (clone.root / "evil.py").write_text("pass")
        assert "not trusted" in Registry(load_workspace()).get("odd").why
    assert not clone.told.exists()


def test_keys_to_this_machine_and_to_their_provider_need_no_trust(clone: Clone) -> None:
    entries = {
        "here": {"url": "http://localhost:8000/v1", "engine": "server", "model": "x", "api_key_env": "MY_KEY"},
        "provider": {"engine": "server", "model": "x", "provider": "openai"},
        "open": {"url": "http://example.org/v1", "engine": "server", "model": "x"},
    }
    (clone.root / "models.yaml").write_text(json.dumps({"models": entries}))
    registry = Registry(load_workspace())
    assert ["not trusted" in registry.get(name).why for name in entries] == [False, False, False]


def test_a_template_runs_nothing_until_it_is_trusted(program: Program, clone: Clone) -> None:
    clone.settings()
    template = clone.root / "nightly.yaml"
    template.write_text(f"notify: {{command: '{sys.executable} {clone.script}', bell: true}}")
    assert clone.run("--template", template) == 0
    assert not clone.told.exists() and "notify.command: runs the command" in program.err
    assert program("trust", template, "--yes") == 0
    assert clone.run("--template", template) == 0 and clone.told.exists()


def test_what_a_person_saves_as_a_template_is_trusted_and_private(program: Program, clone: Clone) -> None:
    clone.settings()
    template = clone.root / "mine.yaml"
    command = f"{sys.executable} {clone.script}"
    assert clone.run("--notify-command", command, "--save-template", template) == 0
    clone.told.unlink()
    assert clone.run("--template", template) == 0 and clone.told.exists()
    assert stat.S_IMODE(template.stat().st_mode) == 0o600 or sys.platform == "win32"


def test_a_dataset_configuration_names_no_module(
    program: Program, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = clone.root / "config" / "lora_config.yaml"
    config.parent.mkdir()
    config.write_text("model: small\nengine: evil:open_core\ntest_file: test.jsonl\n")
    (clone.root / "test.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    monkeypatch.chdir(clone.root)
    assert program("dataset", "run", "--workspace", clone.root, "--no-adapter") == 2
    assert "engine: imports the Python module evil:open_core" in program.err and "is not trusted" in program.err


def test_a_job_names_no_module(program: Program, clone: Clone) -> None:
    clone.settings()
    assert clone.run() == 0
    (file,) = (clone.root / "checkpoints").glob("*.db")
    with CheckpointStore(file) as store:
        job = store.job()
    plan = jobs.plan_of(job)
    plan.details["engine"] = "evil:open_core"
    registry = Registry(load_workspace())
    assert "is not trusted" in jobs.why_not_ready(registry, plan)
    trust.remember(file, trust.claims_in(plan.details))
    assert "is not trusted" not in jobs.why_not_ready(registry, plan)


@pytest.mark.parametrize("key", ["output_file", "folder"])
def test_a_job_writes_where_it_is_or_is_trusted_to(program: Program, clone: Clone, key: str) -> None:
    """Above its folder, beside it under a longer name, through a link and from the root it asks first."""
    clone.settings()
    assert clone.run() == 0
    (file,) = (clone.root / "checkpoints").glob("*.db")
    outside = clone.root.parent / "elsewhere"
    (clone.root / "link").symlink_to(clone.root.parent)
    refused = [outside, f"{clone.root}-2/x", clone.root / ".." / "x", clone.root / "link" / "x", "~/x", "../x"]
    with CheckpointStore(file) as store:
        job = store.job()
    for place in refused:
        plan = replace(jobs.plan_of(job), details={key: str(place)})
        assert "is not trusted" in jobs.withheld(plan) and f"{key}: writes to {place}" in jobs.withheld(plan)
        with pytest.raises(trust.TrustError, match="is not trusted"):
            jobs.start(Registry(load_workspace()), job, plan)
    for place in (clone.root / "results" / "x", clone.root / "sub" / ".." / "x", "results/x"):
        assert jobs.withheld(replace(jobs.plan_of(job), details={key: str(place)})) == ""
    said = replace(jobs.plan_of(job), kind="dataset", details={key: str(outside)})
    made = jobs.create_job(load_workspace(), said, ["a"])
    assert jobs.withheld(jobs.plan_of(made)) == ""  # its maker said so
    assert made.checkpoint_file is not None
    made.checkpoint_file.rename(copied := made.checkpoint_file.with_name("batch_copied.db"))
    assert "is not trusted" in jobs.withheld(replace(jobs.plan_of(made), stored=copied))
    assert program("trust", copied, "--yes") == 0 and f"{key}: writes to {outside}" in program.out
    assert jobs.withheld(replace(jobs.plan_of(made), stored=copied)) == ""


def test_a_dataset_configuration_writes_into_its_folder(
    program: Program, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = clone.root / "config" / "lora_config.yaml"
    config.parent.mkdir()
    config.write_text("model: small\noutput_file: ../escaped.jsonl\ntest_file: test.jsonl\n")
    (clone.root / "test.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    monkeypatch.chdir(clone.root)
    words = ("dataset", "run", "--workspace", clone.root, "--no-adapter")
    assert program(*words) == 2
    assert "output_file: writes to ../escaped.jsonl" in program.err and "is not trusted" in program.err
    assert not (clone.root.parent / "escaped.jsonl").exists()
    assert program(*words, "--output-file", "here.jsonl") == 0, program.err
    assert Path("here.jsonl").exists()


def test_saving_the_settings_neither_loses_nor_trusts_what_is_withheld(clone: Clone) -> None:
    workspace = load_workspace()
    workspace.settings.theme = "dark"
    save_settings(workspace)
    assert load_workspace().settings.theme == "dark" and load_workspace().settings.notify_command is None
    assert "notify_command" in (clone.root / "ai-router.yaml").read_text()
    workspace.settings.notify_command = "my-own thing"  # typed by a person, who saves it
    save_settings(workspace)
    assert load_workspace().settings.notify_command == "my-own thing"


def test_odd_stores_of_trust(program: Program, clone: Clone) -> None:
    store = program.home / "trust.json"
    for text in ("[1, 2]", "{", "[" * 100_000, '{"' + str(clone.root / "ai-router.yaml") + '": 3}'):
        store.write_text(text)
        assert load_workspace().settings.notify_command is None
    assert program("trust", clone.root, "--yes") == 0
    assert load_workspace().settings.notify_command
    assert stat.S_IMODE(store.stat().st_mode) == 0o600 or sys.platform == "win32"
    assert program("trust", clone.root / "nothing-here") == 2


def test_a_secret_is_on_no_command_line(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    seen: list[tuple[list[str], dict[str, str]]] = []

    def refuse(command: list[str], **options: object) -> None:
        seen.append((command, options["env"]))  # type: ignore[arg-type]
        raise OSError("not in this test")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    words = ("--webhook", "http://127.0.0.1:1/SECRET", "--notify-command", "say SECRET", "--notify-when", "problem")
    assert program("run", program.prompts("one"), "--detach", *words) == 2
    ((command, env),) = seen
    assert "SECRET" not in " ".join(command) and "--notify-when=problem" in command
    monkeypatch.setattr("os.environ", {**os.environ, **env})
    from ai_router.cli.flags import given
    from ai_router.cli.main import build_parser
    from ai_router.cli.run import notify_options

    args = build_parser(["resume", "x"]).parse_args(["resume", "x", "--notify-when=problem"])
    options, _ = notify_options(args, program_settings())
    assert (options.webhook, options.command, options.when) == ("http://127.0.0.1:1/SECRET", "say SECRET", "problem")
    assert not any("SECRET" in value for value in os.environ.values())
    assert given(args, NotifyOptions) == {"when": "problem"}


def program_settings() -> object:
    from ai_router.settings import Settings

    return Settings()


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_template_with_a_webhook_is_private_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("")
    path.chmod(0o644)
    save_jobfile(path, JobFile(notify=NotifyOptions(webhook="https://example.org/SECRET")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save_jobfile(tmp_path / "open.yaml", JobFile(model="x"))
    assert stat.S_IMODE((tmp_path / "open.yaml").stat().st_mode) & 0o044
