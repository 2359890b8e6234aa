"""Tables on the command line: a template and its preview, and the answers' way back into the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_router.cli.session import UsageError
from ai_router.cli.text import emit
from ai_router.templates import read_template
from batch.jobfile import ExportOptions, JobFile
from batch.sources import Source, open_source

if TYPE_CHECKING:
    from ai_router.models import ModelSpec

_OPTIONS = (".yaml", ".yml")
_SHOWN_ROWS = 3
_VALUE = "«{}»"


def split_templates(names: Sequence[str]) -> tuple[str | None, str | None]:
    """Of what --template names: the YAML file of options, and the template of the prompt."""
    options = [name for name in names if Path(name).suffix.lower() in _OPTIONS]
    prompts = [name for name in names if name not in options]
    if len(options) > 1 or len(prompts) > 1:
        raise UsageError("--template: one YAML file of options and one template of the prompt at most")
    return next(iter(options), None), next(iter(prompts), None)


def source_of(jobfile: JobFile) -> Source:
    """The source that a job file asks for: the rows of a table where it has a template, or answers go back to them."""
    asked = jobfile.source
    assert asked.path is not None
    if asked.template is None and not asked.per_row and jobfile.export.merge is None:
        return open_source(asked.path, format=asked.format, column=asked.column, skip_invalid=asked.skip_invalid)
    from batch.sources.rows import TableSource, parse_per_row

    return TableSource(
        asked.path,
        template=None if asked.template is None else read_template(asked.template),
        column=asked.column,
        per_row=parse_per_row(asked.per_row),
        skip_invalid=asked.skip_invalid,
        format=asked.format,
    )


def check_merge(export: ExportOptions, source: Source, jobfile: JobFile, spec: ModelSpec) -> None:
    """Raise where the answers could not be merged in the end."""
    if export.merge is None:
        return
    from batch.export.answers import AnswerColumns, MergeNames
    from batch.sources.rows import TableSource

    assert isinstance(source, TableSource)
    names = MergeNames(export.merge_column, export.merge_field)
    AnswerColumns(jobfile.sampling.json_schema, spec.id, names, source.table.columns)


def kept(source: Source) -> dict[str, Any] | None:
    """What a job keeps of its table; None where it has none."""
    read = getattr(source, "kept", None)
    return read() if read is not None else None


def show_preview(source: Source) -> None:
    """The prompts of a table's first rows, what comes from the row in marks."""
    preview = getattr(source, "preview", None)
    if preview is None:
        return
    for number, pieces in enumerate(preview(_SHOWN_ROWS), 1):
        emit(f"\nprompt {number}, values in {_VALUE.format('…')}:")
        emit("".join(_VALUE.format(text) if from_row else text for text, from_row in pieces))
