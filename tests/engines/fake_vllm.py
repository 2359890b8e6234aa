"""A double of vLLM's offline engine: the names, arguments and outputs of `vllm.LLMEngine` as of vLLM 0.33, no model.

It refuses arguments that vLLM does not have. A request's tokens follow from its prompt, one a step.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import Any

__version__ = "0.33.0"
CONTEXT = 256


class VLLMClientError(Exception):
    """Of a request; `ValueError` was in its place before 0.33."""


class VLLMValidationError(VLLMClientError):
    pass


@dataclass
class StructuredOutputsParams:
    json: Any = None


@dataclass
class SamplingParams:
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    logprobs: int | None = None
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise VLLMValidationError(f"top_p must be in (0, 1], got {self.top_p}.")


sampling_params = types.SimpleNamespace(
    SamplingParams=SamplingParams, StructuredOutputsParams=StructuredOutputsParams
)  # as the module of that name


@dataclass
class EngineArgs:
    model: str
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    distributed_executor_backend: str | None = None
    load_format: str = "auto"
    trust_remote_code: bool = False
    disable_log_stats: bool = False
    enable_prefix_caching: bool | None = None
    enforce_eager: bool = False
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    quantization: str | None = None
    max_num_seqs: int | None = None


class LLMEngine:
    """`says` is a text that it answers instead, whole; `ends` the reason of an end that is none of the model's."""

    says = ""
    ends = ""
    refuses: Exception | None = None

    def __init__(self, args: EngineArgs) -> None:
        from transformers import AutoTokenizer

        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(args.model, local_files_only=True)
        self.requests: dict[str, tuple[list[int], SamplingParams, list[int]]] = {}
        self.seen: list[SamplingParams] = []
        self.aborted: list[str] = []
        self.vllm_config = types.SimpleNamespace(
            model_config=types.SimpleNamespace(
                max_model_len=args.max_model_len or CONTEXT,
                dtype="torch.bfloat16" if args.dtype == "auto" else f"torch.{args.dtype}",
                get_diff_sampling_param=lambda: {"repetition_penalty": 1.1, "top_p": 0.8},
                try_get_generation_config=lambda: {"eos_token_id": [1]},
            ),
            scheduler_config=types.SimpleNamespace(max_num_seqs=args.max_num_seqs or 8),
            device_config=types.SimpleNamespace(device_type="cuda"),
        )

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> LLMEngine:
        return cls(args)

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def add_request(self, request_id: str, prompt: Any, params: SamplingParams) -> str:
        assert set(prompt) == {"prompt_token_ids"} and request_id not in self.requests
        if self.refuses is not None:
            raise self.refuses
        if len(prompt["prompt_token_ids"]) >= self.vllm_config.model_config.max_model_len:
            raise VLLMValidationError("The decoder prompt is longer than the maximum model length.")
        self.requests[request_id] = (prompt["prompt_token_ids"], params, [])
        self.seen.append(params)
        return request_id

    def abort_request(self, request_ids: list[str]) -> None:
        for name in request_ids:
            self.requests.pop(name, None)
        self.aborted += request_ids

    def step(self) -> list[Any]:
        outputs = []
        for name, (prompt, params, tokens) in list(self.requests.items()):
            tokens.append(40 + (sum(prompt) + len(tokens)) % 400)
            text = self.says or self.tokenizer.decode(tokens)
            reason = self.ends or ("stop" if self.says else "length" if len(tokens) >= params.max_tokens else None)
            if reason is not None:
                del self.requests[name]
            logprobs = None
            if params.logprobs is not None:
                logprobs = [{t: types.SimpleNamespace(logprob=-0.5, decoded_token=f"t{t}")} for t in tokens]
            said = types.SimpleNamespace(text=text, token_ids=list(tokens), finish_reason=reason, logprobs=logprobs)
            outputs.append(
                types.SimpleNamespace(
                    request_id=name, outputs=[said], finished=reason is not None, num_cached_tokens=len(prompt) // 2
                )
            )
        return outputs
