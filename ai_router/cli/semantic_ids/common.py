"""What the actions share: where models and datasets are, and where codebooks go."""

from __future__ import annotations

import argparse

from ai_router.cli.session import UsageError
from ai_router.cli.text import emit, narrate
from batch.errors import MissingExtraError
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import NO_TOKEN, FolderHub, HuggingFaceHub, open_hub
from batch.sources import user_path

AnyHub = FolderHub | HuggingFaceHub


def add_from(parser: argparse.ArgumentParser) -> None:
    """Where models and datasets come from."""
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        help="a folder with models and datasets (default: the Hugging Face Hub)",
    )


def add_to(parser: argparse.ArgumentParser) -> None:
    """Where codebooks go."""
    parser.add_argument(
        "--to", metavar="DIR", help="upload into this folder (default: where the models come from, else the hub)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done and what would go where")


def hub_of(place: str | None) -> AnyHub:
    """A folder, or the Hugging Face Hub."""
    try:
        return open_hub(None if place is None else user_path(place))
    except SemanticIdError as error:
        raise UsageError(str(error)) from None


def may_upload(hub: AnyHub) -> bool:
    """Whether there is a token where one is needed; says where it is missing. Raises where the library is."""
    if isinstance(hub, HuggingFaceHub):
        import importlib.util

        if importlib.util.find_spec("huggingface_hub") is None:
            raise MissingExtraError("hub", "The Hugging Face Hub")
        if not hub.has_token:
            narrate(f"Error: {NO_TOKEN}")
            return False
    return True


def show_plan(files: list[str], addresses: list[str]) -> None:
    """A dry run's uploads: what would go where."""
    for file, address in zip(files, addresses, strict=True):
        emit(f"{file} -> {address}")
