"""Bodies written from a form are those that the wire writes: whatever the text, the options and the server."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engines.forms import TEXT
from batch.engines.http.bodies import Bodies
from batch.engines.http.server import Server
from batch.engines.http.wires import WIRES
from batch.items import Request
from batch.options import SamplingOptions

SYSTEMS = st.sampled_from([None, "Be short.", 'a "quoted" \\ system\n', TEXT])


@pytest.mark.parametrize("wire", WIRES)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.just(TEXT), SYSTEMS, st.booleans(), st.integers(0, 3))
def test_a_form_is_the_body(wire: str, text: str, system: str | None, streamed: bool, more: int) -> None:
    server = Server("m", ("http://127.0.0.1/v1",), wire=wire, body={"user": "u"} if more & 1 else {})  # type: ignore[arg-type]
    options = SamplingOptions(
        system=system, temperature=0.5, top_k=7, json_schema={"type": "object"} if more & 2 else None
    )
    bodies = Bodies(server, WIRES[wire](), options)
    written = [bodies.of(Request(said), options, streamed=streamed) for said in ("first", text)]
    for said, body in zip(("first", text), written, strict=True):
        plain = WIRES[wire]().body(server, Request(said), options, lambda name: None) | dict(server.body)
        assert body == orjson.dumps(WIRES[wire]().streamed(server, plain) if streamed else plain)


def test_an_option_refused_is_in_no_later_body() -> None:
    server = Server("m", ("http://127.0.0.1/v1",), repetition_name="repeat_penalty")
    options = SamplingOptions(repetition_penalty=1.5)
    bodies = Bodies(server, WIRES["chat"](), options)
    assert b"repeat_penalty" in bodies.of(Request("x"), options, streamed=False)
    assert b"stream_options" in bodies.of(Request("x"), options, streamed=True)
    assert bodies.drop("repeat_penalty") and bodies.drop("stream_options") and not bodies.drop("repeat_penalty")
    assert not bodies.drop("messages")
    for streamed in (False, True):
        body = bodies.of(Request("x"), options, streamed=streamed)
        assert b"repeat_penalty" not in body and b"stream_options" not in body
        assert body == bodies.of(Request("x", {"custom_id": "a"}), options, streamed=streamed)
    assert sorted(bodies.left_out) == ["repetition_penalty", "stream_options"]
