"""The kernels over random shapes, and with sizes that lie, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *("attention.c", "kv_int8.c", "kernels.c", "state.c", "product.c", "gemm.c", "floats.c", "stack.c", "experts.c"),
    "stored.c",
)
SOURCES = [
    *(ROOT / "batch" / "engines" / "torch" / name for name in NAMES),
    ROOT / "tests" / "engines" / "native" / "fuzz.c",
]
OF_KERNELS = ["-Daligned_alloc=bordered_alloc", "-Dfree=bordered_free"]  # which the program has
# The cases are the same code with constant sizes; without them, and as it stands, this compiles in seconds.
FLAGS = [
    *("-O0", "-g", "-march=native", "-std=gnu11", "-fopenmp", "-DWITHOUT_CASES", "-fno-math-errno"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    f"-I{ROOT / 'batch' / 'engines' / 'torch'}",
]


def built(folder: Path, compiler: str) -> Path:
    program = folder / "fuzz"

    def part(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        flags = FLAGS if source.name == "fuzz.c" else [*FLAGS, *OF_KERNELS]
        subprocess.run([compiler, *flags, "-c", str(source), "-o", str(made)], check=True, capture_output=True)
        return made

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(part, SOURCES))
    subprocess.run([compiler, *FLAGS, *map(str, parts), "-o", str(program), "-lm"], check=True, capture_output=True)
    return program


def sanitizes(folder: Path, compiler: str) -> bool:
    """Whether it has OpenMP and the sanitizers' libraries."""
    source = folder / "one.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [compiler, "-fsanitize=address,undefined", "-fopenmp", str(source), "-o", str(folder / "one")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("calls", [60, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.skipif(os.name != "posix", reason="there are no native kernels")
def test_no_shape_reaches_beyond_its_memory(tmp_path: Path, calls: int) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not sanitizes(tmp_path, compiler):
        pytest.skip("no C compiler with sanitizers here")
    program = built(tmp_path, compiler)
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(program), "1", str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:3000]
    assert done.stdout.startswith(str(calls))
