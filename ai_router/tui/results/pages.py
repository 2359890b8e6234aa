"""Pages of rows read in a thread, whatever they are read from; and searches in them."""

from __future__ import annotations

import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

R = TypeVar("R")
KEPT_PAGES = 48
WANTED_PAGES = 4  # requests for pages scrolled past are forgotten
SEARCH_PAGE = 512
REPORT_SECONDS = 0.2

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


class RowSearch:
    """Which of some rows hold a text: found in a thread, readable while it goes on. `ids` is what pages are read by."""

    def __init__(
        self,
        opener: Callable[[], AbstractContextManager[Rows[Any]]],
        rows: Sequence[int],
        ids: Callable[[int], int],
        texts: Callable[[Any], Iterable[str]],
        text: str,
    ) -> None:
        self.text, self.found = text, array("i")
        self.stopped = False
        self._opener, self._rows, self._ids, self._texts = opener, rows, ids, texts
        self._at = 0

    @property
    def percent(self) -> int:
        """How far it is."""
        return min(100, self._at * 100 // max(1, len(self._rows)))

    def run(self, progress: Callable[[], object]) -> RowSearch:
        """Look; `progress` is called a few times a second, from this thread."""
        needle = self.text.casefold()
        told = time.monotonic()
        with self._opener() as read:
            while self._at < len(self._rows) and not self.stopped:
                rows = self._rows[self._at : self._at + SEARCH_PAGE]
                for row, data in zip(rows, read([self._ids(row) for row in rows]), strict=True):
                    if any(needle in text.casefold() for text in self._texts(data)):
                        self.found.append(row)
                self._at += len(rows)
                if time.monotonic() - told > REPORT_SECONDS:
                    told = time.monotonic()
                    progress()
        return self

    def stop(self) -> None:
        """Look no further; what was found stays."""
        self.stopped = True
