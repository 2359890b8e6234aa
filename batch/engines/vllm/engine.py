"""vLLM as a core: its own scheduler, paged cache and kernels; prompts are made as for every other engine.

It is driven step by step in this process (`LLMEngine`), so that a node's actor needs no server. Its API: vLLM 0.11 to
0.33, https://docs.vllm.ai/en/latest/api/vllm/v1/engine/llm_engine/.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.engines.local.folder import stay_offline
from batch.engines.local.intake import Intake, Row
from batch.engines.local.rows import RowCore
from batch.engines.schema import Constraint
from batch.engines.torch.prompt import noted
from batch.errors import ErrorClass, Failure, FatalError, MissingExtraError, PermanentError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import TRUNCATE, SamplingOptions

NAMES = {"precision", "context", "truncate", "tensor_parallel", "memory_share", "eager", "quantization", "path"}
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(slots=True, eq=False)
class _Running:
    """An item with vLLM, and what it has said so far."""

    row: Row
    text: str = ""
    tokens: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class _Intake(Intake):
    """Rows whose schema is kept by vLLM itself, which compiles it once for all that have it."""

    def constraint(self, sampling: SamplingOptions) -> Constraint | None:
        return None


class VllmCore(RowCore):
    """vLLM over one model's folder; see `LocalCore`."""

    def __init__(self, spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> None:
        super().__init__()
        import vllm  # type: ignore[import-not-found,unused-ignore]
        from vllm import sampling_params

        self._params: Any = sampling_params
        self._engine: Any = _open(vllm, spec, max_batch)
        config = self._engine.vllm_config
        tokenizer = self._engine.get_tokenizer()
        context = int(config.model_config.max_model_len)
        truncate = spec.get("truncate") or "never"
        ends = _end_ids(config.model_config, tokenizer)
        self._intake = _Intake(tokenizer, ends, context, sampling, None if truncate == "never" else truncate)
        # What the model's own configuration asks for where nobody else does, as of every engine.
        own = config.model_config.get_diff_sampling_param() or {}
        self._penalty = float(own.get("repetition_penalty") or 1.0)
        self.room = int(config.scheduler_config.max_num_seqs)
        self._numbers = itertools.count()
        self._running: dict[str, _Running] = {}
        self._names: dict[ItemId, str] = {}
        about = {
            "device": str(getattr(config.device_config, "device_type", "") or "as vLLM finds it"),
            "precision": str(config.model_config.dtype).removeprefix("torch."),
            "batching": "together",
            "runner": f"vLLM {vllm.__version__}",
            "context": context,
        }
        self.about: Mapping[str, Any] = noted(about, tokenizer, sampling.system)

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._refused or self._running)

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item."""
        self._forget_refused(item_id)
        if (name := self._names.pop(item_id, None)) is not None:
            del self._running[name]
            self._engine.abort_request([name])

    def step(self) -> list[BatchResponse[Answer]]:
        """Advance every running sequence; return what has finished."""
        done = self._take_refused()
        if not self._running:
            return done
        for output in self._engine.step():
            name = str(output.request_id)
            running = self._running.get(name)
            if running is None:  # cancelled a moment ago
                continue
            said = output.outputs[0]
            running.text, running.tokens = said.text, len(said.token_ids)
            if output.finished:
                del self._running[name], self._names[running.row.id]
                done.append(_response(running, output, said))
        return done

    def partial_texts(self) -> dict[ItemId, str]:
        """The text so far of every running item."""
        return {running.row.id: running.text for running in self._running.values() if running.text}

    def token_counts(self) -> dict[ItemId, int]:
        """The tokens so far of every running item."""
        return {running.row.id: running.tokens for running in self._running.values()}

    def close(self) -> None:
        """Forget everything; the model goes with the last reference to this core."""
        if self._running:
            self._engine.abort_request(list(self._running))
        self._running.clear()
        self._names.clear()
        self._engine = None

    def _add(self, item: BatchItem[Request]) -> None:
        row = self._intake.row(item, Row)
        name = str(next(self._numbers))  # an item that was taken back may come again
        prompt = {"prompt_token_ids": row.prompt}
        try:
            self._engine.add_request(name, prompt, self._sampling(row))
        except Exception as error:
            if not _refuses(error):
                raise
            raise PermanentError(f"vLLM does not take it: {' '.join(str(error).split())[:300]}") from None
        self._running[name] = _Running(row)
        self._names[item.id] = name

    def _sampling(self, row: Row) -> Any:
        """A row's options as vLLM has them. Not how it orders items: that is the driver's."""
        asked = row.sampling
        said: dict[str, Any] = {
            "max_tokens": row.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p or 1e-9,  # 0 keeps the likeliest token alone, which vLLM has no way to say
            "top_k": asked.top_k or -1,
            "min_p": asked.min_p,
            "repetition_penalty": self._penalty if asked.repetition_penalty is None else asked.repetition_penalty,
            "seed": asked.seed,
            "stop": list(asked.stop),
            "stop_token_ids": sorted(row.stop_ids),
            "logprobs": None if row.logprobs is None else 0,
        }
        if asked.json_schema is not None:
            said["structured_outputs"] = self._params.StructuredOutputsParams(json=asked.json_schema)
        return self._params.SamplingParams(**said)


def _refuses(error: Exception) -> bool:
    """Whether vLLM says with it that it does not take a request: a ValueError, since 0.33 an error of its own."""
    return isinstance(error, ValueError) or any(kind.__name__ == "VLLMClientError" for kind in type(error).__mro__)


def _response(running: _Running, output: Any, said: Any) -> BatchResponse[Answer]:
    row, reason = running.row, str(said.finish_reason or "stop")
    tokens = list(said.token_ids)
    count = len(tokens) - bool(tokens and tokens[-1] in row.stop_ids)
    problem = ""
    if reason not in ("stop", "length"):
        problem = f"vLLM ended it: {reason}"
    elif not said.text.strip():
        problem = "the model gave an empty answer"
    elif row.sampling.json_schema is not None and not _is_json(said.text):
        problem = f"the answer was cut at {row.max_tokens} tokens, within its JSON; raise max_tokens"
    if problem:
        kind = ErrorClass.TRANSIENT if reason not in ("stop", "length") else ErrorClass.PERMANENT
        failure = Failure(kind, problem)
        return BatchResponse(row.id, None, error=failure, tokens_input=len(row.prompt), tokens_output=count)
    extra: dict[str, Any] = {"finish_reason": reason}
    if row.logprobs is not None:
        steps = list(zip(tokens, said.logprobs or (), strict=False))[:count]
        extra["logprobs"] = [float(step[token].logprob) for token, step in steps]
        extra["logprob_tokens"] = [str(step[token].decoded_token or "") for token, step in steps]
    if row.ignored:
        extra["ignored_params"] = row.ignored
    cached = int(getattr(output, "num_cached_tokens", None) or 0)
    answer = Answer(said.text, extra)
    return BatchResponse(row.id, answer, tokens_input=len(row.prompt), tokens_output=count, tokens_cached=cached)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _open(vllm: Any, spec: Mapping[str, Any], max_batch: int | None) -> Any:
    """vLLM's engine. Raises FatalError with what is wrong."""
    precision, spread = spec.get("precision") or "auto", int(spec.get("tensor_parallel") or 1)
    if precision not in DTYPES:
        raise FatalError(f"vLLM computes in {', '.join(DTYPES)}; {precision} weights are a checkpoint's own")
    said: dict[str, Any] = {
        "model": spec["path"],
        "dtype": DTYPES[precision],
        "tensor_parallel_size": spread,
        "distributed_executor_backend": "mp" if spread > 1 else "uni",  # not Ray's: the node is this actor's already
        "load_format": "safetensors",
        "trust_remote_code": False,
        "disable_log_stats": True,
        "enable_prefix_caching": True,
        "enforce_eager": bool(spec.get("eager")),
    }
    named = {"max_model_len": "context", "gpu_memory_utilization": "memory_share", "quantization": "quantization"}
    said |= {name: spec[key] for name, key in named.items() if spec.get(key) is not None}
    if max_batch is not None:
        said["max_num_seqs"] = max_batch
    try:
        return vllm.LLMEngine.from_engine_args(vllm.EngineArgs(**said))
    except Exception as error:  # it raises whatever its parts do
        text = " ".join(str(error).split())[:500]
        raise FatalError(f"vLLM cannot load {spec['path']}: {type(error).__name__}: {text}") from error


def _end_ids(model_config: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer, by the model's generation config and by its tokenizer."""
    own = (model_config.try_get_generation_config() or {}).get("eos_token_id")
    found = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return frozenset(token for token in found if isinstance(token, int))


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> VllmCore:
    """vLLM over the folder at `path`. Raises FatalError, or MissingExtraError where it is not installed."""
    if "path" not in spec or set(spec) - NAMES:
        raise FatalError(f"the vllm engine needs a path and knows {', '.join(sorted(NAMES))}; given: {dict(spec)}")
    if (truncate := spec.get("truncate") or "never") not in TRUNCATE:
        raise FatalError(f"truncate: {truncate!r} is none of {', '.join(TRUNCATE)}")
    stay_offline()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # stepped here, and ended with this process
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        return VllmCore(spec, sampling, max_batch)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "vllm":
            raise MissingExtraError("vllm", "The vllm engine") from None
        raise FatalError(f"vLLM cannot be imported: {error}") from error
