"""What can be wrong with a server, an address or a key: one sentence, the right class, and no secret anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from batch.engines.http.probe import models_of
from batch.engines.http.row import make, server_of
from batch.errors import ErrorClass, FatalError
from batch.options import RunOptions, SamplingOptions
from batch.processor import BatchProcessor
from batch.running.run import Run
from tests.engines.http.asking import asked
from tests.servers.certificates import self_signed
from tests.servers.chat_server import completion, serving

SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"url": "localhost:8080/v1", "model": "m"}, "did you mean http://localhost:8080/v1"),
        ({"url": "http://h:99999/v1", "model": "m"}, "is no address"),
        ({"url": "http://127.0.0.1/v1"}, "needs its name"),
        ({"provider": "opneai", "model": "m"}, "did you mean openai"),
        ({"model": "m"}, "no address of a server"),
        ({"provider": "azure", "model": "m"}, "no address of a server"),
        ({"url": "http://127.0.0.1/v1", "model": "m", "price": "no-such-model"}, "nothing is known of"),
    ],
)
def test_an_entry_that_cannot_be(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(FatalError, match=text) as error:
        server_of(spec)
    assert "\n" not in str(error.value)


async def test_tls_where_there_is_none() -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("x"))

    async with serving(answer) as url:
        with pytest.raises(FatalError, match=r"no TLS with 127\.0\.0\.1"):
            await asked({"url": url.replace("http:", "https:"), "model": "m"}, ["x"])


async def test_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    """Is refused in a sentence, and taken where the entry names it."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("x"))

    file, tls = self_signed(tmp_path)
    async with serving(answer, tls=tls) as url:
        with pytest.raises(FatalError, match=r"the certificate of 127\.0\.0\.1 is not trusted: ") as error:
            await asked({"url": url, "model": "m"}, ["x"])
        got, _ = await asked({"url": url, "model": "m", "ca_file": str(file)}, ["x"])
    assert "\n" not in str(error.value)
    assert got[0].data is not None and got[0].data.text == "x"


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    job = BatchProcessor(tmp_path).create_job("m", ["x"])
    engine = make({"url": "https://h/v1", "model": "m", "ca_file": str(file)}, SamplingOptions(), workers=1, timeout=1)
    run = Run(job, engine)
    run.execute()
    assert isinstance(run.error, FatalError) and "cannot be read" in str(run.error)
    assert job.processed == 0


@pytest.mark.parametrize(("text", "failed"), [("half an answer", False), ("", True), ("  \n", True)])
async def test_an_answer_that_ends_at_its_length(text: str, failed: bool) -> None:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(text, finish="length"))

    async with serving(answer) as url:
        got, _ = await asked({"url": url, "model": "m", "stream": False}, ["x"])
    if failed:
        assert got[0].error is not None and got[0].error.error_class is ErrorClass.PERMANENT
        assert "max_tokens" in got[0].error.message
    else:
        assert got[0].data is not None and got[0].data.extra == {"finish_reason": "length"}


@pytest.mark.parametrize("status", [400, 401, 429, 500, 200])
def test_a_key_that_a_server_repeats_is_nowhere(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    monkeypatch.setattr("batch.engines.http.engine.MOST_REFUSALS", 1)

    async def tell(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        said = {"error": {"message": f"wrong: {request.headers['Authorization']}"}}
        return web.json_response(said, status=status, headers={"Retry-After": "0"})

    async def main() -> str:
        async with serving(tell) as url:
            job = BatchProcessor(tmp_path).create_job("m", ["x"])
            spec = {"url": url, "model": "m", "api_key_env": "SOME_KEY"}
            run = Run(job, make(spec, SamplingOptions(), workers=1, timeout=5), RunOptions(retries=0))
            run.start()
            await asyncio.to_thread(run.wait, 20)
            return repr(run.error) + repr(run.snapshot())

    with caplog.at_level("DEBUG"):
        shown = asyncio.run(main())
    assert SECRET not in shown and SECRET not in caplog.text
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    assert status == 429 or "[the key]" in shown


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (web.Response(text="<html><title>Hi</title></html>", content_type="text/html"), "a web page"),
        (web.Response(text=""), "nothing"),
        (web.Response(status=401, text='{"error": "no key"}'), "refuses the key"),
        (web.Response(status=302, headers={"Location": "http://example.org/"}), "does not list its models .302."),
    ],
)
async def test_a_server_that_does_not_say_what_it_has(answer: web.Response, text: str) -> None:
    async def listed(_: web.Request) -> web.StreamResponse:
        return answer

    app = web.Application()
    app.router.add_get("/v1/models", listed)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(FatalError, match=text):
            await asyncio.to_thread(models_of, f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    finally:
        await runner.cleanup()
