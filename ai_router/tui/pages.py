"""Pages of rows read in a thread, whatever they are read from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

R = TypeVar("R")
KEPT_PAGES = 48
WANTED_PAGES = 4  # requests for pages scrolled past are forgotten

# What rows are read with: opened in the thread that reads, it gives the rows of some ids in their order.
Rows = Callable[[Sequence[int]], list[R]]
Opener = Callable[[], AbstractContextManager[Rows[R]]]


class PageReader(Generic[R]):
    """Reads pages in a thread of its own, the latest wish first."""

    def __init__(self, opener: Opener[R], loaded: Callable[[], object], failed: Callable[[Exception], object]) -> None:
        self._opener, self._loaded, self._failed = opener, loaded, failed
        self._wanted: OrderedDict[tuple[int, int, int], Sequence[int]] = OrderedDict()
        self._pages: OrderedDict[tuple[int, int], list[R]] = OrderedDict()
        self._generation = 0
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._broken = False

    def page(self, start: int, ids: Sequence[int]) -> list[R] | None:
        """The rows of some ids (`start` names the page), or None: they are being read, `loaded` will be called."""
        key = (start, len(ids))
        page = self._pages.get(key)
        if page is not None:
            return page
        with self._condition:
            self._wanted[(*key, self._generation)] = ids
            self._wanted.move_to_end((*key, self._generation))
            while len(self._wanted) > WANTED_PAGES:
                self._wanted.popitem(last=False)
            if self._thread is None and not self._broken:
                self._thread = threading.Thread(target=self._read, name="pages", daemon=True)
                self._thread.start()
            self._condition.notify()
        return None

    def forget(self) -> None:
        """What was read may have changed."""
        with self._condition:
            self._generation += 1
            self._broken = False
            self._pages.clear()
            self._wanted.clear()

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _read(self) -> None:
        try:
            with self._opener() as rows:
                while self._serve(rows):
                    pass
        except Exception as error:  # a damaged or deleted file is a message on the screen
            self._broken = True
            self._failed(error)
        finally:
            self._thread = None

    def _serve(self, rows: Rows[R]) -> bool:
        with self._condition:
            while not self._wanted and not self._closed:
                self._condition.wait()
            if self._closed:
                return False
            (start, length, generation), ids = self._wanted.popitem()
        found = rows(ids)
        with self._condition:
            if generation == self._generation:
                self._pages[(start, length)] = found
                while len(self._pages) > KEPT_PAGES:
                    self._pages.popitem(last=False)
        self._loaded()
        return True
