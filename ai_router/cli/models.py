"""`ai-router models`: what can be chosen, and how quick it is."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit, emit_json, is_terminal, narrate, plural, table, width_of
from ai_router.models import ModelSpec, describe
from ai_router.models.discovery.servers import find_servers
from ai_router.models.entries import json_schema
from ai_router.models.line import place_of
from batch.engines.local import memory

USAGE = "[test MODEL | pull HUB-ID | add PATH-OR-URL | remove MODEL] [options]"
DESCRIPTION = """\
List the models: the one inside, those of the workspace's models.yaml and models folder, those in the Hugging Face
cache, and those of servers on this machine (Ollama, LM Studio, llama.cpp, vLLM, mlx-lm at their usual ports).

`models test MODEL` asks one a few short questions, and says how soon it answers and how many a second.
`models pull ORG/MODEL` fetches one from the Hugging Face Hub (ORG/MODEL:Q4_K_M of GGUF files), goes on where it was
stopped and checks what came. `models add PATH|URL` writes an entry into models.yaml and leaves the rest as it is;
`models remove MODEL` takes one out again, and leaves its weights where they are.
"""
EXAMPLES = """\
examples:
  ai-router models
  ai-router models test http://127.0.0.1:8080/v1
  ai-router models pull HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:q8_0
  ai-router models add ~/models/big.gguf --name big --engine gguf
  ai-router models add ~/models/base --adapter ~/models/lora --name tuned
  ai-router models --json | jq -r '.[] | select(.ready) | .id'
"""
WIDTH = 8  # answers at once that the memory is reckoned for
HEADS = ("ID", "ENGINE", "PARAMETERS", "SIZE", "CONTEXT", "MEMORY", "SOURCE", "STATE")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("action", nargs="?", choices=tuple(ACTIONS), metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("model", nargs="?", metavar="MODEL", help="which; its id, its folder or its server's address")
    parser.add_argument("--name", metavar="ID", help="with add: what it is called")
    parser.add_argument("--engine", metavar="ENGINE", help="with add and test: what runs it")
    parser.add_argument("--adapter", metavar="PATH", help="with add: a LoRA adapter to put over its weights")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of models.yaml, for an editor")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    if args.schema:
        emit_json(json_schema())
        return Exit.DONE
    if args.action:
        return ACTIONS[args.action](args, session)
    session.registry.add(find_servers())
    models = session.registry.all()
    chosen = session.workspace.settings.model
    if args.json:
        emit_json([{**facts(spec), "default": spec.goes_by(chosen)} for spec in models])
    else:
        width = width_of(sys.stdout) if is_terminal(sys.stdout) else 0
        rows = [_row(spec, spec.goes_by(chosen)) for spec in models]
        sys.stdout.write(table(HEADS, rows, right=("PARAMETERS", "SIZE", "CONTEXT", "MEMORY"), width=width) + "\n")
    for problem in session.registry.skipped:
        narrate(f"Skipped: {problem}")
    return Exit.DONE


def _pull(args: argparse.Namespace, session: Session) -> int:
    from ai_router.models.pulling import pull

    if not args.model:
        raise UsageError("Which model? ai-router models pull ORG/MODEL")
    place = pull(args.model, narrate)
    found = session.registry.get(str(place))
    emit(found.id)
    if not found.ready:
        narrate(f"It is here and cannot run: {found.why}")
    return Exit.DONE


def _add(args: argparse.Namespace, session: Session) -> int:
    from ai_router.models.adding import AddError, add_model

    if not args.model:
        raise UsageError("What is to be added? ai-router models add PATH|URL")
    file = session.workspace.models_file
    try:
        spec = add_model(file, args.model, name=args.name, engine=args.engine, adapter=args.adapter)
    except AddError as error:
        raise UsageError(str(error)) from None
    if not spec.ready:
        narrate(f"Added, and not ready: {spec.why}")
    narrate(f"Added to {file}")
    emit(spec.id)
    return Exit.DONE


def _remove(args: argparse.Namespace, session: Session) -> int:
    from ai_router.models.adding import AddError, remove_model

    if not args.model:
        raise UsageError("Which model? ai-router models remove MODEL")
    file = session.workspace.models_file
    try:
        remove_model(file, session.registry.get(args.model))
    except AddError as error:
        raise UsageError(str(error)) from None
    narrate(f"Removed from {file}")
    return Exit.DONE


def _test(args: argparse.Namespace, session: Session) -> int:
    from ai_router.trial import try_model
    from batch.prices import dollars

    spec = _to_test(args, session)
    narrate(f"Asking {spec.id} a question at a time, then some at once…")
    trial = asyncio.run(try_model(spec))
    rate = trial.answered / trial.seconds if trial.seconds else 0.0
    tokens = trial.tokens / trial.seconds if trial.seconds else 0.0
    if args.json:
        emit_json(
            {
                "model": spec.id,
                "load_seconds": trial.load_seconds,
                "first_token_seconds": trial.first_token,
                "peak_memory_bytes": trial.peak_bytes,
                "latency_seconds": trial.latency,
                "requests_per_second": rate,
                "tokens_per_second": tokens,
                "failures": trial.failures,
                "cost_nanodollars": trial.cost,
                "answered_by": sorted(trial.models),
                "engine": trial.about,
            }
        )
        return Exit.SOME_FAILED if trial.failures else Exit.DONE
    emit(f"engine       {' '.join(filter(None, (spec.engine, place_of(trial.about))))}")
    if trial.latency is not None:
        emit(f"latency      {trial.latency:,.2f} s a question asked alone (median of {len(trial.latencies)})")
        emit(f"rate         {rate:,.1f} answers/s, {tokens:,.0f} tokens/s with {trial.together} at once")
        if trial.load_seconds is not None:
            emit(f"load         {trial.load_seconds:,.1f} s")
        if trial.first_token is not None:
            emit(f"first token  {trial.first_token:,.3f} s after it was asked alone")
        if trial.peak_bytes:
            emit(f"memory       {trial.peak_bytes / 1e9:,.2f} GB at most")
        emit(f"cost         {dollars(trial.cost)}")
    if trial.models:
        emit(f"answered by  {', '.join(sorted(trial.models))}")
    for key in ("place", "not sent", "rate limits met", "alarms"):
        if value := trial.about.get(key):
            emit(f"{key:<12} {_plainly(value)}")
    for message in dict.fromkeys(trial.failures):
        narrate(f"Error: {plural(trial.failures.count(message), 'question')}: {message}")
    return Exit.SOME_FAILED if trial.failures else Exit.DONE


def _to_test(args: argparse.Namespace, session: Session) -> ModelSpec:
    """The model that is meant, on the engine that is asked for."""
    if not args.model:
        raise UsageError("Which model? ai-router models test MODEL")
    spec = session.registry.get(args.model)
    if args.engine and args.engine != spec.engine:
        spec = describe(
            spec.place, id=spec.id, name=spec.name, engine=args.engine, source=spec.source,
            sampling=spec.sampling, adapter=spec.adapter, context=spec.context,
        )  # fmt: skip
    if not spec.ready:
        raise UsageError(f"Model {spec.id} is not ready: {spec.why}")
    return spec


def _plainly(value: object) -> str:
    return ", ".join(f"{key} ({count})" for key, count in value.items()) if isinstance(value, dict) else str(value)


def facts(spec: ModelSpec) -> dict[str, object]:
    """A model as JSON has it."""
    return {
        "id": spec.id,
        "name": spec.name,
        "also": list(spec.also),
        "engine": spec.engine,
        "path": str(spec.place),
        "adapter": str(spec.adapter) if spec.adapter else None,
        "source": spec.source,
        "parameters": spec.parameters,
        "size_bytes": spec.size_bytes,
        "context": spec.context,
        "quantisation": spec.quantisation,
        "license": spec.license,
        "memory_bytes": spec.memory(WIDTH),
        "fits": _fits(spec),
        "notes": spec.notes,
        "ready": spec.ready,
        "why": spec.why,
        "sampling": dict(spec.sampling),
    }


def _fits(spec: ModelSpec) -> bool | None:
    """Whether there is memory for it now; None where what it takes is not known."""
    needed = spec.memory(WIDTH)
    return None if needed is None else needed < memory.available()


def _memory_text(spec: ModelSpec) -> str:
    needed = spec.memory(WIDTH)
    if needed is None:
        return "unknown" if spec.size_bytes else "—"  # which a server's model has none of here
    return f"{needed / 1e9:.2f} GB" + ("" if _fits(spec) else " ✗")


ACTIONS = {"test": _test, "pull": _pull, "add": _add, "remove": _remove}


def _row(spec: ModelSpec, chosen: bool) -> list[str]:
    state = ("ready, the default" if chosen else "ready") if spec.ready else f"not ready: {spec.why}"
    return [
        spec.id,
        spec.engine,
        spec.parameters_text,
        f"{spec.size_bytes / 1e6:,.1f} MB" if spec.size_bytes else "—",
        f"{spec.context:,}" if spec.context else "—",
        _memory_text(spec),
        spec.source,
        state + (f" — {spec.notes}" if spec.notes else ""),
    ]
