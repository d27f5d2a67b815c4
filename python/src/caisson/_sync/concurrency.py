"""What the synchronous half waits with: the names of `_async/concurrency.py`, on threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar, cast

T = TypeVar("T")

Buffer = bytes | bytearray | memoryview
ByteSource = bytes | bytearray | memoryview | BinaryIO | Iterable[bytes]
"""Data to send: bytes, an open binary file, or an iterable of bytes."""


class Event:
    """A flag that can be waited for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the flag is set. Raises `TimeoutError` after `timeout` seconds."""
        if not self._event.wait(timeout):
            raise TimeoutError


class Task:
    """Something that runs beside its owner, who joins it in the end."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        # A daemon: a program that forgets to close a sandbox can still exit, which ends the sandbox as well.
        self._thread = threading.Thread(target=work, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()


def run_until(stop: Event, work: Callable[[], None]) -> None:
    """Runs `work`. A thread cannot be cancelled from outside, so `work` itself looks at `stop` between its steps."""
    del stop
    work()


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Calls something that may block on local input or output."""
    return function(*arguments)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def chunks_of(source: ByteSource, size: int) -> Iterator[bytes]:
    """Cuts a source into pieces of at most `size` bytes, none of them empty."""
    if hasattr(source, "read"):
        file = cast(BinaryIO, source)
        while piece := file.read(size):
            yield piece
    else:
        parts = [source] if isinstance(source, (bytes, bytearray, memoryview)) else cast("Iterable[bytes]", source)
        for part in parts:
            yield from _cut(cast(Buffer, part), size)


def _cut(data: Buffer, size: int) -> Iterable[bytes]:
    view = memoryview(data).cast("B")
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


def opening(resource: T) -> T:
    """The resource itself, which is open already and closes at the end of its own `with` block."""
    return resource
