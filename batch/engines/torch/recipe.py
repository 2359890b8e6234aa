"""How the native kernels are compiled, for this processor or for a wheel. The wheel's build loads this file alone.

A wheel holds a library for each level of instructions that is worth one of its own; at load the best one is taken that
the processor has.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SHIPPED = "shipped"  # the folder beside this file where a wheel has its libraries
HEADERS = (
    *("kernels.h", "team.h", "product.h", "block.h", "pairs.h", "run.h", "run_pairs.h", "rows.h", "tiles.h"),
    *("amx.h", "float_tiles.h", "run_tiles.h", "far_tiles.h", "kv_int8.h"),
)
# What is compiled by itself: a source, and what the compiler is told for it alone. The cases are those of block.h; they
# take the longest.
CASES = ((2, 64), (2, 128), (3, 64), (4, 64), (4, 128))
PARTS: tuple[tuple[str, ...], ...] = (
    *(("cases.c", f"-DGROUP={group}", f"-DSIZE={size}") for group, size in CASES),
    ("attention.c",),
    ("kv_int8.c",),
    ("kernels.c",),
    ("state.c",),
    ("stack.c",),
    ("experts.c",),
    ("stored.c",),
    ("product.c",),
    ("floats.c", "-fno-associative-math"),  # a row's sums are the same whatever rows stand beside it
    ("gemm.c", "-fno-tree-pre"),  # which would move sums from registers to memory, and a third of the speed with them
)
# Sums may be regrouped, which vectors need; NaN and infinity keep their meaning, so this is not -ffast-math.
FLAGS = (
    *("-O3", "-std=gnu11", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)
COMPILE_SECONDS = 900  # of a part, after which a compiler is stuck
# What compilers say where neither they nor the sources are at fault.
OF_THIS_HOUR = ("terminated with signal", "terminated signal", "Killed", "No space left", "annot allocate memory")
X86, ARM = ("x86_64", "amd64"), ("arm64", "aarch64")


class Level(NamedTuple):
    """What a library is compiled for, and what a processor must have to run it (names of /proc/cpuinfo)."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str] = frozenset()


_V3 = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_VNNI, _BF16 = _V4 | {"avx512_vnni"}, _V4 | {"avx512_vnni", "avx512_bf16"}
_AMX = _BF16 | {"amx_tile", "amx_int8", "amx_bf16"}
_BF16_FLAGS = ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")
# The best first. Each one has code of its own in the sources, or vectors of another width.
LEVELS = {
    "linux-x86": (
        Level("amx", (*_BF16_FLAGS, "-mamx-tile", "-mamx-int8", "-mamx-bf16"), _AMX),
        Level("avx512-bf16", _BF16_FLAGS, _BF16),
        Level("avx512-vnni", ("-march=x86-64-v4", "-mavx512vnni"), _VNNI),
        Level("avx512", ("-march=x86-64-v4",), _V4),
        Level("avx2", ("-march=x86-64-v3",), _V3),
    ),
    "darwin-arm": (Level("apple-m1", ("-mcpu=apple-m1",)),),
}


class CompilerError(Exception):
    """The compiler refuses the sources; a clause."""


def levels(system: str | None = None, machine: str | None = None) -> tuple[Level, ...]:
    """What a wheel for this system is compiled for; nothing where it has no libraries."""
    machine = (machine or platform.machine()).lower()
    family = "x86" if machine in X86 else "arm" if machine in ARM else machine
    return LEVELS.get(f"{(system or platform.system()).lower()}-{family}", ())


def library_name(level: Level) -> str:
    """The file of a level's library in a wheel."""
    return f"kernels-{level.name}.so"


def best(has: Iterable[str], among: Iterable[Level]) -> Level | None:
    """The first of the levels that a processor with these features runs."""
    features = frozenset(has)
    return next((level for level in among if level.needs <= features), None)


def flags(target: Iterable[str] = ("-march=native",)) -> list[str]:
    """What the compiler is given; `target` says for which processor."""
    wide = ["-mprefer-vector-width=512"] if platform.machine().lower() in X86 else []
    # Apple's compiler leaves OpenMP's library to whoever has one: torch has, and two of them would not get on.
    threads = ["-Xclang", "-fopenmp"] if platform.system() == "Darwin" else ["-fopenmp"]
    return [*target, *FLAGS, *wide, *threads]


def link_flags() -> list[str]:
    """What the linker is given beside."""
    return ["-Wl,-undefined,dynamic_lookup"] if platform.system() == "Darwin" else ["-lm"]


def build(compiler: str, options: list[str], target: Path, scratch_in: Path) -> Path:
    """Compile all parts side by side and link them; `target` names the parts, which are kept until a library is whole.

    Returns the library, in a new folder of `scratch_in`, which is the caller's to remove. Raises CompilerError, or
    OSError and subprocess.SubprocessError where it is not the sources' fault.
    """

    def part(number: int, source: str, *definitions: str) -> Path:
        made = target.with_suffix(f".{number}.o")  # kept, so that who is ended in the middle goes on from there
        if not made.exists():
            with tempfile.TemporaryDirectory(prefix="tmp-", dir=scratch_in) as scratch:
                fresh = Path(scratch) / "part.o"
                _run([compiler, *options, *definitions, "-c", str(HERE / source), "-o", str(fresh)])
                fresh.replace(made)
        return made

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        parts = list(pool.map(lambda numbered: part(numbered[0], *numbered[1]), enumerate(PARTS)))
    folder = Path(tempfile.mkdtemp(prefix="tmp-", dir=scratch_in))
    try:
        # Under names of our own: whoever links the same parts at this time removes them when it is done.
        own = [folder / made.name for made in parts]
        for made, mine in zip(parts, own, strict=True):
            os.link(made, mine)
        _run([compiler, *options, "-shared", *map(str, own), "-o", str(folder / "kernels.so"), *link_flags()])
        for made in (*parts, *own):
            made.unlink(missing_ok=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder / "kernels.so"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode < 0:
        raise OSError(f"the compiler was ended by signal {-done.returncode}")
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace")
        # A driver outlives the compiler and the linker that it started, and tells of their ends itself.
        if any(word in text for word in OF_THIS_HOUR):
            raise OSError(f"the compiler had no chance: {text.strip().splitlines()[0][:200]}")
        said = text.strip().splitlines()
        raise CompilerError(f"{Path(command[0]).name} cannot compile them{': ' + said[0][:200] if said else ''}")
