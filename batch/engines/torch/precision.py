"""Which numbers a model computes in: by name, or by what the processor has and what a trial on the model says.

`auto` on a GPU is bf16. On a CPU it begins with fp32 and then, for models of 100 million parameters and more, takes the
first of these that a trial accepts: int8 (weights and activations) where the processor multiplies it in hardware
(VNNI, AMX), bf16 where it has that and the weights are stored so. A smaller model stays in fp32: it answers quickly
enough, and rounding costs it more. What `auto` gives up is said on the model's line (`notes` of the engine's `about`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from batch.engines.torch import bf16, experts, int4, linear
from batch.engines.torch.lean import panels, passing
from batch.engines.torch.lean.weights import Source
from batch.engines.torch.native import kernels
from batch.engines.torch.trial import agreement, divergence
from batch.errors import FatalError

LARGE = 100_000_000
NO_INT4 = f"precision int4: no layer of this model has a multiple of {int4.GROUP} inputs"
FEWER = ("bf16", "int8", "int4")  # bits than a CPU computes in by itself: what they cost is said
TRIAL_TOKENS, LEAST_TOKENS = 320, 64
MOST_DIVERGENCE = 0.01  # nats, the mean over the trial's tokens
MOST_PERPLEXITY = 1.01  # over that of fp32
# Of the likeliest next tokens: many of a text are nearly tied with another, and over 320 tokens the share has an error
# of more than a hundredth, so it only stops what is plainly wrong.
LEAST_AGREEMENT = 0.92
MOST_LEFT = 0.1  # of a model's weights that may stay as they were without a word
TRIAL = """\
A queue keeps things in the order in which they came: the first one in is the first one out. Most printers work this
way, and so do the people who wait for them. In 1962 the town had 4,318 inhabitants; by 1990 there were 12,750.
def area(width: float, height: float) -> float:
    return width * height
Q: What is the capital of France? A: Paris. 日本の首都は東京です。 Der Zug nach Köln fährt um 9:45 Uhr von Gleis 3 ab.
{"name": "Ada", "languages": ["en", "fr"], "active": true}
She closed the door quietly, put the letter back into its envelope and waited until the rain had stopped.
La bibliothèque municipale est ouverte du mardi au samedi, de dix heures à dix-huit heures; le prêt est gratuit.
SELECT name, COUNT(*) AS orders FROM customers JOIN orders USING (customer_id) GROUP BY name ORDER BY orders DESC;
To make bread, mix flour, water, salt and yeast, let the dough rest for an hour, shape it, and bake it at 230 °C until
the crust is brown. If the dough is too wet, add a spoon of flour; if it is too dry, add a little water.
El tren de las ocho llega con retraso, así que los viajeros esperan en el andén y hablan del tiempo.
"""


def check(precision: str, device: str) -> None:
    """Raise FatalError where this machine cannot compute in a precision."""
    if precision == "int8" and (device != "cpu" or not linear.has_int8()):
        raise FatalError(
            f"precision int8 needs a CPU with an int8 product (AVX-512 VNNI, or oneDNN's); this is {device}"
        )
    if precision == "int4" and (device != "cpu" or not int4.has_int4()):
        raise FatalError(f"precision int4 needs a CPU and a torch with its four-bit product; this is {device}")


def apply(model: Any, precision: str, device: str) -> None:
    """Put a fused model into the precision of that name; raises FatalError where this machine cannot."""
    check(precision, device)
    if precision == "int8":
        linear.quantise(model)
    elif precision == "bf16" and device == "cpu" and model.dtype == torch.float32:
        bf16.narrow(model)
    elif precision == "int4" and not int4.quantise(model):
        raise FatalError(NO_INT4)


def apply_told(model: Any, tokenizer: Any, precision: str, device: str) -> str:
    """`apply`, and what fewer bits cost beside the model as it was, measured as `settle` does; "" where there are none.

    Weights that came out of a file in int8 layer by layer, which spares the memory for fp32, have nothing to be
    compared with. Nor has a model that is bf16 as a whole: as it is on GPUs, and on CPUs without products for it.
    """
    if precision not in FEWER or device != "cpu" or model.dtype != torch.float32:
        apply(model, precision, device)
        if precision != "bf16" or device != "cpu":
            return ""
        return "bf16 as asked, not compared with fp32: all of it is in bf16, as this CPU has no products of it"
    ids = torch.tensor([trial_text(tokenizer)])
    if any(isinstance(module, linear.Int8Linear) for module in model.modules()):
        apply(model, precision, device)
        far = f"weights up to {getattr(model, 'rounding', 0.0):.2%} from the file's"
        return f"{precision} as asked, read in so few bits: {far} (root mean square), answers not compared with fp32"
    if ids.shape[1] < LEAST_TOKENS:
        apply(model, precision, device)
        return _unknown(precision)
    exact, whole = _logits(model, ids), weights(model)
    apply(model, precision, device)
    found = _logits(model, ids)
    said = _said(*compare(exact, found, ids[0]), divergence(exact, found))
    return f"{precision} as asked: {said}{left(model, whole, precision)}{bf16.company(model)}"


def weights(model: nn.Module) -> int:
    """Numbers that products are made with, as far as they are whole ones; tables of embeddings are looked up in."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)


def left(model: nn.Module, whole: int, precision: str) -> str:
    """What is to be said of weights that stay as they were, out of so many: modules that are not known here.

    And, in int4, of those that are in eight bits.
    """
    share, eight = weights(model) / max(whole, 1), int4.in_eight(model) / max(whole, 1) if precision == "int4" else 0.0
    said = f"; {share:.0%} of its weights stay in fp32" if share > MOST_LEFT else ""
    if eight > MOST_LEFT:
        said += f"; {eight:.0%} of its weights are in int8, as int4 takes multiples of {int4.GROUP} inputs"
    return said


def in_passing(source: Source, tokenizer: Any, precision: str, known: str) -> tuple[str, str] | None:
    """Read one of our own models and put it into a precision layer by layer; that, and what it costs.

    "auto" is int8, where that is worth trying and what is measured allows it; None where it is not, or not allowed,
    which leaves the source used up. With `known`, what an earlier trial said, nothing is measured.
    """
    wanted = precision
    if precision == "auto":
        if source.parameters < LARGE or not (_int8_in_hardware() and linear.has_int8()):
            return None
        wanted = "int8"
    if wanted not in FEWER:
        return None
    check(wanted, "cpu")
    ids = [] if known else trial_text(tokenizer)
    if len(ids) < LEAST_TOKENS and not known and precision == "auto":
        return None  # the tokenizer knows little of this; nothing can be said of the model
    kind = bf16.fastest() if wanted == "bf16" else None
    if known and kind is bf16.PairedLinear and (quick := kernels()) is not None:
        panels.fill(source, quick, 16)
        return wanted, known
    narrow: Callable[[nn.Module], int] = partial(bf16.narrow, kind=kind)
    how = {"int8": linear.quantise, "int4": int4.quantise, "bf16": narrow}[wanted]
    made: list[int] = []
    cost = passing.change(source, lambda part: made.append(how(part)), ids if len(ids) >= LEAST_TOKENS else None)
    if not any(made):
        raise FatalError(NO_INT4)
    if cost is None:
        return wanted, known or _unknown(wanted)
    said = _said(cost.same, cost.perplexity, cost.lost)
    table = source.model.get_input_embeddings()
    said += left(source.model, source.parameters - table.num_embeddings * table.embedding_dim, wanted)
    if precision != "auto":
        return wanted, f"{wanted} as asked: {said}{bf16.company(source.model)}"
    return (wanted, f"{wanted} by auto: {said}") if _allowed(cost.same, cost.perplexity, cost.lost) else None


def _unknown(precision: str) -> str:
    return f"{precision} as asked, not compared with fp32: the tokenizer knows too little of the trial's text"


def _said(same: float, perplexity: float, lost: float) -> str:
    return f"{same:.1%} of tokens as in fp32, perplexity ×{perplexity:.3f}, KL {lost:.4f}"


def _allowed(same: float, perplexity: float, lost: float) -> bool:
    return lost <= MOST_DIVERGENCE and perplexity <= MOST_PERPLEXITY and same >= LEAST_AGREEMENT


def settle(model: Any, tokenizer: Any, stored: str) -> tuple[str, str]:
    """Put a fused fp32 model on a CPU into the best precision for it; its name, and what it costs ("" where nothing).

    `stored` is the type its weights are stored in, as config.json names it.
    """
    if sum(p.numel() for p in model.parameters()) < LARGE:
        return "fp32", ""
    candidates: list[tuple[str, Callable[[], None], Callable[[], None]]] = []
    if _int8_in_hardware() and linear.has_int8():
        before = _Layers(model)
        candidates.append(("int8", lambda: _do(linear.quantise, model), before.restore))
    if bf16.has_bf16() and stored == "bfloat16":
        before = _Layers(model)
        candidates.append(("bf16", lambda: _do(bf16.narrow, model), before.restore))
    ids = torch.tensor([trial_text(tokenizer)]) if candidates else torch.empty(1, 0)
    if ids.shape[1] < LEAST_TOKENS:
        return "fp32", ""  # the tokenizer knows little of this; nothing can be said of the model
    exact, whole = _logits(model, ids), weights(model)
    refused: list[str] = []
    for name, change, undo in candidates:
        change()
        found = _logits(model, ids)
        same, perplexity = compare(exact, found, ids[0])
        lost = divergence(exact, found)
        said = _said(same, perplexity, lost) + left(model, whole, name) + bf16.company(model)
        if _allowed(same, perplexity, lost):
            return name, f"{name} by auto: {said}"
        refused.append(f"{name} not taken by auto: {said}")
        undo()
    return "fp32", "; ".join(refused)


def compare(exact: torch.Tensor, found: torch.Tensor, ids: torch.Tensor) -> tuple[float, float]:
    """The share of positions whose likeliest token is the same, and perplexity as a multiple of the exact one's.

    exact, found: [tokens, vocabulary]; ids: [tokens], which the logits at each position are to foretell the next of.
    """
    losses = [nn.functional.cross_entropy(x[:-1], ids[1:]) for x in (exact, found)]
    ratio = float((losses[1] - losses[0]).exp())
    return agreement(exact, found), ratio if ratio == ratio else float("inf")  # NaN is no precision to run in


class _Layers:
    """The linear layers and experts of a model as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._children = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if type(child) is nn.Linear or experts.is_split(child)
        ]
        self._fused = [(m._fused, m._fused.linear) for m in model.modules() if isinstance(m, linear.FusedPart)]

    def restore(self) -> None:
        for parent, name, child in self._children:
            setattr(parent, name, child)
        for holder, child in self._fused:
            holder.linear = child


def _do(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


def trial_text(tokenizer: Any) -> list[int]:
    """A real text in tokens, languages and code: what a loss is measured on at load."""
    ids: list[int] = tokenizer(TRIAL, add_special_tokens=True, verbose=False)["input_ids"][:TRIAL_TOKENS]
    return ids


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def _int8_in_hardware() -> bool:
    """VNNI, or AMX's int8."""
    features = (getattr(torch.cpu, name, None) for name in ("_is_vnni_supported", "_is_amx_tile_supported"))
    return any(feature is not None and feature() for feature in features)
