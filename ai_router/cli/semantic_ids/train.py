"""`ai-router semantic-ids train`: a small model of a dataset in a folder."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_router.cli.display import KINDS, Display, make_display
from ai_router.cli.errors import Exit
from ai_router.cli.flags import add_flags, given
from ai_router.cli.session import Session, UsageError
from ai_router.cli.text import emit
from batch.errors import MissingExtraError
from batch.options import OptionError, build_options, option
from batch.running.progress import format_duration
from batch.semantic_ids import layout
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import FolderHub
from batch.semantic_ids.parser import ModelConfig, ModelConfigParser
from batch.sources import user_path

if TYPE_CHECKING:
    from batch.semantic_ids.train import Epoch, TrainConfig

USAGE = "NAME --from DIR [options]"
DESCRIPTION = """\
Train the model NAME on the features of its dataset in a folder, and keep it there as models/NAME/rqvae_best.pt, where
`run --from DIR` finds it. The features have to fit in memory. The name says the dataset (nyc, tky).

By default the model is built in closed form (staged): codes by residual k-means on the principal components, encoder
and decoder solved for; it knows the places of the table by heart, and of others little. With --method gradient, or any
of its flags, it is trained as the published ones are, with the weights and the learning rate that the name says:
rqvae-nyc-div0.25-commit0.5-lr5e-5; kept is the epoch that loses least. A training that does not beat predicting the
mean, or whose codes collapse, leaves no model and ends with exit code 1.
"""
EXAMPLES = """\
examples:
  ai-router semantic-ids train rqvae-nyc-staged --from ./city
  ai-router semantic-ids train rqvae-tky-staged-128 --from ./city --codewords 128
  ai-router semantic-ids train rqvae-nyc-div0.25-commit0.5-lr5e-5 --from ./city --method gradient
  ai-router semantic-ids train rqvae-nyc-div0.25-commit0.5-lr5e-5 --from ./city --method gradient --resume
"""
GRADIENT = ("epochs", "batch_size", "assignment", "solve")  # options that a staged training has no use for
NOTE_SECONDS = 10.0  # between two lines where lines stay


@dataclass(slots=True)
class TrainOptions:
    """What may be chosen beside what the name says. None: as the method has it."""

    method: str | None = option(
        None,
        "in closed form (staged, the default), or as the published models were trained",
        choices=("staged", "gradient"),
    )
    epochs: int | None = option(None, "gradient: passes over the features (default 50)", minimum=1, metavar="N")
    batch_size: int | None = option(None, "gradient: rows a step (default 128)", minimum=2, metavar="N")
    codewords: int | None = option(None, "codewords a level (32 for NYC, 64 for TKY)", minimum=2, metavar="N")
    levels: int | None = option(None, "codes an item gets", minimum=1, maximum=26, metavar="N")
    vector_dim: int | None = option(None, "width of the latent", minimum=1, metavar="N")
    hidden: str | None = option(None, "widths of the hidden layers, input side first", metavar="N,N,…")
    seed: int | None = option(None, "same seed, same model", minimum=0, metavar="N")
    assignment: str | None = option(
        None,
        "gradient: codewords in training used evenly (the default), or the nearest",
        choices=("balanced", "nearest"),
    )
    solve: bool = option(True, "gradient: solve for the decoder's last layer at the end")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of this action."""
    parser.add_argument("name", metavar="NAME", help="the model's name, which says what it is trained on and how")
    parser.add_argument("--from", dest="source", metavar="DIR", required=True, help="the folder with the dataset")
    add_flags(parser, TrainOptions, title="training")
    parser.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    parser.add_argument("--display", choices=KINDS, default="auto", help="how it is shown (default auto)")


def main(args: argparse.Namespace, session: Session) -> int:
    """Train."""
    display = make_display(args.display)
    try:
        hub = FolderHub(user_path(args.source))
        config = ModelConfigParser.parse(args.name)
    except SemanticIdError as error:
        raise UsageError(str(error)) from None
    folder = hub.root / "models" / config.run_name
    if (folder / layout.MODEL_FILES[0]).exists() and not args.resume:
        raise UsageError(f"{folder} holds a model already; go on with it with --resume, or choose another name")
    words = given(args, TrainOptions)
    chosen = build_options(TrainOptions, words)
    chosen.method = _method(config, words, going_on=args.resume and (folder / layout.MODEL_FILES[-1]).exists())
    # Read when torch is imported: threads that spin while they wait take the core from whoever they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from batch.semantic_ids.train import train
    except ImportError:
        raise MissingExtraError("local", "Training") from None
    from batch.semantic_ids.features import open_features

    dataset = layout.dataset_repo(config.dataset_name)
    table = open_features(_features(hub, dataset))
    settings = _settings(config, chosen)
    display.note(
        f"Training {config.run_name}: {table.rows:,} rows of {table.width:,} features, "
        f"{'in closed form' if settings.method == 'staged' else f'{settings.epochs:,} epochs'}, "
        f"{settings.levels} levels of {settings.codewords} codewords"
    )
    display.busy("reading the features")
    shown = _Progress(display)
    from batch.semantic_ids.quality import UnusableModelError

    try:
        train(table.read(0, table.rows), settings, progress=shown, folder=folder, resume=args.resume)
    except KeyboardInterrupt:
        display.busy("")
        again = ["ai-router", "semantic-ids", "train", args.name, "--from", str(args.source), "--resume"]
        display.alert(f"Stopped after epoch {shown.epoch}; go on with: {shlex.join(again)}")
        return Exit.INTERRUPTED
    except UnusableModelError as error:
        display.busy("")
        display.alert(str(error))
        return Exit.SOME_FAILED
    display.busy("")
    display.note(shown.kept)
    path = folder / layout.MODEL_FILES[0]
    display.note(f"Wrote {path}; encode with: {shlex.join(['ai-router', 'semantic-ids', 'run', config.run_name])} "
                 f"--from {shlex.quote(str(args.source))}")  # fmt: skip
    emit(str(path))
    return Exit.DONE


def _features(hub: FolderHub, dataset: str) -> Path:
    held = set(hub.files(dataset, "dataset"))
    for name in layout.FEATURE_FILES:
        if (path := f"{layout.FEATURE_FOLDER}/{name}") in held:
            return hub.fetch(dataset, path, "dataset")
    place = hub.address(dataset, f"{layout.FEATURE_FOLDER}/{layout.FEATURE_FILES[0]}", "dataset")
    raise SemanticIdError(f"The dataset has no features: there is no {place}")


def _method(config: ModelConfig, given: dict[str, object], *, going_on: bool) -> str:
    """How to train: as is said, and else by gradients where something asks for them that a staged training lacks.

    OptionError for a flag, and a name, that the method has no use for. `going_on`: a training by gradients is there.
    """
    flags = [f"--{name.replace('_', '-')}" for name in GRADIENT if name in given]
    ablated = not (config.quant_weight and config.recon_weight)  # a loss is left out: there must be losses
    said = given.get("method")
    if said == "staged" and flags:
        raise OptionError(f"{flags[0]} belongs to --method gradient; a staged training is one step")
    if said == "staged" and ablated:
        raise OptionError(f"{config.run_name} leaves out a loss, and a staged training has none: use --method gradient")
    return str(said or ("gradient" if flags or ablated or going_on else "staged"))


def _settings(config: ModelConfig, chosen: TrainOptions) -> TrainConfig:
    """What the name says, and over it the flags."""
    from batch.semantic_ids.train import TrainConfig

    named = TrainConfig(
        method="gradient" if chosen.method == "gradient" else "staged",
        lr=config.lr,
        codewords=64 if config.dataset_name.startswith("TKY") else 32,
        commitment_weight=config.commitment_weight,
        div_weight=config.div_weight,
        quant_weight=config.quant_weight,
        recon_weight=config.recon_weight,
    )
    names = ("epochs", "batch_size", "codewords", "levels", "vector_dim", "seed", "assignment", "solve")
    changes = {name: value for name in names if (value := getattr(chosen, name)) is not None}
    if chosen.hidden is not None:
        parts = [part.strip() for part in chosen.hidden.split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
            raise OptionError(f"hidden: {chosen.hidden!r} are no whole numbers with commas between, as 512,256,128")
        changes["hidden"] = tuple(map(int, parts))
    return replace(named, **changes)


class _Progress:
    """An epoch's figures: on a line that is drawn over, and now and then on one that stays."""

    def __init__(self, display: Display) -> None:
        self.epoch = 0
        self.kept = "Kept the model that was there"
        self._display = display
        self._began = self._noted = time.monotonic()

    def __call__(self, report: Epoch) -> None:
        self.epoch = report.epoch
        now = time.monotonic()
        left = (now - self._began) / max(1, report.epoch) * (report.epochs - report.epoch)
        line = (
            f"epoch {report.epoch:,}/{report.epochs:,}  loss {report.loss:.4g}  "
            f"reconstruction {report.reconstruction:.4g} (mean {report.baseline:.4g})"
        )
        if (quality := report.quality) is not None:
            line += f"  collisions {quality.collision_rate * 100:.1f} %"
            if report.best:
                which = f"epoch {report.epoch:,}" if report.epochs > 1 else "the model"
                self.kept = (
                    f"Kept {which}: reconstruction error {quality.error:.4g}, {quality.gain:.1f} × "
                    f"smaller than predicting the mean ({quality.baseline:.4g}); "
                    f"collisions {quality.collision_rate * 100:.1f} %"
                )
        if now - self._noted >= NOTE_SECONDS or report.epoch == report.epochs:
            self._noted = now
            self._display.busy("")
            self._display.note(line)
        else:
            self._display.busy(f"{line}  ETA {format_duration(left)}")
