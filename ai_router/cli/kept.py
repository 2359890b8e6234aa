"""Options kept by a name, on the command line: the same that the options screen keeps and takes."""

from __future__ import annotations

from ai_router.cli.display import Display
from ai_router.cli.session import UsageError
from ai_router.memory import Memory
from ai_router.presets import keep_preset, preset_of, presets
from batch.errors import BatchError
from batch.jobfile import JobFile
from batch.options import RunOptions, SamplingOptions, build_options, nearest, options_dict


def take_preset(name: str | None, jobfile: JobFile, memory: Memory) -> None:
    """Put a preset under what the template says. Raises UsageError where there is none of that name."""
    if name is None:
        return
    known = presets(memory)
    if name not in known:
        near = nearest(name, known)
        there = f"did you mean {near}?" if near else f"those there are: {', '.join(known) or 'none'}"
        raise UsageError(f"--preset: no options are kept as {name!r}; {there}")
    sampling, run = known[name].built()
    said = options_dict(sampling) | options_dict(jobfile.sampling)
    jobfile.sampling = build_options(SamplingOptions, said)
    jobfile.run = build_options(RunOptions, options_dict(run) | options_dict(jobfile.run))


def keep(name: str, jobfile: JobFile, memory: Memory, display: Display) -> None:
    """Keep the options of this command line. Raises UsageError."""
    try:
        kept = keep_preset(memory, name, preset_of(jobfile.sampling, jobfile.run))
    except (ValueError, BatchError) as error:
        raise UsageError(f"--keep-preset: {error}") from None
    display.note(f"Kept as {kept}; again with: --preset {kept!r}")
