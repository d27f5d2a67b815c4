"""Byte streams in both directions over one connection."""

from __future__ import annotations

import base64
import threading
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

from .._wire import remote_error_object
from ..errors import BrokenPipe, CallTimeoutError, ConnectionClosedError
from .concurrency import ByteSource, Event, chunks_of, run_until
from .flow import FlowControl

CHUNK_BYTES = 64 * 1024
_ALL = 1 << 62


class Notifier(Protocol):
    """The part of a connection that streams need."""

    async def notify(self, method: str, params: dict[str, Any]) -> None: ...

    def forget_stream(self, stream: AsyncByteStream) -> None: ...

    def forget_outgoing(self, stream_id: int) -> None: ...


class AsyncByteStream:
    """Bytes that arrive from the sandbox, such as the output of a process.

    Iterating gives lines, each with its newline; `chunks()` gives pieces as they come. What was not read is kept,
    so a stream can be read after its process has ended.
    """

    def __init__(self, stream_id: int, flow: FlowControl, connection: Notifier) -> None:
        self.id = stream_id
        self._flow = flow
        self._connection = connection
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._arrival = Event()
        self._sink: Callable[[bytes], None] | None = None
        self._error: Exception | None = None
        self.started = False
        self.ended = Event()

    async def read(self, n: int = -1) -> bytes:
        """Reads at most `n` bytes, as soon as there are any; everything up to the end when `n` is negative.

        Returns:
            The bytes; empty at the end of the stream.

        Raises:
            ConnectionClosedError: When the connection broke before the end. What had arrived is given first.
        """
        if n >= 0:
            return await self._take(n) if n > 0 else b""
        parts: list[bytes] = []
        while part := await self._take(_ALL):
            parts.append(part)
        return b"".join(parts)

    async def readline(self) -> bytes:
        """Reads one line with its newline; the last one may lack it; empty at the end of the stream."""
        searched = 0
        while True:
            with self._lock:
                found = self._buffer.find(b"\n", searched)
                if found >= 0:
                    return self._cut(found + 1)
                searched = len(self._buffer)
                if self.ended.is_set():
                    self._check(searched)
                    return self._cut(searched)
                self._arrival.clear()
            await self._wait()

    async def readexactly(self, n: int) -> bytes:
        """Reads exactly `n` bytes. Raises `asyncio.IncompleteReadError` when the stream ends before."""
        while True:
            with self._lock:
                if len(self._buffer) >= n:
                    return self._cut(n)
                if self.ended.is_set():
                    self._check(0)
                    raise IncompleteReadError(self._cut(len(self._buffer)), n)
                self._arrival.clear()
            await self._wait()

    def read_available(self) -> bytes:
        """Reads what has arrived, without waiting; empty when that is nothing."""
        with self._lock:
            return self._cut(len(self._buffer))

    def at_eof(self) -> bool:
        """Whether the stream has ended and everything was read."""
        return self.ended.is_set() and not self._buffer

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces, as they come."""
        while part := await self._take(_ALL):
            yield part

    def __aiter__(self) -> AsyncByteStream:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def wait_ended(self, timeout: float | None = None) -> None:
        """Waits until everything has arrived; it stays readable. Raises `CallTimeoutError` after `timeout` seconds."""
        with self._flow.waiting():
            try:
                await self.ended.wait(timeout)
            except TimeoutError:
                raise CallTimeoutError(f"The stream has not ended after {timeout:g} s") from None

    async def cancel(self) -> None:
        """Tells the sandbox that nobody reads on, and throws away what was not read."""
        if not self.ended.is_set():
            self._connection.forget_stream(self)
            self.end()
            await self._connection.notify("$sandbox.stream.cancel", {"streamId": self.id, "reason": None})
        with self._lock:
            self._cut(len(self._buffer))

    def feed(self, data: bytes) -> None:
        """Takes what arrived. Called by the connection."""
        with self._lock:
            if self.ended.is_set():
                return  # Given up while this was on its way: nobody would ever take it.
            if self._sink is not None:
                self._sink(data)
                return
            self._buffer += data
            self._flow.added(len(data))
            self._arrival.set()

    def end(self, error: Exception | None = None) -> None:
        """Ends the stream, with an error or without. Called by the connection."""
        with self._lock:
            if not self.ended.is_set():
                self._error = error
                self.ended.set()
                self._arrival.set()

    def pass_to(self, sink: Callable[[bytes], None]) -> None:
        """Hands everything to a function from now on, which must not wait, instead of keeping it."""
        with self._lock:
            self._sink = sink
            # Under the lock, so that nothing that arrives meanwhile overtakes it.
            if data := self._cut(len(self._buffer)):
                sink(data)

    async def _take(self, n: int) -> bytes:
        while True:
            with self._lock:
                if self._buffer:
                    return self._cut(min(n, len(self._buffer)))
                if self.ended.is_set():
                    self._check(0)
                    return b""
                self._arrival.clear()
            await self._wait()

    async def _wait(self) -> None:
        with self._flow.waiting():
            await self._arrival.wait()

    def _cut(self, n: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:n])
        del self._buffer[:n]
        self._flow.taken(n)
        return data

    def _check(self, left: int) -> None:
        if self._error is not None and left == 0:
            raise self._error


class AsyncByteSink:
    """Bytes on their way into the sandbox, such as the input of a process."""

    def __init__(self, stream_id: int, connection: Notifier) -> None:
        self.id = stream_id
        self._connection = connection
        self._is_finished = False
        self.cancelled = Event()

    async def start(self) -> None:
        await self._connection.notify("$sandbox.stream.start", {"streamId": self.id})

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes. Waits while the sandbox takes no more.

        Raises:
            BrokenPipe: When the other side has stopped reading, or the stream is closed.
            ConnectionClosedError: When the connection is closed.
        """
        async for chunk in chunks_of(data, CHUNK_BYTES):
            if self.cancelled.is_set() or self._is_finished:
                why = "was closed here" if self._is_finished else "is not read any more"
                error = {"constructorName": "BrokenPipe", "code": "EPIPE", "message": f"The stream {why}"}
                raise BrokenPipe(error, "write")
            text = base64.b64encode(chunk).decode("ascii")
            await self._connection.notify("$sandbox.stream.enqueue", {"streamId": self.id, "data": text})

    async def close(self) -> None:
        """Ends the stream: the reader sees its end."""
        await self._finish("$sandbox.stream.end", {"streamId": self.id})

    async def fail(self, message: str) -> None:
        """Ends the stream with an error, so that the reader does not take it for complete."""
        error = remote_error_object(message)
        await self._finish("$sandbox.stream.error", {"streamId": self.id, "error": error})

    async def send_all(self, source: ByteSource, stop: Event) -> None:
        """Sends a whole source and ends the stream. Stops early, quietly, when nobody wants the rest.

        Args:
            source: What to send.
            stop: Set when the rest is of no use, because the call has failed or the process has ended.

        Raises:
            ConnectionClosedError: When the connection is closed.
            Exception: Whatever reading the source raises; the sandbox is told that the data is incomplete.
        """
        try:
            await run_until(stop, lambda: self._send_all(source, stop))
            await self.close()
        except BaseException as error:
            with suppress(ConnectionClosedError):
                await self.fail(f"{type(error).__name__}: {error}")
            raise

    async def _send_all(self, source: ByteSource, stop: Event) -> None:
        async for chunk in chunks_of(source, CHUNK_BYTES):
            if stop.is_set() or self.cancelled.is_set():
                return
            text = base64.b64encode(chunk).decode("ascii")
            await self._connection.notify("$sandbox.stream.enqueue", {"streamId": self.id, "data": text})

    async def _finish(self, method: str, params: dict[str, Any]) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self._connection.forget_outgoing(self.id)
        if not self.cancelled.is_set():
            await self._connection.notify(method, params)
