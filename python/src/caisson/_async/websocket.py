"""One WebSocket, asynchronously. `_sync/websocket.py` offers the same on a thread."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from .._version import USER_AGENT
from .._wire import api_error, closed_error
from ..errors import ApiConnectionError, ApiTimeoutError, ConnectionClosedError

PING_INTERVAL_S = 20.0
# The answer comes when the sandbox has read what lies before the question, which may take a slow machine long.
PONG_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0


class _Opening(ClientConnection):
    """A connection that is reset, and not closed, when it is given up before it is open.

    So the server learns that nobody has its answer, also when that has come but the task that waited for it was
    cancelled at the same moment: a create that is cancelled leaves no sandbox.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _reset_at_close(transport, True)


def _reset_at_close(transport: asyncio.BaseTransport, enabled: bool) -> None:
    used = transport.get_extra_info("socket")
    if used is not None:
        used.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", enabled, 0))


class AsyncWebSocket:
    """An open WebSocket. One task receives; any number of tasks may send.

    Attributes:
        headers: The headers of the answer to the upgrade, with lower-case names.
    """

    def __init__(self, connection: ClientConnection, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.headers = headers

    @staticmethod
    async def open(
        url: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        max_message_bytes: int,
        ssl_context: ssl.SSLContext,
    ) -> AsyncWebSocket:
        """Connects within `timeout` seconds.

        Raises:
            ApiError: When the server refuses, with its reason.
            ApiTimeoutError, ApiConnectionError: When the server cannot be reached.
        """
        try:
            connection = await connect(
                url,
                additional_headers=dict(headers),
                user_agent_header=USER_AGENT,
                compression=None,
                proxy=None,
                open_timeout=timeout,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PONG_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=max_message_bytes,
                ssl=ssl_context if url.startswith("wss:") else None,
                create_connection=_Opening,
            )
            _reset_at_close(connection.transport, False)
        except InvalidStatus as error:
            answer = error.response
            names = {name.lower(): value for name, value in answer.headers.raw_items()}
            raise api_error(answer.status_code, names, bytes(answer.body or b"")) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise ApiTimeoutError(f"Connecting to {url} took longer than {timeout:g} s") from None
        except (OSError, EOFError, InvalidHandshake) as error:
            raise ApiConnectionError(f"Cannot connect to {url}: {error}") from error
        response = connection.response
        raw = response.headers.raw_items() if response is not None else ()
        return AsyncWebSocket(connection, {name.lower(): value for name, value in raw})

    async def send(self, text: str) -> None:
        """Sends one message. Waits while the other side takes no more. Raises `ConnectionClosedError`."""
        try:
            await self._connection.send(text)
        except ConnectionClosed:
            raise self._closed() from None

    async def receive(self) -> str | bytes:
        """The next message. Raises `ConnectionClosedError` when there will be none."""
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            raise self._closed() from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes the connection, politely at first, and within `CLOSE_TIMEOUT_S` in any case."""
        closing = asyncio.ensure_future(self._connection.close(code, reason))
        try:
            done, _ = await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
        finally:
            closing.cancel()
        if not done:
            # Its polite part may stand in line behind a message that the other side does not take.
            self._connection.transport.abort()
            await self._connection.wait_closed()

    async def reject(self, code: int, reason: str) -> None:
        """Closes the connection on behalf of the one that receives."""
        await self.close(code, reason)

    def _closed(self) -> ConnectionClosedError:
        return closed_error(self._connection.close_code, self._connection.close_reason)
