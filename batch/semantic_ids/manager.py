"""Many models one after the other; what goes wrong with one costs none of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from batch.errors import BatchError
from batch.semantic_ids import layout
from batch.semantic_ids.hub import Hub, HuggingFaceHub, MissingTokenError
from batch.semantic_ids.processor import BatchInferenceProcessor, ModelResult, Progress, check_token
from batch.semantic_ids.task import CodebookOptions

log = logging.getLogger(__name__)


class BatchInferenceManager:
    """The published models, and the pipeline for all or some of them.

    Arguments as of `BatchInferenceProcessor`. `say` gets a line for each thing that happens. Where a token is needed
    and there is none, `process_models` says so and does nothing; with `raise_errors` it raises MissingTokenError, and
    a model's error ends the rest.
    """

    def __init__(
        self,
        hf_token: str | None = None,
        *,
        hub: Hub | None = None,
        output_dir: Path | str | None = None,
        upload: bool | None = None,
        options: CodebookOptions | None = None,
        progress: Progress | None = None,
        say: Callable[[str], object] = print,
        raise_errors: bool = False,
    ) -> None:
        self.processor = BatchInferenceProcessor(
            hf_token,
            hub=hub or HuggingFaceHub(hf_token),
            output_dir=output_dir,
            upload=upload,
            options=options,
            progress=progress,
        )
        self._say = say
        self._raise = raise_errors

    def get_model_list(self) -> list[str]:
        """The ten published models, TKY first."""
        return [*layout.TKY_MODELS, *layout.NYC_MODELS]

    def get_nyc_models(self) -> list[str]:
        """Those trained on New York."""
        return [model for model in self.get_model_list() if "nyc" in model.lower()]

    def get_tky_models(self) -> list[str]:
        """Those trained on Tokyo."""
        return [model for model in self.get_model_list() if "tky" in model.lower()]

    def process_models(self, model_list: Iterable[str] | None = None) -> list[ModelResult]:
        """Process some models, all of the list where none are named; a result each, in their order."""
        models = self.get_model_list() if model_list is None else list(model_list)
        if self.processor.upload:
            try:
                check_token(self.processor.hub)
            except MissingTokenError as error:
                if self._raise:
                    raise
                self._say(str(error))
                return []
        return [self._process(model, f"[{number}/{len(models)}] ") for number, model in enumerate(models, 1)]

    def process_single_model(self, model_name: str) -> ModelResult | None:
        """Process one model, as a test of all of it; None where there is no token and one is needed."""
        return next(iter(self.process_models([model_name])), None)

    def _process(self, model: str, number: str) -> ModelResult:
        self._say(f"{number}{model}")
        try:
            result = self.processor.process_model(model)
        except Exception as error:  # whatever it is, the next model may well work
            if self._raise:
                raise
            log.debug("model %s", model, exc_info=True)
            text = str(error) if isinstance(error, BatchError) else f"{type(error).__name__}: {error}"
            self._say(f"{model}: {text}")
            return ModelResult(model, error=text, exception=error)
        assert result.report is not None
        c = result.report.collisions
        self._say(f"{model}: {c.items:,} items, {c.unique:,} unique SIDs, {c.collided_items:,} items share one")
        for place in result.uploaded or map(str, result.files):
            self._say(f"{model}: {place}")
        return result
