"""`models.yaml` and odd neighbours: each mistake is named with its line and spoils only its own entry."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ai_router.models import Registry, describe
from ai_router.models.discovery import folders
from ai_router.models.entries import COMMON, json_schema, read_entries
from ai_router.models.fingerprint import changed, fingerprint
from ai_router.models.spec import NoFolderError
from ai_router.settings import Settings, SettingsError, Workspace
from batch.engines import registry as engines
from batch.engines.local.folder import read_config
from batch.engines.local.worker import find_core
from batch.engines.places import FORMS, form_of
from batch.errors import FatalError
from batch.options import OptionError, RunOptions, build_options

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AI_ROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def model(folder: Path, config: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"architectures": ["GPT2LMHeadModel"]}) if config is None else config
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    header = b'{"w":{"dtype":"F32","shape":[10,20],"data_offsets":[0,800]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(800))
    return folder


def entries(tmp_path: Path, text: str) -> dict[str, Any]:
    model(tmp_path / "good")
    file = tmp_path / "models.yaml"
    file.write_text(text)
    return {spec.id: spec for spec in read_entries(file)}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{pth: good}", "line 4: there is no path: unknown key pth (did you mean path?)"),
        ("{}", "line 4: there is no path: name the model's folder or file"),
        ("[good]", "line 4: odd must hold keys and values, such as path: FOLDER"),
        ("good", "line 4: odd must hold keys and values, such as path: FOLDER"),
        ("\n    path: good\n    precison: int8", "line 6: unknown key precison (did you mean precision?)"),
        ("\n    path: good\n    precision: int9", "line 6: precision: 'int9' is none of auto, fp32"),
        ("\n    path: good\n    cache_gb: big", "line 6: cache_gb: 'big' is not a number"),
        ("\n    path: good\n    cache_gb: -1", "line 6: cache_gb: -1 is below the least allowed"),
        ("\n    path: good\n    share_prefixes: 3", "line 6: share_prefixes: '3' is not true or false"),
        ("\n    path: good\n    context: 0", "line 6: context: 0 is below the least allowed, 1"),
        ("\n    path: good\n    engine: torhc", "line 6: unknown engine 'torhc'; did you mean torch?"),
        ("\n    path: good\n    engine: mlx\n    device: cpu", "line 7: device is nothing the mlx engine can be told"),
        ("\n    path: good\n    engine: server\n    model: x", "a model's folder; the server engine does not run it"),
        ("\n    url: http://x/v1\n    engine: server", "line 4: the server engine needs model, which the entry does"),
        ("\n    engine: server\n    model: x", "line 5: "),
        ("\n    path: good\n    url: http://x", "line 6: path and url are both given"),
        ("\n    path: http://x/v1", "line 5: http://x/v1 is an address: give it as url"),
        ("\n    path: [a]", "line 5: path: a list, where one text is meant"),
        ("\n    path: good\n    sampling: 3", "line 6: sampling must hold keys and values"),
        ("\n    path: good\n    sampling:\n      tempreature: 1", "(did you mean sampling.temperature?)"),
        ("\n    path: good\n    sampling:\n      top_p: 3", "line 7: top-p: 3.0 is above"),
        ("{path: ~nouser/x}", "no such folder: "),
        ("{path: nowhere/x.gguf}", "no such file: "),
        ('{path: "a\\0b"}', "no such folder: "),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_spoils_only_its_entry(tmp_path: Path, entry: str, says: str) -> None:
    made = entries(tmp_path, f"models:\n  1.10:\n    path: good\n  odd: {entry}\n  last: {{path: good, name: no}}\n")
    assert list(made) == ["1.10", "odd", "last"]
    assert made["1.10"].ready and made["last"].ready and made["last"].name == "no"
    assert not made["odd"].ready and says in made["odd"].why
    assert "\n" not in made["odd"].why


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("\n    path: good\n    path: good", "line 6, column 5: the key 'path' stands here for the second time"),
        (" {path: good", "line"),
        (" [", "line"),
        ("\n    path: 'good", "line"),
        ("\n    path: good\n   name: x", "line 6"),
        ("\n    path: good: bad", "line 5"),
        (" !!python/object:os.system {}", "line 4"),
        (" *nobody", "line 4, column 8: there is no anchor &nobody"),
        ("\n\tpath: good", "line"),
        (" {path: good}\n  1.10: {path: good}", "line 5, column 3: the key '1.10' stands here for the second time"),
    ],
)
def test_what_is_no_yaml_spoils_only_its_entry(tmp_path: Path, entry: str, says: str) -> None:
    text = (
        f"# mine\nmodels:\n  1.10: &one {{path: good}}\n  odd:{entry}\n  last: {{<<: *one, name: no}}\n\nroutes: []\n"
    )
    made = entries(tmp_path, text)
    wrong = [spec for spec in made.values() if not spec.ready]
    assert made["1.10"].ready and made["last"].ready and made["last"].name == "no"
    assert len(wrong) == 1 and says in wrong[0].why and "\n" not in wrong[0].why
    assert ("odd" in made) is (wrong[0].id != "1.10")


def test_a_section_that_is_wrong_leaves_the_models(tmp_path: Path) -> None:
    from ai_router.routing.rules import RouteError, read_routes

    for text, says in {
        "modles: {}\nmodels:\n  m: {path: good}\n": "line 1: unknown key modles (did you mean models?)",
        "models:\n  m: {path: good}\nroutes: [\n": "models.yaml, line",
    }.items():
        with pytest.raises(SettingsError, match="Cannot read"):
            entries(tmp_path, text)
        registry = Registry(Workspace(tmp_path, Settings()))
        assert registry.get("m").ready and says in registry.skipped[0]
    with pytest.raises(RouteError, match="line"):
        read_routes(tmp_path / "models.yaml", registry)
    (tmp_path / "models.yaml").write_text("models:\n  odd: [\n  m: {path: good}\nroutes:\n- use: m\n")
    registry = Registry(Workspace(tmp_path, Settings()))
    assert [route.use for route in read_routes(tmp_path / "models.yaml", registry)] and not registry.skipped


@FAST
@given(st.text(alphabet="ab:{}[]'\"#&*!|>- \n\t%@,?", max_size=30))
def test_whatever_stands_in_an_entry_the_others_are_read(tmp_path: Path, odd: str) -> None:
    odd = odd.replace("\n", "\n    ").replace("\r", "")
    try:
        made = entries(tmp_path, f"models:\n  first: {{path: good}}\n  odd: {odd}\n  last: {{path: good}}\n")
    except SettingsError:  # a quote may run to the end, over all that follows it
        return
    assert made["first"].ready
    assert made.get("last") is None or made["last"].ready


def test_a_good_entry(tmp_path: Path) -> None:
    said = "precision: int8, cache_gb: 2, context: 99, sampling: {temperature: 1e-1, stop: [no]}"
    text = f"models: {{m: {{path: good, {said}}}}}"
    spec = entries(tmp_path, text)["m"]
    assert (spec.engine_options, spec.context) == ({"precision": "int8", "cache_gb": 2}, 99)
    assert spec.sampling == {"temperature": 0.1, "stop": ["no"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [", "models.yaml, line"),
        ("- a", "models.yaml must hold keys and values, not a list"),
        ("models: [a]", "models.yaml, models must hold keys and values, not a list"),
        ("modles: {}", "models.yaml, line 1: unknown key modles (did you mean models?)"),
    ],
)
def test_a_file_that_says_nothing(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        entries(tmp_path, text)
    assert says in str(caught.value)
    registry = Registry(Workspace(tmp_path, Settings()))
    assert registry.all()[0].id == "demo" and says in registry.skipped[0]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["good", "torch", "int8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*COMMON, *engines.option_names()]) | st.text(max_size=6)


@FAST
@given(st.dictionaries(st.text(max_size=5), st.dictionaries(KEYS, VALUES, max_size=5) | VALUES, max_size=3))
def test_whatever_an_entry_says_it_is_a_model_or_a_sentence(tmp_path: Path, models: dict[str, Any]) -> None:
    made = entries(tmp_path, json.dumps({"models": models}))
    assert list(made) == list(models)
    assert all(spec.ready or spec.why for spec in made.values())


HEADERS = [
    b"", b"\0" * 7, struct.pack("<Q", 2**63), struct.pack("<Q", 5) + b"[[[[[",
    struct.pack("<Q", 200_000) + b"[" * 200_000,
    struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 7) + b'{"a":3}',
    *(struct.pack("<Q", len(h)) + h for h in (
        b'{"a":{"shape":[9999999999999999999999]}}', b'{"a":{"shape":["x"]}}',
        b'{"a":{"shape":[' + b"1," * 99 + b"1]}}",
        b'{"a":{"shape":[-1]}}', b'{"a":{"shape":[1e308]}}', b'{"a":{"shape":[true]}}',
    )),
]  # fmt: skip
CONFIGS = [
    b'{"architectures":[1]}', b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"[]", b"null",
    b'{"architectures":{"a":1}}',
    b'{"architectures":"GPT2LMHeadModel"}', b'{"max_position_embeddings":"x","architectures":["XForCausalLM"]}',
    b'{"max_position_embeddings":1e400,"architectures":["XForCausalLM"]}', b'{"n_positions":' + b"9" * 5000 + b"}", b"",
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_one_odd_neighbour_does_not_block_the_others(tmp_path: Path, config: bytes) -> None:
    model(tmp_path / "models" / "odd", config)
    model(tmp_path / "models" / "fine")
    models = {spec.id: spec for spec in Registry(Workspace(tmp_path, Settings())).all()}
    assert models["demo"].id and models["fine"].parameters == 200
    assert models["odd"].ready or str(tmp_path) in models["odd"].why or "architectures" in models["odd"].why


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_models_keeps_nobody_waiting(tmp_path: Path) -> None:
    model(tmp_path / "models" / "a pipe")
    (tmp_path / "models" / "a pipe" / "config.json").unlink()
    model(tmp_path / "models" / "piped weights")
    (tmp_path / "models" / "piped weights" / "model.safetensors").unlink()
    model(tmp_path / "models" / "fine")
    os.mkfifo(tmp_path / "models" / "a pipe" / "config.json")
    os.mkfifo(tmp_path / "models" / "piped weights" / "model.safetensors")
    registry = Registry(Workspace(tmp_path, Settings()))
    models = {spec.id: spec for spec in registry.all()}
    assert not registry.skipped and models["fine"].parameters == 200
    assert "regular file" in models["a pipe"].why and models["piped weights"].parameters is None
    with pytest.raises(FatalError, match="regular file"):
        read_config(tmp_path / "models" / "a pipe", ("*.safetensors",), "")


@pytest.mark.parametrize("header", HEADERS)
def test_odd_headers(tmp_path: Path, header: bytes) -> None:
    folder = model(tmp_path / "odd")
    (folder / "model.safetensors").write_bytes(header)
    spec = describe(folder, source="found")
    assert spec.parameters is None or spec.parameters < 2**62
    if header in HEADERS[:6]:  # no header of safetensors at all
        assert not spec.ready and "no weights that can be read" in spec.why


@FAST
@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b'{"architectures": ["XForCausalLM"], "n_positions": -1}', b"")
def test_any_bytes_are_a_model_or_a_sentence(tmp_path: Path, config: bytes, header: bytes) -> None:
    folder = model(tmp_path / "odd", config)
    (folder / "model.safetensors").write_bytes(header)
    spec = describe(folder, source="found")
    assert spec.ready or spec.why


def test_a_finder_at_fault_takes_no_model_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(workspace: Workspace) -> list[Any]:
        raise RuntimeError("no home")

    monkeypatch.setattr("ai_router.models.discovery.FINDERS", (("a place", broken), ("the folder", folders.find)))
    model(tmp_path / "models" / "fine")
    registry = Registry(Workspace(tmp_path, Settings()))
    assert {"demo", "fine"} <= {spec.id for spec in registry.all()}
    assert registry.skipped == ["a place cannot be read: RuntimeError: no home"]


def gguf(path: Path, architecture: bytes) -> Path:
    key = b"general.architecture"
    path.write_bytes(
        struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(key))
        + key
        + struct.pack("<IQ", 8, len(architecture))
        + architecture
    )
    return path


def test_what_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    folder = model(tmp_path / "base")
    adapter = tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (tmp_path / "notes.gguf").write_text("no model")
    inside = tmp_path / "quantised"
    inside.mkdir()
    gguf(inside / "m.gguf", b"llama")
    gguf(inside / "vision.gguf", b"clip")
    said = {
        gguf(tmp_path / "m.gguf", b"llama"): "a GGUF file",
        gguf(tmp_path / "v.gguf", b"clip"): "a projector (mmproj), which turns pictures into tokens",
        gguf(tmp_path / "mmproj-v.gguf", b"llama"): "a projector (mmproj)",
        folder / "model.safetensors": f"a file of weights, and a model is its whole folder: name {folder}",
        adapter: "a LoRA adapter, made for org/base, and no model: ai-router models add BASE --adapter",
        tmp_path / "notes.gguf": "neither a folder with a config.json nor a GGUF file",
        inside: f"holds a GGUF file, and no config.json: name the file itself, {inside / 'm.gguf'}",
    }
    registry = Registry(Workspace(tmp_path / "work", Settings()))
    for place, text in said.items():
        spec = registry.get(str(place))
        takes_gguf = bool(engines.takers("gguf")) and form_of(place) == "gguf"
        assert takes_gguf or (not spec.ready and text in spec.why), (place, spec.why)
    (folder / "model.safetensors").unlink()
    assert "no weights" in registry.get(str(folder)).why


def test_a_gguf_file_on_an_engine_that_does_not_take_it(tmp_path: Path) -> None:
    spec = describe(gguf(tmp_path / "m.gguf", b"llama"), engine="torch", source="found")
    row = engines.find("torch")
    assert "gguf" in row.forms or (not spec.ready and "a GGUF file" in spec.why)


def test_a_folder_quantised_by_mlx_names_its_engine(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "quantization": {"group_size": 64, "bits": 4}}
    folder = model(tmp_path / "m", json.dumps(config))
    spec = describe(folder, engine="torch", source="found")
    assert not spec.ready and "engine: mlx runs it" in spec.why


# -- the table of engines -----------------------------------------------------------------------------------------


def test_every_row_of_the_table_is_whole() -> None:
    for row in engines.rows():
        assert row.name in engines.TABLE and row.where in ("local", "server", "provider", "cluster")
        assert bool(row.core) != bool(row.factory) and row.describes
        # What a cluster runs is another engine's, which says so with --cluster and not with `engine`.
        assert bool(row.forms) != (row.where == "cluster")
        assert set(row.forms) <= set(FORMS) and set(row.needs) <= {*COMMON, *row.options}
    with pytest.raises(FatalError, match="unknown engine 'torhc'; did you mean torch"):
        find_core("torhc")
    with pytest.raises(FatalError, match="is no local one"):
        find_core("server")


def test_a_server_has_no_folder() -> None:
    spec = describe("http://127.0.0.1:1/v1", engine="server", source="models.yaml", engine_options={"model": "x"})
    assert spec.is_remote
    with pytest.raises(NoFolderError, match="has no folder here"):
        _ = spec.path


def test_the_schema_knows_what_the_reader_knows() -> None:
    schema = json_schema()
    entry = schema["properties"]["models"]["additionalProperties"]["anyOf"][0]
    assert set(entry["properties"]) == {*COMMON, *engines.option_names()}
    assert json.loads(json.dumps(schema)) == schema


def test_what_the_reader_refuses_an_editor_underlines(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    model(tmp_path / "good")
    said: dict[str, tuple[dict[str, Any], bool]] = {
        "plain": ({"path": "good", "sampling": {"temperature": 0.5, "stop": ["x"]}}, True),
        "server": ({"url": "http://127.0.0.1:1/v1", "model": "m"}, True),
        "key": ({"path": "good", "percision": "int8"}, False),
        "engine": ({"path": "good", "engine": "trch"}, False),
        "sampling": ({"path": "good", "sampling": {"temprature": 1}}, False),
        "range": ({"path": "good", "sampling": {"temperature": 9}}, False),
        "nothing": ({"notes": "x"}, False),
        "both": ({"path": "good", "url": "http://127.0.0.1:1/v1"}, False),
        "address": ({"path": "http://127.0.0.1:1/v1"}, False),
        "context": ({"path": "good", "context": -3}, False),
        "choice": ({"path": "good", "engine": "torch", "precision": "int9"}, False),
    }
    found = entries(tmp_path, json.dumps({"models": {name: entry for name, (entry, _) in said.items()}}))
    checker = jsonschema.Draft202012Validator(json_schema())
    for name, (entry, right) in said.items():
        assert ("models.yaml, line" not in found[name].why) is right, name
        assert checker.is_valid({"models": {name: entry}}) is right, name


# -- options ------------------------------------------------------------------------------------------------------


def test_auto_and_never_can_be_said_against_models_yaml(tmp_path: Path) -> None:
    spec = entries(tmp_path, "models: {m: {path: good, precision: int8, truncate: left}}")["m"]
    assert spec.configured(RunOptions()).engine_options == {"precision": "int8", "truncate": "left"}
    said = build_options(RunOptions, {"precision": "auto", "truncate": "never"})
    assert spec.configured(said).engine_options == {"precision": "auto", "truncate": "never"}


def test_a_bad_option_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="workers"):
        build_options(RunOptions, {"workers": 0})
    assert issubclass(OptionError, ValueError)


# -- fingerprints -------------------------------------------------------------------------------------------------


def test_a_fingerprint_tells_other_weights_from_the_same(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    spec = describe(folder, source="found")
    before = json.loads(json.dumps(fingerprint(spec)))
    assert changed(before, fingerprint(spec)) == ""
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data)  # touched, or copied
    assert changed(before, fingerprint(spec)) == ""
    weights.write_bytes(data[:-1] + b"\x01")  # trained on: same names, sizes and header
    assert changed(before, fingerprint(spec)) == "changed: model.safetensors"
    weights.write_bytes(data)
    (folder / "chat_template.jinja").write_text("x")
    assert changed(before, fingerprint(spec)) == "new: chat_template.jinja"
    (folder / "chat_template.jinja").unlink()
    weights.unlink()
    assert changed(before, fingerprint(spec)) == "gone: model.safetensors"


def test_large_weights_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_router.models.fingerprint._WHOLE", 1000)
    monkeypatch.setattr("ai_router.models.fingerprint._HEADER", 2000)
    monkeypatch.setattr("ai_router.models.fingerprint._SAMPLE", 500)
    folder = model(tmp_path / "m")
    weights = folder / "model.safetensors"
    data = bytes(100_000)
    weights.write_bytes(data)
    spec = describe(folder, source="found")
    before = fingerprint(spec)
    for at in (0, 1999, 2000, 50_000, 99_999):  # in the header, in samples, at the end
        weights.write_bytes(data[:at] + b"\x01" * min(1500, len(data) - at) + data[at + 1500 :])
        assert changed(before, fingerprint(spec)) == "changed: model.safetensors", at


@pytest.mark.parametrize("before", [{}, {"files": 3}, {"files": {"a": 1}}, {"files": {"a": [1, 2]}}, {"adapter": []}])
def test_an_odd_fingerprint_is_no_fault(tmp_path: Path, before: dict[str, Any]) -> None:
    assert "new: " in changed(before, fingerprint(describe(model(tmp_path / "m"), source="found")))
