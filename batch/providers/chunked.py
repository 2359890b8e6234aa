"""The reference's other way: no batch API, but requests asked at once, some at a time, behind the same six steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from batch.engines.http.wire import ChatWire
from batch.engines.provider.base import Found, Limits, Lookup, Remote, Result, Settings
from batch.engines.provider.faults import Lost, Refused, asked
from batch.engines.provider.openai import OpenAIPage, openai_result
from batch.items import Request
from batch.options import SamplingOptions

CHUNK = 10

Ask = Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]]  # bodies -> `response` and `error` of result lines


class ChunkedPage:
    """Asks the lines of a file chunk by chunk; answers go to a file beside it, each chunk when it is there.

    What is answered there already is not asked again; what failed is. `ask` answers a chunk of bodies.
    """

    limits = Limits(1 << 40, 1 << 50)
    uploads = False
    cancels = False

    def __init__(self, line: Callable[..., dict[str, Any]], ask: Ask, chunk: int = CHUNK) -> None:
        self._line, self._ask, self._chunk = line, ask, chunk

    def line(self, custom_id: str, request: Request, options: SamplingOptions, left_out: Any) -> dict[str, Any]:
        """A request as its line."""
        return self._line(custom_id, request, options, left_out)

    def upload(self, path: Path, key: str) -> str:
        """It stays where it is."""
        return ""

    def create(self, path: Path, file: str | None, key: str) -> Remote:
        """Ask everything that has no answer yet."""
        out = _output(path)
        have = _answered(out)
        with path.open("rb") as lines, out.open("ab") as answers:
            answers.truncate(_whole(out))
            for chunk in _chunks((orjson.loads(line) for line in lines), self._chunk):
                left = [line for line in chunk if line["custom_id"] not in have]
                for line, said in zip(left, self._ask([line["body"] for line in left]), strict=True):
                    answers.write(orjson.dumps({"custom_id": line["custom_id"], **said}) + b"\n")
                answers.flush()
        return self.check(str(path))

    def check(self, remote_id: str) -> Remote:
        """It is over when it has been made."""
        return Remote(remote_id, "completed", over=True, results=(str(_output(Path(remote_id))),))

    def results(self, remote: Remote) -> Iterator[Result]:
        """One a line of the file that was asked: its answer, or how it failed the last time."""
        for name in map(Path, remote.results):
            last = {
                result.custom_id: at for at, result in enumerate(_results(name))
            }  # what is answered is not asked again
            yield from (result for at, result in enumerate(_results(name)) if last[result.custom_id] == at)

    def cancel(self, remote_id: str) -> None:
        """It is over."""

    def find(self, lookup: Lookup) -> Found:
        """There is nothing to find."""
        return Found()

    def models(self) -> list[str]:
        """Not known."""
        return []

    def close(self) -> None:
        """Nothing is held."""


def openai_chunks(settings: Settings) -> ChunkedPage:
    """OpenAI's chat, ten requests at a time."""
    page = OpenAIPage(settings)

    def one(body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = asked("openai", lambda: page.chat(body))
        except Refused as refusal:
            said = {"error": {"message": refusal.failure.message}}
            return {"response": {"status_code": refusal.error.status, "body": said}, "error": None}
        except Lost as lost:
            return {"response": {"status_code": 0, "body": {"error": {"message": str(lost)}}}, "error": None}
        return {"response": {"status_code": 200, "body": answer}, "error": None}

    def ask(bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(CHUNK) as threads:
            return list(threads.map(one, bodies))

    return ChunkedPage(page.line, ask)


def _results(path: Path) -> Iterator[Result]:
    with path.open("rb") as lines:
        yield from (openai_result(line, ChatWire(), "the model") for line in lines if line.endswith(b"\n"))


def _answered(path: Path) -> set[str]:
    return {result.custom_id for result in _results(path) if result.reply is not None} if path.exists() else set()


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line: half of one, of a process that was killed, would spoil the next."""
    with path.open("rb") as lines:
        return sum(len(line) for line in lines if line.endswith(b"\n"))


def _output(path: Path) -> Path:
    return path.with_name(f"{path.name}.answers.jsonl")


def _chunks(lines: Iterator[Any], size: int) -> Iterator[list[Any]]:
    chunk = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
