"""A workspace with models of the tests' own, and the program called in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ai_router.cli.main import main
from ai_router.models import ModelSpec
from batch.checkpoint import CheckpointStore
from batch.engines.function import FunctionEngine
from batch.errors import FatalError, PermanentError
from batch.job import BatchJob
from batch.options import SamplingOptions

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


class Program:
    """`ai-router` in a workspace of its own, in which the model "quick" is the default."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys
        self.started: list[subprocess.Popen[str]] = []
        self.out = self.err = ""
        self.seen: list[str] = []  # prompts answered in this process
        self.answers: dict[str, str] = {}  # where the answer is not the prompt in capitals
        self.answers_of: dict[str, dict[str, str]] = {}  # the same of one model alone
        self.asked: tuple[str, SamplingOptions, int] | None = None
        self.asked_for: dict[str, Any] = {}  # of the engine, beside that
        self.engine_error = ""
        self.down: set[str] = set()  # models whose engine cannot be made
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "AI_ROUTER_HOME": str(home),
            "HF_HUB_CACHE": str(home / "no-cache"),
        }
        (home / "ai-router.yaml").write_text("model: quick\n")
        self.models: dict[str, Any] = {}
        self.add_model("quick")

    def add_model(self, name: str, **test: Any) -> None:
        """A model whose engine is `cores.Core`, with what its config.json says."""
        folder = self.home / "weights" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"test": test}))
        (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # a header of no tensors
        self.models[name] = {"path": f"weights/{name}", "engine": "cores:open_core"}
        (self.home / "models.yaml").write_text(json.dumps({"models": self.models}))

    def make_engine(
        self, spec: ModelSpec, sampling: SamplingOptions, *, workers: int | None, timeout: float | None = None
    ) -> FunctionEngine:
        """Stands in for the engine in this process, where nothing of a worker is under test."""
        self.asked = (spec.id, sampling, workers)
        self.asked_for = dict(spec.engine_options)
        if spec.id in self.down:
            raise FatalError(f"{spec.id} is down")
        if self.engine_error:
            raise FatalError(self.engine_error)

        def answer(text: str) -> SimpleNamespace:
            order, _, rest = text.partition(" ")
            self.seen.append(text)
            if order == "fail":
                raise PermanentError(rest)
            if order == "fatal":
                raise FatalError(rest)
            if order == "slow":
                time.sleep(float(rest))
            told = {**self.answers, **self.answers_of.get(spec.id, {})}
            return SimpleNamespace(text=told.get(text, text.upper()), tokens_input=3, tokens_output=5)

        return FunctionEngine(answer, workers=workers or 8)

    def __call__(self, *words: str | Path) -> int:
        """Run in this process; what it wrote is in `out` and `err`."""
        self.capsys.readouterr()
        code = main(["--workspace", str(self.home), *map(str, words)])
        self.out, self.err = self.capsys.readouterr()
        return code

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Run in a process of its own."""
        command = [sys.executable, "-m", "ai_router", "--workspace", str(self.home), *map(str, words)]
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        process = subprocess.Popen(command, env=self.env, cwd=self.home, text=True, encoding="utf-8", **settings)
        self.started.append(process)
        return process

    def prompts(self, *texts: str, name: str = "prompts.txt") -> Path:
        path = self.home / name
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    def files(self) -> list[str]:
        """All files of the workspace's checkpoint folder."""
        folder = self.home / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def job(self) -> BatchJob:
        """The only job."""
        (path,) = (self.home / "checkpoints").glob("batch_*.db")
        with CheckpointStore(path) as store:
            return store.job(recount=True)

    def wait_for(self, what: Callable[[], Any], seconds: float = 150.0) -> Any:
        """Until `what()` is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.02)
        said = []
        for process in self.started:
            process.kill()
            said.append((process.returncode, process.communicate()))
        raise AssertionError(f"it did not come to be; {self.files()}, {said}")

    def wait_done(self, count: int) -> None:
        """Until so many prompts of the only job have a result."""
        folder = self.home / "checkpoints"
        self.wait_for(lambda: any(folder.glob("batch_*.db")) and self.job().processed >= count)
