"""`ai-router semantic-ids`: item features to semantic IDs, and what becomes of them."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_router.cli.session import Session

USAGE = "{run,report,upload,train} [options]"
DESCRIPTION = "Turn tables of item features into semantic IDs with trained RQ-VAE models, check them, publish them."
EXAMPLES = """\
examples:
  ai-router semantic-ids run --from ./city
  ai-router semantic-ids run nyc --from ./city --vector quantized --upload --dry-run
  ai-router semantic-ids report 1a2b3c4d
  ai-router semantic-ids upload 1a2b3c4d
  ai-router semantic-ids train rqvae-nyc-staged --from ./city
"""
ACTIONS = {
    "run": "encode datasets with models; a job a model",
    "report": "collisions and codebook use of a job or a file",
    "upload": "put a job's codebooks, or a file, into the dataset's repository",
    "train": "train a small model of a dataset in a folder",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in ACTIONS.items():
        module = importlib.import_module(f"ai_router.cli.semantic_ids.{name}")
        action = actions.add_parser(
            name,
            usage=f"ai-router semantic-ids {name} {module.USAGE}",
            help=summary,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(action)
        action.set_defaults(act=module.main)


def main(args: argparse.Namespace, session: Session) -> int:
    """Do what was asked for."""
    return int(args.act(args, session))
