"""Model names: what `rqvae-tky-div0.25-commit0.25-lr5e-5` says of its training."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from batch.semantic_ids.errors import SemanticIdError

_DIV = re.compile(r"div(\d+\.?\d*)")
_COMMIT = re.compile(r"commit(\d+\.?\d*)")
_LR = re.compile(r"lr(\d+)e-(\d+)")

DATASETS = ("NYC_Exploration", "TKY_Exploration", "NYC", "TKY")  # a longer name before the one it begins with
DIV, COMMIT, NEW_COMMIT, LR = 0.25, 0.5, 0.25, 5e-5


class UnknownDatasetError(SemanticIdError, ValueError):
    """A model's name says of no known dataset that it was trained on it."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a model's name says; what it leaves out has the value that its generation trained with."""

    dataset_name: str
    div_weight: float
    commitment_weight: float
    lr: float
    quant_weight: float
    run_name: str
    recon_weight: float = 1.0
    use_kl_divergence: bool = False

    @property
    def output_name(self) -> str:
        """The name of the file of codebooks: `codebooks-rqvae-nyc-….csv`."""
        return f"codebooks-{self.run_name}.csv"


class ModelConfigParser:
    """Reads model names of both generations: `rqvae-nyc-…-without_L_quant` and `Nrqvae-NYC_Exploration-…-withkl`."""

    @staticmethod
    def parse(model_name: str) -> ModelConfig:
        """The configuration in a model id, a bare name or a folder's path; UnknownDatasetError (a ValueError)."""
        name = model_name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        lower = name.lower()
        dataset = next((known for known in DATASETS if known.lower() in lower), None)
        if dataset is None:
            raise UnknownDatasetError(
                f"Cannot determine dataset from model name: {name or model_name!r}; "
                "it must hold nyc or tky, as rqvae-nyc-div0.25-commit0.5-lr5e-5 does"
            )
        div, commit, lr = _DIV.search(lower), _COMMIT.search(lower), _LR.search(lower)
        new = lower.startswith("nrqvae")
        return ModelConfig(
            dataset_name=dataset,
            div_weight=float(div[1]) if div else DIV,
            commitment_weight=float(commit[1]) if commit else NEW_COMMIT if new else COMMIT,
            lr=float(f"{lr[1]}e-{lr[2]}") if lr else LR,
            quant_weight=0.0 if "without_l_quant" in lower else 1.0,
            run_name=name,
            recon_weight=0.0 if "without_l_reconstruction" in lower else 1.0,
            use_kl_divergence="withkl" in lower,
        )

    @staticmethod
    def parse_model_name(model_name: str) -> dict[str, Any]:
        """The same as a dict: dataset_name, div_weight, commitment_weight, lr, quant_weight, run_name and, of newer
        names, recon_weight, use_kl_divergence. Raises ValueError where no dataset is named."""
        return asdict(ModelConfigParser.parse(model_name))
