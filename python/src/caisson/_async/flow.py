"""Bounds the memory that unread output may take."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from .concurrency import Event


class FlowControl:
    """Decides when a connection may take in more.

    The protocol has no flow control for single streams, so the only brake is to stop reading the socket, which
    then fills up and makes the sandbox's programs wait. That is safe only while nobody here waits for something
    that may be behind in that same socket. Hence the rule: read on while there is room, or while anybody waits.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._buffered_bytes = 0
        self._waiting = 0
        self._is_open = False
        self._go = Event()
        self._go.set()

    @property
    def buffered_bytes(self) -> int:
        return self._buffered_bytes

    def added(self, size: int) -> None:
        """Counts bytes that arrived and that nobody has read yet."""
        with self._lock:
            self._buffered_bytes += size
            self._update()

    def taken(self, size: int) -> None:
        """Counts bytes that were read or thrown away."""
        with self._lock:
            self._buffered_bytes -= size
            self._update()

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Marks the time in which a caller depends on what arrives."""
        with self._lock:
            self._waiting += 1
            self._update()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._update()

    def open(self) -> None:
        """Lets everything through from now on, because the connection is ending."""
        with self._lock:
            self._is_open = True
            self._update()

    async def ready(self) -> None:
        """Waits until more may be taken in."""
        await self._go.wait()

    def _update(self) -> None:
        if self._is_open or self._waiting > 0 or self._buffered_bytes < self._limit_bytes:
            self._go.set()
        else:
            self._go.clear()
