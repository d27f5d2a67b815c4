"""The connection into a sandbox: many calls and streams at once over one WebSocket."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from .._wire import rpc_error, sandbox_error
from ..errors import CallTimeoutError, ConnectionClosedError
from .concurrency import ByteSource, Event, Task
from .flow import FlowControl
from .streams import AsyncByteSink, AsyncByteStream
from .websocket import AsyncWebSocket

_STREAM_KEYS = ("streamId", "bodyStreamId", "stdoutStreamId", "stderrStreamId")


class DefaultTimeout:
    """Stands for the connection's own limit, where None means no limit."""


DEFAULT_TIMEOUT: Final = DefaultTimeout()


class AsyncReply:
    """The answer to one call, now or later."""

    def __init__(self, call_id: int, method: str, connection: AsyncConnection) -> None:
        self.id = call_id
        self._connection = connection
        self._value: Any = None
        self._error: Exception | None = None
        self.method = method
        self.arrived = Event()
        # Set when the answer is an error, so that whatever is still being sent for the call is of no use.
        self.failed = Event()

    def succeed(self, value: Any) -> None:
        self._value = value
        self.arrived.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self.failed.set()
        self.arrived.set()

    async def value(self, timeout: float | None = None) -> Any:
        """Waits for the answer and returns it, or raises its error. May be called again.

        Raises:
            CallTimeoutError: When `timeout` seconds have passed. The call itself goes on.
        """
        if not self.arrived.is_set():
            with self._connection.flow.waiting():
                try:
                    await self.arrived.wait(timeout)
                except TimeoutError:
                    raise CallTimeoutError(f"{self.method}: no answer from the sandbox after {timeout:g} s") from None
        return self.peek()

    def peek(self) -> Any:
        """The answer that has arrived."""
        if self._error is not None:
            raise self._error
        return self._value


class AsyncConnection:
    """Owns a WebSocket. One task reads it and hands out answers and data; when it ends, everything that waits ends."""

    def __init__(
        self, websocket: AsyncWebSocket, *, call_timeout: float, buffer_bytes: int, debug: bool = False
    ) -> None:
        self._websocket = websocket
        self._call_timeout = call_timeout
        self._debug = debug
        self._lock = threading.Lock()
        self._replies: dict[int, AsyncReply] = {}
        self._streams: dict[int, AsyncByteStream] = {}
        # Streams that have started before the caller has looked at the answer that names them.
        self._unclaimed: dict[int, AsyncByteStream] = {}
        self._sinks: dict[int, AsyncByteSink] = {}
        # Calls that were given up, and streams that nobody will ask for.
        self._abandoned: set[int] = set()
        self._unwanted: set[int] = set()
        self._next_id = 0
        self._error: ConnectionClosedError | None = None
        # Why this side wants the end, where the other side gives no reason.
        self.own_reason = ""
        self.flow = FlowControl(buffer_bytes)
        self._reader = Task(self._read, "caisson-reader")

    @property
    def closed(self) -> bool:
        return self._error is not None

    async def call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        timeout: float | DefaultTimeout | None = DEFAULT_TIMEOUT,
        abort_id: int | None = None,
    ) -> Any:
        """Calls a method and waits for its answer.

        Args:
            method: The method's name.
            params: Its parameters, with the names of the protocol.
            timeout: Seconds to wait; None waits as long as it takes. Default: the client's `call_timeout`.
            abort_id: Number to abort the call by when it is given up. It must be among the parameters too.
        """
        reply = await self.start_call(method, params)
        return await self.finish_call(reply, timeout=timeout, abort_id=abort_id)

    async def finish_call(
        self,
        reply: AsyncReply,
        *,
        timeout: float | DefaultTimeout | None = DEFAULT_TIMEOUT,
        abort_id: int | None = None,
        gives_up: bool = True,
    ) -> Any:
        """Waits for the answer to a call. A wait that ends without one gives the call up, unless the caller does."""
        limit = self._call_timeout if isinstance(timeout, DefaultTimeout) else timeout
        try:
            return await reply.value(limit)
        finally:
            if gives_up and not reply.arrived.is_set():
                self.abandon(reply)
                if abort_id is not None:
                    with suppress(ConnectionClosedError):
                        self.abandon(await self.start_call("abort", {"abortId": abort_id}))

    async def call_with_body(
        self,
        method: str,
        params: Mapping[str, Any],
        key: str,
        body: ByteSource,
        *,
        timeout: float | DefaultTimeout | None,
        abort_id: int,
    ) -> Any:
        """Calls a method that reads a stream of ours, named by the parameter `key`. `timeout` counts from its end."""
        sink = await self.open_sink()
        reply = await self.start_call(method, {**params, key: sink.id})
        try:
            await sink.send_all(body, reply.failed)
        except BaseException:
            # The sandbox answers that the stream broke off; the caller gets to know why.
            self.abandon(reply)
            raise
        return await self.finish_call(reply, timeout=timeout, abort_id=abort_id)

    async def start_call(self, method: str, params: Mapping[str, Any]) -> AsyncReply:
        """Sends a call. Its answer is waited for through the result."""
        with self._lock:
            self._raise_if_closed()
            self._next_id += 1
            call_id = self._next_id
            reply = AsyncReply(call_id, method, self)
            self._replies[call_id] = reply
        try:
            await self._send({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        except BaseException:
            self._replies.pop(call_id, None)
            raise
        return reply

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Sends a message that has no answer."""
        self._raise_if_closed()
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def abandon(self, reply: AsyncReply) -> None:
        """Gives a call up: whatever it still answers is thrown away."""
        with self._lock:
            if self._replies.pop(reply.id, None) is not None:
                self._abandoned.add(reply.id)

    def next_number(self) -> int:
        """A number that this connection has not used yet, for streams and aborts."""
        with self._lock:
            self._next_id += 1
            return self._next_id

    def claim_stream(self, stream_id: int) -> AsyncByteStream:
        """The incoming stream that an answer named, whether nothing, a part or all of it has arrived yet."""
        with self._lock:
            stream = self._unclaimed.pop(stream_id, None)
            if stream is None:
                stream = AsyncByteStream(stream_id, self.flow, self)
                if self._error is not None:
                    stream.end(self._error)
            if not stream.ended.is_set():
                self._streams[stream_id] = stream
            return stream

    async def open_sink(self) -> AsyncByteSink:
        """Opens an outgoing stream, which a call can then name."""
        sink = AsyncByteSink(self.next_number(), self)
        with self._lock:
            self._raise_if_closed()
            self._sinks[sink.id] = sink
        await sink.start()
        return sink

    def forget_stream(self, stream: AsyncByteStream) -> None:
        with self._lock:
            self._streams.pop(stream.id, None)
            if not stream.started:
                self._unwanted.add(stream.id)

    def forget_outgoing(self, stream_id: int) -> None:
        with self._lock:
            self._sinks.pop(stream_id, None)

    async def close(self) -> None:
        """Closes the connection. Everything that waits on it raises `ConnectionClosedError`."""
        self.flow.open()
        await self._websocket.close()
        await self._reader.join()

    async def _send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
        if not _is_encodable(text):
            # Names that are not UTF-8 have lone surrogates, in the protocol too, where only escapes carry them.
            text = json.dumps(message, separators=(",", ":"))
        self._trace("->", message)
        # Whoever sends may be waiting until the sandbox has got rid of what it sends to us.
        with self.flow.waiting():
            await self._websocket.send(text)

    async def _read(self) -> None:
        """The task that reads, until the connection is closed."""
        error = ConnectionClosedError(1006, "the reader stopped")
        try:
            while True:
                await self.flow.ready()
                self._dispatch(await self._websocket.receive())
        except ConnectionClosedError as closed:
            error = closed
        except Exception as problem:
            # Something that is not the protocol. What follows could not be trusted, so nothing follows.
            error = ConnectionClosedError(4001, f"unexpected message from the sandbox: {problem!r}")
        finally:
            self._end(error)
        if error.code == 4001:
            await self._websocket.reject(4001, "unexpected message")

    def _end(self, error: ConnectionClosedError) -> None:
        self.flow.open()
        if self.own_reason and not error.reason:
            error = ConnectionClosedError(error.code, self.own_reason)
        with self._lock:
            self._error = error
            replies, self._replies = self._replies, {}
            streams = [*self._streams.values(), *self._unclaimed.values()]
            self._streams = {}
            sinks, self._sinks = self._sinks, {}
        self._trace("closed", {"method": str(error)})
        for reply in replies.values():
            reply.fail(ConnectionClosedError(error.code, error.reason))
        for stream in streams:
            stream.end(error)
        for sink in sinks.values():
            sink.cancelled.set()

    def _dispatch(self, raw: str | bytes) -> None:
        if raw == "pong":
            return
        message: dict[str, Any] = json.loads(raw)
        self._trace("<-", message)
        if "method" in message:
            self._handle_notification(message["method"], message["params"])
        else:
            self._handle_answer(message)

    def _handle_answer(self, message: dict[str, Any]) -> None:
        result: dict[str, Any] = message.get("result") or {}
        with self._lock:
            reply = self._replies.pop(message["id"], None)
            if reply is None:
                value = result.get("ok")
                if message["id"] in self._abandoned:
                    self._abandoned.discard(message["id"])
                    self._unwanted.update(stream_ids(value))
                return
        problem = message.get("error")
        if problem is not None:
            reply.fail(rpc_error(problem, reply.method))
        elif result.get("error") is not None:
            reply.fail(sandbox_error(result["error"], reply.method))
        else:
            reply.succeed(result.get("ok"))

    def _handle_notification(self, method: str, params: dict[str, Any]) -> None:
        if not method.startswith("$sandbox.stream."):
            return  # Restarts of a watched program are for clients that show them.
        stream_id: int = params["streamId"]
        if method == "$sandbox.stream.start":
            with self._lock:
                if stream_id in self._unwanted:
                    self._unwanted.discard(stream_id)
                    return
                stream = self._streams.get(stream_id)
                if stream is None:
                    stream = self._unclaimed[stream_id] = AsyncByteStream(stream_id, self.flow, self)
                stream.started = True
        elif method == "$sandbox.stream.cancel":
            sink = self._sinks.get(stream_id)
            if sink is not None:
                sink.cancelled.set()
        elif method == "$sandbox.stream.enqueue":
            with self._lock:
                stream = self._streams.get(stream_id) or self._unclaimed.get(stream_id)
            if stream is not None:
                stream.feed(base64.b64decode(params["data"]))
        else:
            problem = params.get("error")
            with self._lock:
                stream = self._streams.pop(stream_id, None) or self._unclaimed.get(stream_id)
                if stream is not None:
                    stream.end(sandbox_error(problem, "stream") if problem else None)

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            raise ConnectionClosedError(self._error.code, self._error.reason)

    def _trace(self, arrow: str, message: Mapping[str, Any]) -> None:
        if self._debug:
            what = message.get("method") or ("error" if "error" in message else "answer")
            print(f"caisson {arrow} {message.get('id', '')} {what}", file=sys.stderr)


def stream_ids(value: object) -> list[int]:
    """The streams that an answer names."""
    if not isinstance(value, dict):
        return []
    fields = cast("dict[str, Any]", value)
    return [fields[key] for key in _STREAM_KEYS if fields.get(key) is not None]


def optional(**params: Any) -> dict[str, Any]:
    """The parameters that were given."""
    return {name: value for name, value in params.items() if value is not None}


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
