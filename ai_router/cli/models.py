"""`ai-router models`: what can be chosen."""

from __future__ import annotations

import argparse
import sys

from ai_router.cli.errors import Exit
from ai_router.cli.session import Session
from ai_router.cli.text import emit_json, is_terminal, narrate, table, width_of
from ai_router.models import ModelSpec
from ai_router.models.entries import json_schema

DESCRIPTION = """\
List the models: the one inside, those of the workspace's models.yaml and models folder, and those in the Hugging Face
cache.
"""
EXAMPLES = """\
examples:
  ai-router models
  ai-router models --json | jq -r '.[] | select(.ready) | .id'
"""
HEADS = ("ID", "ENGINE", "PARAMETERS", "SIZE", "CONTEXT", "SOURCE", "STATE")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this verb."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of models.yaml, for an editor")


def main(args: argparse.Namespace, session: Session) -> int:
    """Run the verb."""
    if args.schema:
        emit_json(json_schema())
        return Exit.DONE
    models = session.registry.all()
    chosen = session.workspace.settings.model
    if args.json:
        emit_json([{**facts(spec), "default": spec.id == chosen} for spec in models])
    else:
        width = width_of(sys.stdout) if is_terminal(sys.stdout) else 0
        rows = [_row(spec, spec.id == chosen) for spec in models]
        sys.stdout.write(table(HEADS, rows, right=("PARAMETERS", "SIZE", "CONTEXT"), width=width) + "\n")
    for problem in session.registry.skipped:
        narrate(f"Skipped: {problem}")
    return Exit.DONE


def facts(spec: ModelSpec) -> dict[str, object]:
    """A model as JSON has it."""
    return {
        "id": spec.id,
        "name": spec.name,
        "engine": spec.engine,
        "path": str(spec.place),
        "source": spec.source,
        "parameters": spec.parameters,
        "size_bytes": spec.size_bytes,
        "context": spec.context,
        "notes": spec.notes,
        "ready": spec.ready,
        "why": spec.why,
        "sampling": dict(spec.sampling),
    }


def _row(spec: ModelSpec, chosen: bool) -> list[str]:
    state = ("ready, the default" if chosen else "ready") if spec.ready else f"not ready: {spec.why}"
    return [
        spec.id,
        spec.engine,
        spec.parameters_text,
        f"{spec.size_bytes / 1e6:,.1f} MB" if spec.size_bytes else "—",
        f"{spec.context:,}" if spec.context else "—",
        spec.source,
        state + (f" — {spec.notes}" if spec.notes else ""),
    ]
