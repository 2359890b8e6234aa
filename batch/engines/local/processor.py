"""What this machine's processor can do, and whether there is a GPU beside it; no library is asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
GPU = Path("/proc/driver/nvidia/version")  # of CUDA's driver


@cache
def features() -> frozenset[str]:
    """In the words of /proc/cpuinfo; nothing is known elsewhere."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def multiplies_int8() -> bool:
    """Whether it multiplies int8 in hardware: VNNI, or AMX."""
    return bool(features() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def multiplies_bf16() -> bool:
    """Whether it multiplies bf16 in hardware."""
    return bool(features() & {"avx512_bf16", "amx_bf16"})
