"""What the asynchronous half waits with. `_sync/concurrency.py` offers the same names on threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, BinaryIO, Generic, Protocol, TypeVar, cast

T = TypeVar("T")

Buffer = bytes | bytearray | memoryview
ByteSource = bytes | bytearray | memoryview | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]
"""Data to send: bytes, an open binary file, or an iterable (also an asynchronous one) of bytes."""


class Event:
    """A flag that can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, timeout: float | None = None) -> None:
        """Waits until the flag is set. Raises `TimeoutError` after `timeout` seconds."""
        if timeout is None:
            await self._event.wait()
            return
        # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes together with the event.
        waiting = asyncio.ensure_future(self._event.wait())
        try:
            done, _ = await asyncio.wait({waiting}, timeout=timeout)
        finally:
            waiting.cancel()
        if not done:
            raise TimeoutError


class Task:
    """Something that runs beside its owner, who joins it in the end."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._task = asyncio.create_task(work(), name=name)

    async def join(self) -> None:
        await asyncio.wait({self._task})


async def run_until(stop: Event, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `work`, and cancels it when `stop` is set first."""
    working = asyncio.ensure_future(work())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})
        # Read the outcome, so that asyncio does not report a failure that came together with the stop.
        for task in (working, stopping):
            if not task.cancelled():
                task.exception()


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Calls something that may block on local input or output."""
    return await asyncio.to_thread(function, *arguments)


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def chunks_of(source: ByteSource, size: int) -> AsyncIterator[bytes]:
    """Cuts a source into pieces of at most `size` bytes, none of them empty.

    Sending a piece does not wait while the network has room, so other tasks get their turn here.
    """
    if isinstance(source, AsyncIterable):
        async for part in source:
            for piece in _cut(part, size):
                yield piece
    elif hasattr(source, "read"):
        file = cast(BinaryIO, source)
        while piece := await asyncio.to_thread(file.read, size):
            yield piece
    else:
        parts = [source] if isinstance(source, (bytes, bytearray, memoryview)) else cast("Iterable[bytes]", source)
        for part in parts:
            for piece in _cut(cast(Buffer, part), size):
                yield piece
                await asyncio.sleep(0)


def _cut(data: Buffer, size: int) -> Iterable[bytes]:
    view = memoryview(data).cast("B")
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


class AsyncResource(Protocol):
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


R = TypeVar("R", bound=AsyncResource)


class Opening(Generic[R]):
    """A resource on its way: `await` it to own it, or enter it with `async with` to have it closed at the end."""

    def __init__(self, work: Coroutine[Any, Any, R]) -> None:
        self._work = work
        self._resource: R | None = None

    def __await__(self) -> Generator[Any, Any, R]:
        return self._work.__await__()

    async def __aenter__(self) -> R:
        self._resource = await self._work
        return self._resource

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._resource is not None:
            await self._resource.__aexit__(kind, error, trace)


def opening(work: Coroutine[Any, Any, R]) -> Opening[R]:
    """Wraps the opening of a resource; the synchronous twin returns the resource itself."""
    return Opening(work)


async def finish_quietly(work: Awaitable[Any]) -> None:
    """Awaits something whose failure changes nothing any more."""
    with contextlib.suppress(Exception):
        await work
