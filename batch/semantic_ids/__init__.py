"""Semantic IDs: RQ-VAE models that turn item features into short codes.

The names below need neither torch nor the hub's library until a model is processed.
"""

from batch.semantic_ids.errors import SemanticIdError
from batch.semantic_ids.hub import FolderHub, HuggingFaceHub
from batch.semantic_ids.manager import BatchInferenceManager
from batch.semantic_ids.parser import ModelConfig, ModelConfigParser
from batch.semantic_ids.processor import BatchInferenceProcessor, ModelResult
from batch.semantic_ids.task import CodebookOptions

__all__ = [
    "BatchInferenceManager",
    "BatchInferenceProcessor",
    "CodebookOptions",
    "FolderHub",
    "HuggingFaceHub",
    "ModelConfig",
    "ModelConfigParser",
    "ModelResult",
    "SemanticIdError",
]
