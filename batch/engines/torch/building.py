"""The native kernels as a library: the wheel's own, or compiled for this processor once, and checked apart from us.

What was compiled and found right lies in the user's cache under a name made of the sources, the compiler and the
processor, so nothing is ever compiled twice; what failed leaves a note under that name, and is not tried again either.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch.engines.local.notices import say
from batch.engines.local.process import KERNELS
from batch.engines.local.processor import features
from batch.engines.torch import recipe

OFF = {"0": f"switched off by {KERNELS}=0", "died": "the engine died before it was ready when it had them"}
CHECK_SECONDS = 300
WRONG = 3  # what the check ends with where they differ from torch; Python itself ends with 1
WAIT_SECONDS = 25.0  # for a first library; a model answers without it after that, and the next load has it
STALE_SECONDS = 86_400.0
ENDED_BY_OTHERS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM) if os.name == "posix" else ()
PREPARING = "preparing kernels for this processor, once"


@dataclass(frozen=True, slots=True)
class Native:
    """A library that was found right on this processor, or why there is none; `origin` says where it is from."""

    path: Path | None
    problem: str = ""
    origin: str = ""


class BuildError(Exception):
    """The sources cannot be compiled here, or compute wrongly: a clause."""


@functools.cache
def found() -> Native:
    """What `library` said first."""
    return library()


def library() -> Native:
    """The wheel's library for this processor, else one that is compiled now or was before; never raises."""
    if (off := OFF.get(os.environ.get(KERNELS, ""))) is not None:
        return Native(None, off)
    if os.name != "posix":
        return Native(None, "there are none for this system")
    try:
        shipped = _shipped()
        if shipped is not None and shipped.path is not None:
            return shipped
        compiled = _compiled()
        if shipped is None or compiled.path is not None:
            return compiled
        return Native(None, f"{shipped.problem}; {compiled.problem}")
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"they cannot be compiled: {error}")


def _shipped() -> Native | None:
    """The wheel's library for this processor, checked once; None where this is no such wheel."""
    level = recipe.best(features(), recipe.levels())
    path = recipe.HERE / recipe.SHIPPED / recipe.library_name(level) if level else None
    if level is None or path is None or not path.is_file():
        return None
    mark = None
    with contextlib.suppress(OSError):  # where nothing can be noted it is checked each time
        key = hashlib.sha256(path.read_bytes() + processor().encode()).hexdigest()[:32]
        mark = _folder() / f"shipped-{key}.checked"
    found = Native(path, origin=f"shipped for {level.name}")
    if mark is not None and mark.exists():
        return found

    def work() -> None:
        check(path)
        if mark is not None:
            mark.touch()

    failed = mark.with_suffix(".failed") if mark is not None else None
    return _beside(work, found, failed, "checking the kernels on this processor, once", "the shipped kernels: ")


def _compiled() -> Native:
    """The library that is compiled for this processor; it may be there already."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        return Native(None, "there is no C compiler")
    folder = _folder()
    target = folder / f"kernels-{_key(compiler)}.so"
    found = Native(target, origin="compiled here")
    if target.exists():
        return found
    return _beside(lambda: build(compiler, folder, target), found, target.with_suffix(".failed"), PREPARING)


def _beside(work: Callable[[], None], made: Native, failed: Path | None, doing: str, whose: str = "") -> Native:
    """Do it beside the caller, who waits a while for it; what has failed is noted and not tried again."""
    if failed is not None and failed.exists():
        return Native(None, f"{whose}{failed.read_text().strip()}")
    problem: list[str] = []

    def watched() -> None:
        try:
            work()
        except BuildError as error:
            problem.append(f"{whose}{error}")
            if failed is not None:
                failed.write_text(str(error))
        except (OSError, subprocess.SubprocessError) as error:  # of this hour, not of the sources
            problem.append(f"{whose or 'they cannot be compiled: '}{error}")

    say(f"{doing}…")
    thread = threading.Thread(target=watched, name="kernels", daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    if thread.is_alive():
        return Native(None, f"still {doing}; the next start has them")
    return Native(None, problem[0]) if problem else made


def build(compiler: str, folder: Path, target: Path) -> None:
    """Compile all parts, link and check them, and put the library in its place; raises BuildError."""
    _sweep(folder)
    try:
        linked = recipe.build(compiler, recipe.flags(), target, folder)
    except recipe.CompilerError as error:
        raise BuildError(str(error)) from None
    try:
        check(linked)
        linked.replace(target)
    finally:
        shutil.rmtree(linked.parent, ignore_errors=True)


def check(library: Path) -> None:
    """Compare a library with torch in a process that may be killed; raises BuildError, OSError where it is no fault."""
    found = os.pathsep.join(filter(None, [str(recipe.HERE.parents[2]), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": found}  # torch may be where the user says
    command = [sys.executable, "-P", "-m", "batch.engines.torch.checking", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError("they do not come to an end on this machine") from None
    if -done.returncode in ENDED_BY_OTHERS:
        raise OSError(f"their check was ended by signal {-done.returncode}")
    if done.returncode < 0:
        raise BuildError(f"they die on this machine (signal {-done.returncode})")
    if done.returncode == WRONG:
        raise BuildError("they do not compute what torch computes on this machine")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(f"their check cannot be run{': ' + said[-1][:200] if said else ''}")


def _sweep(folder: Path) -> None:
    """Remove what was left by those that were ended while they compiled."""
    for path in [*folder.glob("tmp-*"), *folder.glob("*.o")]:
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # somebody else was quicker


def _key(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=60, check=True).stdout
    names = dict.fromkeys((*recipe.HEADERS, *(source for source, *_ in recipe.PARTS)))
    text = b"".join((recipe.HERE / name).read_bytes() for name in names)
    said = repr((compiler, recipe.flags(), recipe.PARTS, processor()))
    return hashlib.sha256(text + version + said.encode()).hexdigest()[:32]


def _folder() -> Path:
    """Where libraries are kept; nobody else may write there."""
    import platformdirs

    folder = platformdirs.user_cache_path("ai-router") / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is open to others")
    return folder


@functools.cache
def processor() -> str:
    """What the code is compiled for: another machine may share the cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return platform.processor()
