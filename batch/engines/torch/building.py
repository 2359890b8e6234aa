"""The native kernels as a library: compiled for this processor once, in parts side by side, and checked apart from us.

What was compiled and found right lies in the user's cache under a name made of the sources, the compiler and the
processor, so nothing is ever compiled twice; what failed leaves a note under that name, and is not tried again either.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from batch.engines.local.notices import say
from batch.engines.local.process import KERNELS

OFF = {"0": f"switched off by {KERNELS}=0", "died": "the engine died before it was ready when it had them"}
HERE = Path(__file__).parent
HEADERS = ("kernels.h", "block.h", "pairs.h", "rows.h")
# What is compiled by itself: a source, and flags or definitions of its own. The cases are those of block.h; they take the longest.
CASES = ((2, 64), (2, 128), (4, 64), (4, 128))
PARTS: tuple[tuple[str, ...], ...] = (
    *(("cases.c", f"-DGROUP={group}", f"-DSIZE={size}") for group, size in CASES),
    ("attention.c",),
    ("kernels.c",),
    ("gemm.c", "-fno-tree-pre"),  # which would move sums from registers to memory, and a third of the speed with them
)
# Sums may be regrouped, which vectors need; NaN and infinity keep their meaning, so this is not -ffast-math.
FLAGS = (
    *("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)
COMPILE_SECONDS = 900  # of a part, after which a compiler is stuck
CHECK_SECONDS = 300
WAIT_SECONDS = 25.0  # for a first library; a model answers without it after that, and the next load has it
STALE_SECONDS = 86_400.0
PREPARING = "preparing kernels for this processor, once"


@dataclass(frozen=True, slots=True)
class Native:
    """The compiled library, or why there is none."""

    path: Path | None
    problem: str = ""


class BuildError(Exception):
    """The sources cannot be compiled here, or compute wrongly: a clause."""


def library() -> Native:
    """The library, compiled now where this machine has not done so yet; never raises."""
    if (off := OFF.get(os.environ.get(KERNELS, ""))) is not None:
        return Native(None, off)
    if os.name != "posix":
        return Native(None, "there are none for this system")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        return Native(None, "there is no C compiler")
    try:
        folder = _folder()
        target = folder / f"kernels-{_key(compiler)}.so"
        failed = target.with_suffix(".failed")
        if target.exists():
            return Native(target)
        if failed.exists():
            return Native(None, failed.read_text().strip())
        return _prepare(compiler, folder, target)
    except (OSError, subprocess.SubprocessError) as error:
        return Native(None, f"they cannot be compiled: {error}")


def _prepare(compiler: str, folder: Path, target: Path) -> Native:
    """Compile beside the caller, who waits a while for it."""
    problem: list[str] = []

    def work() -> None:
        try:
            build(compiler, folder, target)
        except BuildError as error:
            problem.append(str(error))
            target.with_suffix(".failed").write_text(str(error))
        except (OSError, subprocess.SubprocessError) as error:  # of this hour, not of the sources
            problem.append(f"they cannot be compiled: {error}")

    say(f"{PREPARING}…")
    thread = threading.Thread(target=work, name="kernels", daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    if thread.is_alive():
        return Native(None, f"still {PREPARING}; the next start has them")
    return Native(None, problem[0]) if problem else Native(target)


def build(compiler: str, folder: Path, target: Path) -> None:
    """Compile all parts, link and check them, and put the library in its place; raises BuildError."""
    _sweep(folder)
    flags = _flags()

    def part(number: int, source: str, *definitions: str) -> Path:
        made = target.with_suffix(f".{number}.o")  # kept, so that who is ended in the middle goes on from there
        if not made.exists():
            with tempfile.TemporaryDirectory(prefix="tmp-", dir=folder) as scratch:
                fresh = Path(scratch) / "part.o"
                _run([compiler, *flags, *definitions, "-c", str(HERE / source), "-o", str(fresh)])
                fresh.replace(made)
        return made

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        parts = list(pool.map(lambda numbered: part(numbered[0], *numbered[1]), enumerate(PARTS)))
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=folder) as scratch:
        linked = Path(scratch) / "kernels.so"
        _run([compiler, *flags, "-shared", *map(str, parts), "-o", str(linked), "-lm"])
        check(linked)
        linked.replace(target)
    for made in parts:
        made.unlink(missing_ok=True)


def check(library: Path) -> None:
    """Compare a library with torch in a process that may be killed; raises BuildError."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    command = [sys.executable, "-P", "-m", "batch.engines.torch.checking", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError("they do not come to an end on this machine") from None
    if done.returncode < 0:
        raise BuildError(f"they die on this machine (signal {-done.returncode})")
    if done.returncode:
        raise BuildError("they do not compute what torch computes on this machine")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode < 0:
        raise OSError(f"the compiler was ended by signal {-done.returncode}")
    if done.returncode and not Path(command[-1 if command[-1] != "-lm" else -2]).parent.is_dir():
        raise OSError("the folder they are compiled in is gone")  # with a process that has ended meanwhile
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BuildError(f"{Path(command[0]).name} cannot compile them{': ' + said[0][:200] if said else ''}")


def _sweep(folder: Path) -> None:
    """Remove what was left by those that were ended while they compiled."""
    for path in [*folder.glob("tmp-*"), *folder.glob("*.o")]:
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # somebody else was quicker


def _flags() -> list[str]:
    return [*FLAGS, "-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else list(FLAGS)


def _key(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=60, check=True).stdout
    names = dict.fromkeys((*HEADERS, *(source for source, *_ in PARTS)))
    text = b"".join((HERE / name).read_bytes() for name in names)
    said = repr((compiler, _flags(), PARTS, _processor()))
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
def _processor() -> str:
    """What the code is compiled for: another machine may share the cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return platform.processor()
