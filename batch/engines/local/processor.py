"""What this machine's processor can do, and whether there is a GPU beside it; no library is asked."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
SYSCTLS = ("machdep.cpu.features", "machdep.cpu.leaf7_features")  # of macOS, on Intel's processors alone
_AS_LINUX = {"avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16", "avx1.0": "avx"}
GPU = Path("/proc/driver/nvidia/version")  # of CUDA's driver


@cache
def features() -> frozenset[str]:
    """In the words of /proc/cpuinfo, on Linux and macOS; nothing is known elsewhere, nor of Arm's processors."""
    if sys.platform == "darwin":
        words = " ".join(map(_sysctl, SYSCTLS)).lower().split()
        return frozenset(_AS_LINUX.get(word, word) for word in words)
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def _sysctl(name: str) -> str:
    """A text that macOS has under this name; "" where it has none."""
    text, size = ctypes.create_string_buffer(4096), ctypes.c_size_t(4096)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(name.encode(), text, ctypes.byref(size), None, ctypes.c_size_t(0))
    except (OSError, AttributeError):
        return ""
    return "" if failed else text.value.decode("ascii", "replace")


def multiplies_int8() -> bool:
    """Whether it multiplies int8 in hardware as torch uses it: VNNI, or AMX. Arm's products of int8 are not used."""
    return bool(features() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def multiplies_bf16() -> bool:
    """Whether it multiplies bf16 in hardware."""
    return bool(features() & {"avx512_bf16", "amx_bf16"})
