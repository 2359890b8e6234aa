"""The YAML that trained an adapter, read for inference: mlx-lm's own keys and older ones, and where each value is from.

mlx-lm's keys are those of its `lora_config.yaml`; there `train` and `test` say whether to do it, and `data` is the
folder of the files. In older files `train`, `valid` and `test` are the files themselves. A text is taken for a path,
true or false for mlx-lm's meaning.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from batch.datasets.example import Columns
from batch.datasets.extract import Template
from batch.errors import BatchError
from batch.options import SamplingOptions
from batch.yamlfile import YamlError, as_mapping, plain, read_yaml

# The reference's.
DEFAULT_CONFIG = "config/lora_config.yaml"
DEFAULTS: Mapping[str, Any] = {
    "model": "mlx-community/Qwen3-0.6B-4bit",
    "adapter_path": "models/japanese-gec-lora",
    "test_file": "datasets/test.jsonl",
    "output_file": "results/batch_inference_results.jsonl",
    "batch_size": 1,
    "engine": None,
    "prompt_template": None,
    "system": None,
    "max_tokens": 512,
    "temperature": 0.1,
    "top_p": 0.9,
    "seed": 0,
}
SAMPLING = tuple(spec.name for spec in fields(SamplingOptions))
# What a file calls a setting, the first that is there wins.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": ("model", "model_path"),
    "adapter_path": ("adapter_path",),
    "output_file": ("output_file",),
    "engine": ("engine",),
    "prompt_template": ("prompt_template",),
    "system": ("system", "system_prompt"),
    "max_tokens": ("max_tokens",),
    "temperature": ("temp", "temperature"),
    **{name: (name,) for name in SAMPLING if name not in ("system", "max_tokens", "temperature")},
}
# Texts, however they look; not `test`, which may be true or false.
_TEXTS = ("model", "model_path", "adapter_path", "output_file", "engine", "prompt_template", "system", "system_prompt")
_FEATURES = ("chat_feature", "text_feature", "prompt_feature", "completion_feature")
# Keys that train the adapter; here they say nothing. `batch_size` is the trainer's.
_TRAINING_KEYS = """
    train valid test test_file test_path data fine_tune_type optimizer optimizer_config num_layers lora_layers
    batch_size iters val_batches learning_rate steps_per_report steps_per_eval steps_per_save
    grad_accumulation_steps resume_adapter_file save_every test_batches max_seq_length grad_checkpoint mask_prompt
    lr_schedule lora_parameters lora_rank lora_alpha lora_dropout lora_scale hf_dataset config report_to
    project_name warmup_steps weight_decay clear_cache_threshold trust_remote_code wandb quantize
"""
_TRAINING = frozenset(_TRAINING_KEYS.split())


class ConfigError(BatchError):
    """A configuration that cannot be read or used; the text names the file and the key."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it comes from: `flag`, `file`, `model` (its entry in models.yaml) or `default`."""

    name: str
    value: Any
    origin: str

    @property
    def given(self) -> bool:
        """Whether somebody has said so."""
        return self.origin != "default"


class Config:
    """A configuration file; without one, nothing."""

    def __init__(self, values: Mapping[str, Any] | None = None, path: Path | None = None) -> None:
        self.values = dict(values or {})
        self.path = path

    @classmethod
    def load(cls, path: Path) -> Config:
        """Raises ConfigError, and FileNotFoundError where there is no such file."""
        try:
            data = as_mapping(read_yaml(path, what="configuration"), str(path))
        except FileNotFoundError:
            raise FileNotFoundError(f"Configuration not found: {path}") from None
        except YamlError as error:
            raise ConfigError(str(error)) from None
        texts = {key: data.texts[key] for key in _TEXTS if data.get(key) is not None and key in data.texts}
        return cls({**plain(data), **texts}, path)

    def get(self, name: str) -> Any:
        """The value of a setting, whatever the file calls it; None where it says nothing."""
        return next((self.values[key] for key in _KEYS.get(name, (name,)) if self.values.get(key) is not None), None)

    @property
    def test_file(self) -> str | None:
        """`test` where it is a path; else `test.jsonl` in the folder `data`."""
        for key in ("test_file", "test_path", "test"):
            value = self.values.get(key)
            if isinstance(value, str) and value.strip():
                return value
        data = self.values.get("data")
        return f"{data.rstrip('/')}/test.jsonl" if isinstance(data, str) and data.strip() else None

    @property
    def template(self) -> Template | None:
        """`prompt_template`, parsed; raises ConfigError."""
        text = self.get("prompt_template")
        if text is None:
            return None
        if not isinstance(text, str):
            raise ConfigError(f"{self.path}: prompt_template is not a text")
        try:
            return Template.parse(text)
        except BatchError as error:
            raise ConfigError(f"{self.path}: {error}") from None

    @property
    def columns(self) -> Columns:
        """What mlx-lm's `…_feature` keys call the columns."""
        chat, text, prompt, completion = (self.values.get(key) for key in _FEATURES)
        pair = (str(prompt or "prompt"), str(completion or "completion")) if prompt or completion else (None, None)
        return Columns(str(chat or "messages"), str(text or "text"), *pair)

    def warnings(self) -> Iterator[str]:
        """What in the file is not understood, or says two things."""
        known = _TRAINING | set(_FEATURES) | {key for keys in _KEYS.values() for key in keys}
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
                yield f"{self.path}: the key {key} is not known" + (f"; did you mean {near[0]}?" if near else "")
        first, second = self.values.get("temp"), self.values.get("temperature")
        if first is not None and second is not None and first != second:
            yield f"{self.path}: temp is {first} and temperature is {second}; temp is taken"

    def locate(self, value: str) -> Path:
        """A path of this file: from the current folder, else from the nearest folder above the file that has it."""
        path = Path(os.path.expanduser(value))  # unlike Path.expanduser, leaves an unknown ~name as it is
        if path.is_absolute() or path.exists() or self.path is None:
            return path
        return next((folder / path for folder in self.path.absolute().parents if (folder / path).exists()), path)


def settle(flags: Mapping[str, Any], config: Config, model_defaults: Mapping[str, Any]) -> dict[str, Setting]:
    """Every setting of a run: the flag's, else the file's, else (of sampling) the model's own, else the default."""
    settled: dict[str, Setting] = {}
    for name in (*DEFAULTS, *(option for option in SAMPLING if option not in DEFAULTS)):
        from_file = config.test_file if name == "test_file" else None if name == "batch_size" else config.get(name)
        if flags.get(name) is not None:
            settled[name] = Setting(name, flags[name], "flag")
        elif from_file is not None:
            settled[name] = Setting(name, from_file, "file")
        elif model_defaults.get(name) is not None:
            settled[name] = Setting(name, model_defaults[name], "model")
        elif name in DEFAULTS:
            settled[name] = Setting(name, DEFAULTS[name], "default")
    return settled
