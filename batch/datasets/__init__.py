"""Datasets with known answers: read them, ask a model, score what comes. A job of kind "dataset" is made of this."""

from __future__ import annotations

from batch.datasets.answers import CleaningEngine, clean_answer
from batch.datasets.example import BadRow, Columns, Example, example_of
from batch.datasets.extract import Template, bare_input
from batch.datasets.source import DatasetSource, looks_like_dataset, open_dataset

__all__ = [
    "BadRow",
    "CleaningEngine",
    "Columns",
    "DatasetSource",
    "Example",
    "Template",
    "bare_input",
    "clean_answer",
    "example_of",
    "looks_like_dataset",
    "open_dataset",
]
