"""Model files in every layout that is about, and what is told of those that cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from rq_models import Published, one_hot

from batch.semantic_ids.checkpoint import load_rqvae, save_rqvae
from batch.semantic_ids.encode import Encoder
from batch.semantic_ids.errors import SemanticIdError

pytestmark = pytest.mark.model

LAYOUTS = [
    {"batch_norm": norm, "dropout": dropout, "ema": ema}
    for norm in (True, False)
    for dropout in (True, False)
    for ema in (True, False)
]


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("kinds", LAYOUTS, ids=lambda k: "-".join(name for name, on in k.items() if on) or "bare")
def test_layers_are_found_however_they_are_numbered(kinds: dict[str, bool], tmp_path: Path) -> None:
    published = Published(seed=3, **kinds)
    model = load_rqvae(saved(tmp_path / "m.pt", {"model_state_dict": published.state_dict(), "loss": 0.5}))
    assert (model.input_dim, model.vector_dim, model.levels, model.codewords) == (40, 8, 3, 16)
    assert model.layout.hidden == (32, 16, 8)
    assert {name: getattr(model.layout, name) for name in kinds} == kinds
    assert not model.training
    features = one_hot(100, 40)
    with torch.no_grad():
        expected = published.run(published.encoder, torch.from_numpy(features))
        decoded = published.run(published.decoder, expected)
        passed = model.decoder(model.encoder(torch.from_numpy(features)))
    torch.testing.assert_close(torch.from_numpy(Encoder(model).latent(features)), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(passed, decoded, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("hidden", [(), (24,), (32, 20), (32, 24, 16, 12)])
def test_any_number_of_layers(hidden: tuple[int, ...], tmp_path: Path) -> None:
    published = Published(hidden=hidden, levels=4, codewords=7)
    model = load_rqvae(saved(tmp_path / "m.pt", published.state_dict()))
    assert model.layout.hidden == hidden
    assert (model.levels, model.codewords) == (4, 7)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model_state_dict": s, "epoch": 1}]
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_weights_are_found_however_they_are_wrapped(wrap: Any, prefix: str, tmp_path: Path) -> None:
    state = {prefix + name: value for name, value in Published().state_dict().items()}
    assert load_rqvae(saved(tmp_path / "m.pt", wrap(state))).input_dim == 40


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_what_is_saved_loads_as_it_was(name: str, tmp_path: Path) -> None:
    model = load_rqvae(saved(tmp_path / "first.pt", Published(ema=True, dropout=True).state_dict()))
    save_rqvae(model, tmp_path / name)
    again = load_rqvae(tmp_path / name)
    assert again.layout == model.layout
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_said_to_be(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    save_rqvae(load_rqvae(saved(tmp_path / "whole.pt", Published().state_dict())), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SemanticIdError, match=rf"{name} .*(cut off|damaged)"):
        load_rqvae(path)


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04 not really", b"\x80\x02}q\x00.", bytes(range(256)) * 20])
def test_other_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("m.pt", "m.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SemanticIdError, match=name):
            load_rqvae(tmp_path / name)


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil-was-here"),))


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "m.pt", {"model_state_dict": Published().state_dict(), "more": Evil()})
    (tmp_path / "n.pt").write_bytes(pickle.dumps(Evil()))
    for name, told in (("m.pt", "Python objects"), ("n.pt", "not a file that torch.save wrote")):
        with pytest.raises(SemanticIdError, match=told):
            load_rqvae(tmp_path / name)
    assert not (tmp_path / "evil-was-here").exists()


def changed(**changes: Any) -> dict[str, Any]:
    """A state dict with some entries replaced, or taken out (None)."""
    state = {**Published().state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, "has no encoder.proj.weight"),
        ([1, 2], "no state dict"),
        ({"epoch": 3}, "no state dict"),
        ({"fc.weight": torch.zeros(3, 3)}, "has no encoder.proj.weight"),
        (changed(quantizer__quantizers__1__vectors__weight=None), r"has no quantizer.quantizers.2|has no quantizer"),
        (changed(decoder__proj__bias=None), "decoder.proj.bias is missing"),
        (changed(encoder__extra=torch.zeros(1)), "does not have: encoder.extra"),
        (changed(encoder__proj__weight=torch.zeros(8)), r"encoder.proj.weight has the shape \[8\]"),
        (changed(encoder__proj__bias=torch.zeros(9)), r"encoder.proj.bias has the shape \[9\] instead of \[8\]"),
        (changed(encoder__proj__bias=torch.full((8,), torch.nan)), "encoder.proj.bias holds NaN"),
        (changed(quantizer__quantizers__1__vectors__weight=torch.zeros(9, 8)), "different sizes"),
    ],
)
def test_a_model_of_another_kind_is_told_in_a_sentence(state: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(SemanticIdError, match=told) as raised:
        load_rqvae(saved(tmp_path / "m.pt", state))
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_a_folder_is_told(tmp_path: Path) -> None:
    for name in ("none.pt", "none.safetensors"):
        with pytest.raises(SemanticIdError, match="does not exist"):
            load_rqvae(tmp_path / name)
    with pytest.raises(SemanticIdError, match="cannot be read"):
        load_rqvae(tmp_path)
