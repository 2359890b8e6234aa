"""llama.cpp as a core, over `xllamacpp`: its own slots, prefix cache, grammars and chat templates.

llama.cpp divides its context by its slots; here it is opened with slots × context, so that every answer has all of it.
Its library serves an HTTP port beside; that listens on loopback with a key nobody knows.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.engines.gguf.header import GgufArray, GgufError, GgufHeader, read_array, read_header
from batch.engines.gguf.kept import cache_bytes_per_row, cache_bytes_per_token
from batch.engines.local.core import item_sampling
from batch.engines.local.folder import NO_TEMPLATE
from batch.engines.local.memory import available
from batch.engines.local.rows import RowCore
from batch.engines.torch.asked import penalty_alone, sampled_in_gguf  # which knows nothing of torch
from batch.errors import Cause, ErrorClass, Failure, FatalError, MissingExtraError, PermanentError
from batch.items import Answer, BatchItem, BatchResponse, ItemId, Request
from batch.options import SamplingOptions

SLOTS = 8
LEAST_CONTEXT = 512
UNSAID_CONTEXT = 4096  # where the file does not name one
CACHE_SHARE = 0.4  # of free memory, for keys and values
WAIT_SECONDS = 0.05  # the longest that a step waits for something to finish
CONTROL = 3  # of tokenizer.ggml.token_type
PADDING = 256  # llama.cpp rounds a context up to this


@dataclass(slots=True, eq=False)
class _Row:
    """An item with llama.cpp, and what it has said so far."""

    id: ItemId
    body: dict[str, Any]
    chat: bool
    schema: bool
    max_tokens: int
    ignored: list[str]
    parts: list[str] = field(default_factory=list)
    tokens: int = 0
    cancelled: bool = False
    reason: str = ""
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    logprobs: list[Mapping[str, Any]] | None = None


class LlamaCore(RowCore):
    """llama.cpp over one GGUF file; see `LocalCore`."""

    def __init__(self, header: GgufHeader, spec: Mapping[str, Any], sampling: SamplingOptions, slots: int) -> None:
        super().__init__()
        self._sampling = sampling
        self._header = header
        self._specials = _control_texts(header)
        self.context, self.room, notes = _shape(header, spec.get("context"), slots)
        self._key = secrets.token_hex(32)  # of its port, which nobody else is to use
        self._server: Any = _open(header, spec, self.context, self.room, self._key)
        self._rows: dict[ItemId, _Row] = {}
        self._used = False
        self._done: queue.SimpleQueue[_Row] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(max_workers=self.room, thread_name_prefix="llama.cpp")
        if not header.chat_template:
            notes.append(NO_TEMPLATE)
        self._penalty, asked = penalty_alone(header.path.parent)
        notes += [*sampled_in_gguf(header.values), *asked]
        self.about: Mapping[str, Any] = {
            "device": "as llama.cpp finds it",
            "precision": header.quantisation,
            "parameters": header.parameters,
            "architecture": header.architecture,
            "batching": "together",
            "runner": "llama.cpp",
            "context": self.context,
            "slots": self.room,
            **({"adapter": str(spec["adapter_path"])} if spec.get("adapter_path") else {}),
            **({"notes": notes} if notes else {}),
        }

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._refused or self._rows)

    def _add(self, item: BatchItem[Request]) -> None:
        row = self._rows[item.id] = self._row(item)
        self._threads.submit(self._ask, row)

    def cancel(self, item_id: ItemId) -> None:
        """Forget an item; llama.cpp stops at its next token."""
        self._forget_refused(item_id)
        row = self._rows.pop(item_id, None)
        if row is not None:
            row.cancelled = True

    def step(self) -> list[BatchResponse[Answer]]:
        """What has finished; waits a moment for something to finish."""
        done = self._take_refused()
        wait = 0.0 if done else WAIT_SECONDS
        while self._rows:
            try:
                row = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                break
            wait = 0.0
            if not row.cancelled and self._rows.get(row.id) is row:
                del self._rows[row.id]
                done.append(self._response(row))
        return done

    def partial_texts(self) -> dict[ItemId, str]:
        """The text so far of every running item."""
        return {row.id: text for row in self._rows.values() if not row.schema and (text := "".join(row.parts))}

    def token_counts(self) -> dict[ItemId, int]:
        """The tokens so far of every running item."""
        return {row.id: row.tokens for row in self._rows.values()}

    def close(self) -> None:
        """Stop what runs and free the model."""
        for row in self._rows.values():
            row.cancelled = True
        self._rows.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if not self._used:  # what ends before it has begun to wait for requests waits for ever
            self._server.handle_completions({"prompt": "a", "max_tokens": 1})
        self._server = None

    def _row(self, item: BatchItem[Request]) -> _Row:
        request = item.data
        params = dict(request.params)
        logprobs = bool(params.pop("logprobs", None))
        sampling, ignored = item_sampling(self._sampling, params)
        chat = request.endpoint != "completions" and bool(self._header.chat_template)
        body: dict[str, Any] = _sampling_body(sampling, self.context, self._penalty)
        if chat:
            body["messages"] = self._messages(request, sampling.system)
            body["chat_template_kwargs"] = {"enable_thinking": False}
            if sampling.json_schema is not None:
                named = {"name": "answer", "schema": sampling.json_schema, "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": named}
        else:
            texts = [] if request.endpoint == "completions" else self._messages(request, sampling.system)
            body["prompt"] = "\n\n".join(turn["content"] for turn in texts) if texts else request.text
            if sampling.json_schema is not None:
                body["json_schema"] = sampling.json_schema
            if not body["prompt"].strip():
                raise PermanentError("the prompt is empty")
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": 1} if chat else {"logprobs": 1}
        return _Row(
            id=item.id,
            body=body,
            chat=chat,
            schema=sampling.json_schema is not None,
            max_tokens=sampling.max_tokens,
            ignored=ignored,
            logprobs=[] if logprobs else None,
        )

    def _messages(self, request: Request, system: str | None) -> list[dict[str, Any]]:
        """The chat with the system prompt in front; refused where a text would be read as control tokens."""
        from batch.engines.torch.prompt import SYSTEMS, _turn

        turns = [_turn(message) for message in request.messages]
        if self._header.chat_template and turns and turns[-1]["role"] == "assistant":
            raise PermanentError("the chat ends in an assistant turn, so there is nothing left to answer")
        for turn in turns:
            typed = next((text for text in self._specials if text in turn["content"]), None)
            if typed is not None:
                raise PermanentError(f"the prompt has {typed} in it, which llama.cpp would take for the control token")
        if not system or any(turn["role"] in SYSTEMS for turn in turns):
            return turns
        if not self._header.chat_template or "system" in self._header.chat_template:
            return [{"role": "system", "content": system}, *turns]
        first, *rest = turns
        return [{**first, "content": f"{system}\n\n{first['content']}"}, *rest]

    def _ask(self, row: _Row) -> None:
        """In a thread of its own: one request, its text as it comes."""
        if row.cancelled:
            return
        self._used = True
        handle = self._server.handle_chat_completions if row.chat else self._server.handle_completions

        def hear(said: Any) -> bool:
            for part in said if isinstance(said, list) else [said]:
                if isinstance(part, Mapping):
                    _hear(row, part)
            return row.cancelled

        try:
            answer = handle({**row.body, "stream": True, "stream_options": {"include_usage": True}}, hear)
            if isinstance(answer, Mapping) and answer.get("error"):
                row.error = answer["error"]
        except Exception as error:  # the library raises what C++ threw
            row.error = {"message": f"{type(error).__name__}: {error}", "code": 500}
        self._done.put(row)

    def _response(self, row: _Row) -> BatchResponse[Answer]:
        sent = int(row.usage.get("prompt_tokens") or 0)
        came = int(row.usage.get("completion_tokens") or row.tokens)
        cached = int((row.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        text = "".join(row.parts)
        failure = self._failure(row, text)
        if failure is not None:
            return BatchResponse(row.id, None, error=failure, tokens_input=sent, tokens_output=came)
        extra: dict[str, Any] = {"finish_reason": row.reason or "stop"}
        if row.logprobs is not None:
            extra["logprobs"] = [float(token.get("logprob", 0.0)) for token in row.logprobs]
            extra["logprob_tokens"] = [str(token.get("token", "")) for token in row.logprobs]
        if row.ignored:
            extra["ignored_params"] = row.ignored
        answer = Answer(text, extra)
        return BatchResponse(row.id, answer, tokens_input=sent, tokens_output=came, tokens_cached=cached)

    def _failure(self, row: _Row, text: str) -> Failure | None:
        if row.error is not None:
            return _failed(row.error, self.context)
        if row.schema:
            try:
                json.loads(text)
            except ValueError:
                said = (
                    f"the JSON was not complete after {row.max_tokens:,} tokens; raise max_tokens, or bound its lengths"
                )
                cut = "the JSON was cut by a stop text before it was complete"
                return Failure(ErrorClass.PERMANENT, said if row.reason == "length" else cut)
        if not text.strip():
            return Failure(ErrorClass.PERMANENT, "the model gave an empty answer")
        return None


def _hear(row: _Row, part: Mapping[str, Any]) -> None:
    """A piece of the stream, in the form of the OpenAI API."""
    if part.get("error"):
        row.error = part["error"]
    if part.get("usage"):
        row.usage = part["usage"]
    for choice in part.get("choices") or ():
        delta = choice.get("delta") or {}
        text = delta.get("content") if row.chat else choice.get("text")
        if text:
            row.parts.append(text)
            row.tokens += 1
        if choice.get("finish_reason"):
            row.reason = str(choice["finish_reason"])
        if row.logprobs is not None and (found := (choice.get("logprobs") or {}).get("content")):
            row.logprobs += found


def _failed(error: Mapping[str, Any], context: int) -> Failure:
    if error.get("type") == "exceed_context_size_error":
        sent = error.get("n_prompt_tokens")
        said = f"{sent:,} tokens" if isinstance(sent, int) else "more"
        text = f"the prompt is too long: {said}, and each answer's context is {context:,}"
        return Failure(ErrorClass.PERMANENT, text, cause=Cause.REFUSED)
    message = " ".join(str(error.get("message") or error).split())[:400]
    code = error.get("code")
    refused = isinstance(code, int) and 400 <= code < 500
    return Failure(ErrorClass.PERMANENT if refused else ErrorClass.TRANSIENT, f"llama.cpp: {message}")


def _sampling_body(sampling: SamplingOptions, context: int, penalty: float) -> dict[str, Any]:
    """What llama.cpp is told of each token; all of it, as its own defaults are others."""
    return {
        "max_tokens": min(sampling.max_tokens, context),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": penalty if sampling.repetition_penalty is None else sampling.repetition_penalty,
        "repeat_last_n": context,
        "seed": -1 if sampling.seed is None else sampling.seed % 2**32,
        "stop": list(sampling.stop),
        "cache_prompt": True,
    }


def _control_texts(header: GgufHeader) -> list[str]:
    """The texts of the file's control tokens, the longest first."""
    tokens, kinds = (header.values.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    if not (isinstance(tokens, GgufArray) and isinstance(kinds, GgufArray)):
        return []
    texts = read_array(header.files[0], tokens)
    control = {texts[i] for i, kind in enumerate(read_array(header.files[0], kinds)) if kind == CONTROL and texts[i]}
    return sorted(control, key=len, reverse=True)


def _shape(header: GgufHeader, asked: int | None, slots: int) -> tuple[int, int, list[str]]:
    """The context of each answer, how many at once, and what is to be said of it."""
    own = header.context or UNSAID_CONTEXT
    each, row = cache_bytes_per_token(header), cache_bytes_per_row(header)
    free = available() - header.size_bytes
    if free <= 0:
        raise FatalError(
            f"{header.path.name} takes {header.size_bytes / 1e9:.1f} GB and {available() / 1e9:.1f} GB are free: "
            "a smaller model, or one of fewer bits, would fit"
        )
    room = int(free * CACHE_SHARE)
    if row > room:
        raise FatalError(
            f"the states of one answer take {row / 1e9:.1f} GB beside the weights, {free / 1e9:.1f} GB are free: "
            "a smaller model would fit"
        )
    tokens = (room - row) // each if each else 2**62
    context = asked or own
    notes = [f"context {context:,}, beyond the {own:,} it was made for"] if asked and asked > own else []
    if context > tokens:
        if asked or tokens < LEAST_CONTEXT:
            raise FatalError(
                f"a context of {context:,} tokens takes {context * (each or 0) / 1e9:.1f} GB beside the weights, "
                f"{free / 1e9:.1f} GB are free: context: {max(tokens, 0):,} would fit"
            )
        context = tokens // PADDING * PADDING or LEAST_CONTEXT
        notes.append(f"context {context:,} of its {own:,}: what memory has room for")
    whole = context * (each or 0) + row  # bytes of an answer
    return context, max(1, min(slots, room // whole)) if whole else slots, notes


def _open(header: GgufHeader, spec: Mapping[str, Any], context: int, slots: int, key: str) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtraError("gguf", "The gguf engine (llama.cpp)") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(header.files[0])
    # Its context is for all slots together, each slot's share a multiple of PADDING.
    params.n_ctx = -(-context // PADDING) * PADDING * slots
    params.n_parallel = slots
    params.kv_unified = False
    params.fit_params = False  # it would make the context smaller without a word
    params.ctx_shift = False
    params.warmup = False
    params.verbosity = -1
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec.get("threads") or _threads()
    params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that wait sleep: the machine has other users
    if spec.get("gpu_layers") is not None:
        params.n_gpu_layers = spec["gpu_layers"]
    if spec.get("adapter_path"):
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(_adapter(Path(spec["adapter_path"]))), 1.0)]
    try:
        return xllamacpp.Server(params)
    except Exception as error:
        raise FatalError(f"{header.path}: llama.cpp cannot load it: {' '.join(str(error).split())[:300]}") from error


def _adapter(path: Path) -> Path:
    try:
        header = read_header(path)
    except (GgufError, OSError, ValueError):
        raise FatalError(f"{path}: llama.cpp takes an adapter as one GGUF file; torch takes a PEFT folder") from None
    if header.text("general.type") != "adapter":
        raise FatalError(f"{path} is no LoRA adapter: it is a {header.text('general.type') or 'model'}")
    return path


def _threads() -> int:
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named):
        return int(named)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def open_core(spec: Mapping[str, Any], sampling: SamplingOptions, max_batch: int | None) -> LlamaCore:
    """A core from its description: `path`, and where wanted what else `known` names."""
    known = {"path", "context", "slots", "threads", "gpu_layers", "adapter_path", "precision", "truncate"}
    if "path" not in spec or set(spec) - known:
        raise FatalError(f"the gguf engine needs a path and knows {', '.join(sorted(known))}; given: {dict(spec)}")
    if spec.get("precision", "auto") != "auto":
        raise FatalError(f"precision {spec['precision']}: llama.cpp computes with the file's own quantisation")
    if spec.get("truncate", "never") != "never":
        raise FatalError(f"truncate {spec['truncate']}: llama.cpp refuses a prompt that is too long")
    path = Path(spec["path"]).expanduser()
    try:
        header = read_header(path)
    except (GgufError, OSError) as error:
        raise FatalError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if why := header.why_not():
        raise FatalError(f"{path} is {why}")
    return LlamaCore(header, spec, sampling, spec.get("slots") or min(max_batch or SLOTS, SLOTS))
