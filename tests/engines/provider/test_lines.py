"""A batch's lines written from a form are those that the page writes."""

from __future__ import annotations

import orjson
import pytest
from engines.provider.making import PROVIDERS, engine_for
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.batches import Batches

from batch.engines.forms import NAME, TEXT
from batch.engines.provider.base import Limits
from batch.engines.provider.shard import Shard
from batch.items import Request
from batch.options import SamplingOptions


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_form_is_the_line(name: str, batches: Batches, vertex: None) -> None:
    page = engine_for(name, "http://127.0.0.1:9")._line.page

    @settings(max_examples=30)
    @given(
        st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([TEXT, NAME]),
        st.sampled_from([None, "Be short.", TEXT, NAME]),
    )
    def check(text: str, system: str | None) -> None:
        options = SamplingOptions(system=system, temperature=0.5)
        shard = Shard("key", Limits(9, 1 << 20))
        for said in ("first", text):
            known = shard.plain_line(said)
            line = shard.begin(page, Request(said), options, lambda name: None)
            plain = page.line(shard.name(len(shard)), Request(said), options, lambda name: None)
            assert line == orjson.dumps(plain) + b"\n" and known in (None, line)
            assert shard.add(0, line)
        shard.close()

    check()
    page.close()
