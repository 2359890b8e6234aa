"""Compiles the native kernels into a wheel for this system, where that is asked for.

With AI_ROUTER_KERNELS=1 in the environment, or under cibuildwheel, a wheel for Linux x86-64 or macOS arm64 holds a
library for each level of instructions (see batch/engines/torch/recipe.py). Any other wheel is the same for every system
and compiles them at first use.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "batch/engines/torch"


class KernelsHook(BuildHookInterface):  # type: ignore[misc,unused-ignore]
    """Adds the libraries to a wheel, which is then one for this system."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the files; `version` is "standard" or "editable"."""
        asked = os.environ.get("AI_ROUTER_KERNELS", "1" if os.environ.get("CIBUILDWHEEL") == "1" else "0")
        if version != "standard" or asked != "1":
            return
        recipe = _recipe(Path(self.root))
        levels = recipe.levels()
        if not levels:
            self.app.display_warning("There are no compiled kernels for this system; they compile at first use.")
            return
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
        if compiler is None:
            raise SystemExit("AI_ROUTER_KERNELS=1 needs a C compiler, and there is none on PATH")
        self._scratch = Path(tempfile.mkdtemp(prefix="ai-router-kernels-"))
        for level in levels:
            self.app.display_info(f"Compiling the kernels for {level.name}")
            name = recipe.library_name(level)
            library = recipe.build(compiler, recipe.flags(level.flags), self._scratch / name, self._scratch)
            build_data["force_include"][str(library)] = f"{FOLDER}/{recipe.SHIPPED}/{name}"
        build_data["pure_python"] = False
        # Nothing in them knows Python: one wheel serves every version of it.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled; the wheel has it."""
        if (scratch := getattr(self, "_scratch", None)) is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _recipe(root: Path) -> ModuleType:
    """The module by its file: the package needs what a build environment does not have."""
    spec = importlib.util.spec_from_file_location("ai_router_kernel_recipe", root / FOLDER / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
