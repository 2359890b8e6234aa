"""The steps of submit and collect at which a process may be killed: calls of the provider and writes of the desk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batch.running.desk import StoreDesk

CALLS = ("upload", "create", "check", "results", "find")
WRITES = ("submitting", "noted", "submitted", "settled", "withdrawn")

Step = Callable[[], None]


class Killed(BaseException):
    """The process is gone."""


def watch_page(page: Any, before: Step, after: Step) -> Any:
    """A provider's page whose calls say when they begin and end; what is raised there is all that happens."""

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            before()
            value = call(*args)
            after()
            return value

        return wrapped

    for name in CALLS:
        setattr(page, name, around(getattr(page, name)))
    return page


def watch_desk(put: Callable[[type, str, Any], None], before: Step, after: Step) -> None:
    """The same for what every desk writes. `put` is setattr, or one that can be undone."""

    def around(write: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(desk: Any, *args: Any, **how: Any) -> None:
            before()
            await write(desk, *args, **how)
            after()

        return wrapped

    for name in WRITES:
        put(StoreDesk, name, around(getattr(StoreDesk, name)))
