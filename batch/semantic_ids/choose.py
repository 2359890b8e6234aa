"""Which models are meant: all, nyc, tky, or names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from batch.semantic_ids import layout
from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import FolderHub, Hub
from batch.semantic_ids.parser import ModelConfigParser, UnknownDatasetError

GROUPS = ("all", "nyc", "tky")


def available_models(hub: Hub) -> list[str]:
    """The models of a folder, as they are found in it; of the Hugging Face Hub the published ones, TKY first."""
    if isinstance(hub, FolderHub):
        return hub.models()
    return [*layout.TKY_MODELS, *layout.NYC_MODELS]


def choose_models(words: Iterable[str], hub: Hub) -> list[str]:
    """The models that some words mean, each once, in the order of the words; none mean all.

    A word is a group (all, nyc, tky), a model's id, or the last part of one. On the Hugging Face Hub any id with a
    `/` is taken as it is. SemanticIdError for a word that means nothing.
    """
    known = available_models(hub)
    chosen: dict[str, None] = {}
    for word in list(words) or ["all"]:
        group = word.lower()
        if group in GROUPS:
            found = [model for model in known if group == "all" or _dataset(model).startswith(group)]
            if not found:
                what = "model" if group == "all" else f"{group.upper()} model"
                raise SemanticIdError(f"There is no {what} on {hub.name}: no folder with {layout.MODEL_FILES[0]}")
        else:
            found = [model for model in known if word.rstrip("/") in (model, model.rsplit("/", 1)[-1])][:1]
            if not found and "/" in word and not isinstance(hub, FolderHub):
                found = [word]
            if not found:
                names = [model.rsplit("/", 1)[-1] for model in known]
                near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(GROUPS)} and {len(known):,} names"
                raise SemanticIdError(f"Unknown model {word} on {hub.name}; {hint}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _dataset(model: str) -> str:
    try:
        return ModelConfigParser.parse(model).dataset_name.lower()
    except UnknownDatasetError:
        return ""
