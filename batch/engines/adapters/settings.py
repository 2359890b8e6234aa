"""An adapter's settings: every key of adapter_config.json is honoured, known to be harmless, or refused by name.

Two formats are read. PEFT's LoraConfig is the table below; the meaning of its keys is that of PEFT's own forward pass.
mlx-lm reads `fine_tune_type`, `num_layers` and `lora_parameters` of its file and no other key (the rest is how the
training was started), and so do we.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.errors import FatalError

CONFIG = "adapter_config.json"
MLX_FILE, PEFT_FILE, PEFT_PICKLE = "adapters.safetensors", "adapter_model.safetensors", "adapter_model.bin"
FILES = (MLX_FILE, PEFT_FILE, PEFT_PICKLE)

HONOURED, HARMLESS = "honoured", "harmless"
MERGED = "merge it into the model with PEFT first"
CONVERTED = "save it from PEFT with path_initial_model_for_weight_conversion"

# A key of PEFT's LoRA that is neither honoured nor harmless stands with the feature it asks for.
KEYS: Mapping[str, str] = {
    **dict.fromkeys(
        ("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"), HONOURED
    ),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"), HONOURED),
    **dict.fromkeys(("use_dora", "bias", "lora_bias", "modules_to_save", "trainable_token_indices"), HONOURED),
    "ensure_weight_tying": HONOURED,
    # names, versions, and what only matters while training
    **dict.fromkeys(("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"), HARMLESS),
    **dict.fromkeys(("inference_mode", "lora_dropout", "runtime_config", "megatron_core", "merge_weights"), HARMLESS),
    "velora_config": HARMLESS,  # changes the backward pass alone
    "fan_in_fan_out": HARMLESS,  # the module's own kind says it, and PEFT corrects it likewise
    "qalora_group_size": HARMLESS,  # nothing without use_qalora
    # these say how init_lora_weights was done, which is judged itself
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), HARMLESS),
    "alora_invocation_tokens": "activated LoRA (aLoRA), which works only after its invocation tokens",
    "arrow_config": "Arrow routing between adapters",
    "enable_lora": "LoRA on parts of a matrix (enable_lora)",
    "kasa_config": "KaSA, which cuts the model's own matrices",
    "layer_replication": "layer replication, which makes a deeper model",
    "megatron_config": "Megatron's parallel layers",
    "monteclora_config": "MonteCLoRA sampling",
    "target_parameters": "LoRA on bare parameters, such as the experts of a mixture (target_parameters)",
    "use_bdlora": "block-diagonal LoRA (BD-LoRA)",
    "use_qalora": "QALoRA over quantised groups",
}

# How A and B were begun. The first kind leaves the model's matrix as it is; the second takes the beginning out of it.
PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
RESIDUAL_INITS = ("pissa", "olora")
REFUSED_INITS: Mapping[str, str] = {
    "pissa_niter": f"fast PiSSA, whose beginning is random: {CONVERTED}",
    "corda": f"CorDA, which needs the training's data: {CONVERTED}",
    "lora_ga": f"LoRA-GA, which needs the training's gradients: {CONVERTED}",
    "loftq": f"LoftQ, which belongs to a quantised model: {MERGED}",
}
KINDS = ("lora", "dora", "full")  # mlx-lm's fine_tune_type


@dataclass(frozen=True, slots=True)
class Settings:
    """An adapter's settings, checked: what is in here can be honoured."""

    folder: Path
    config: Mapping[str, Any]
    mlx: bool  # mlx-lm's format, else PEFT's
    method: str  # "lora", "dora", or "full", whose tensors are whole weights

    @property
    def init(self) -> str | None:
        """ "pissa" or "olora" where the beginning of A and B is taken out of the model's matrices."""
        init = _init_of(self.config.get("init_lora_weights", True))
        return init if init in RESIDUAL_INITS else None

    @property
    def ties(self) -> bool:
        """Whether what changes an embedding changes a head that is tied to it too."""
        return self.mlx or bool(self.config.get("ensure_weight_tying"))

    def scale(self, module: str, rank: int) -> float:
        """What B · A is multiplied with in a module; raises FatalError where it cannot be said."""
        try:
            scale = self._mlx_scale(rank) if self.mlx else self._peft_scale(module, rank)
        except (TypeError, ValueError, OverflowError, re.error) as error:
            raise FatalError(f"{self.folder}: the adapter's scale cannot be read: {error}") from None
        if not math.isfinite(scale):
            raise FatalError(f"{self.folder}: the adapter's scale for {module} is {scale}")
        return scale

    def _mlx_scale(self, rank: int) -> float:
        parameters = self.config.get("lora_parameters")
        if not isinstance(parameters, dict):
            raise FatalError(f"{self.folder}: {CONFIG} has no lora_parameters, and so no scale")
        if "scale" in parameters:
            return float(parameters["scale"])
        return float(parameters.get("alpha", 20.0 * rank)) / rank  # of old files

    def _peft_scale(self, module: str, rank: int) -> float:
        said = _by_pattern(self.config.get("rank_pattern"), module, self.config.get("r"))
        if said is not None and int(said) != rank:
            raise FatalError(f"{self.folder}: {CONFIG} gives {module} the rank {said}, and its tensors have {rank}")
        alpha = float(_by_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8)))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def leaves_out(self, module: str) -> str | None:
        """The key that leaves a module out, where one does: PEFT would not look at its tensors."""
        config = self.config
        if self.mlx or config.get("ensure_weight_tying"):  # then a head may come with its embedding
            return None
        if _named(config.get("exclude_modules"), module):
            return "exclude_modules"
        targets = config.get("target_modules")
        if targets is None or (isinstance(targets, str) and targets.lower() == "all-linear"):
            return None
        if isinstance(targets, str):
            return None if _named(targets, module) else "target_modules"
        if module in targets:
            return None
        if not _named(targets, module):
            return "target_modules"
        return None if self._layer_is_meant(module) else "layers_to_transform"

    def _layer_is_meant(self, module: str) -> bool:
        layers = self.config.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        patterns = self.config.get("layers_pattern") or [r"[^.]*"]
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module)
            if found:
                return int(found[1]) in ([layers] if isinstance(layers, int) else layers)
        return False

    def saves(self, module: str) -> bool:
        """Whether a module is trained as a whole and comes with the adapter (modules_to_save)."""
        names = self.config.get("modules_to_save") or ()
        return any(re.match(rf"(^|.*\.){re.escape(str(name))}($|\..*)", module) for name in names)


def read_settings(folder: Path) -> Settings:
    """An adapter's settings; FatalError names the file, or the feature that cannot be honoured."""
    if not folder.is_dir():
        raise FatalError(f"{folder}: there is no such adapter folder")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise FatalError(f"{folder}: not an adapter folder, it has no {CONFIG}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FatalError(f"{folder}: {CONFIG} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FatalError(f"{folder}: {CONFIG} does not hold an object")
    if any(key in config for key in ("fine_tune_type", "lora_parameters")) and "peft_type" not in config:
        kind = str(config.get("fine_tune_type") or "lora").lower()
        if kind not in KINDS:
            raise FatalError(f"{folder}: this is a {kind} adapter; {', '.join(KINDS)} are known")
        return Settings(folder, config, True, kind)
    _check_peft(folder, config)
    return Settings(folder, config, False, "dora" if config.get("use_dora") else "lora")


def _check_peft(folder: Path, config: Mapping[str, Any]) -> None:
    kind = str(config.get("peft_type") or "LORA").upper()
    if kind != "LORA":
        raise FatalError(f"{folder}: this is a {kind} adapter; of PEFT's kinds only LORA can be applied, {MERGED}")
    for key, value in config.items():
        verdict = KEYS.get(key)
        if verdict in (HONOURED, HARMLESS) or not value:
            continue
        if verdict is None:
            raise FatalError(f"{folder}: {CONFIG} sets {key}, which is not known here; {MERGED}")
        raise FatalError(f"{folder}: the adapter asks for {verdict}; that cannot be honoured ({key})")
    init = _init_of(config.get("init_lora_weights", True))
    for name, feature in REFUSED_INITS.items():
        if isinstance(init, str) and init.startswith(name):
            raise FatalError(f"{folder}: the adapter was begun by {feature} (init_lora_weights)")
    if init not in (*PLAIN_INITS, *RESIDUAL_INITS):
        raise FatalError(f"{folder}: {CONFIG} says init_lora_weights: {init!r}, which is not known here; {CONVERTED}")
    if config.get("bias") not in (None, "none", "all", "lora_only"):
        raise FatalError(f"{folder}: {CONFIG} says bias: {config['bias']!r}, which is not known here")
    if config.get("lora_bias") and config.get("use_dora"):
        raise FatalError(f"{folder}: lora_bias with use_dora is not a thing PEFT knows")


def _init_of(init: Any) -> Any:
    return init.lower() if isinstance(init, str) else init


def _named(names: Any, module: str) -> bool:
    """Whether PEFT's list of names, or its one regular expression, means a module."""
    if isinstance(names, str):
        return bool(re.fullmatch(names, module))
    return any(module == name or module.endswith(f".{name}") for name in names or ())


def _by_pattern(patterns: Any, module: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module's name ends with, as PEFT looks it up."""
    for key, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise
