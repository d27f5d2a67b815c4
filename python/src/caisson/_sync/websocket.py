"""One WebSocket on threads: the twin of `_async/websocket.py`, written over the protocol core of `websockets`.

The threaded client of `websockets` holds one lock while it writes, and needs the same lock to take in what it reads.
When both sides have much to say (think of `cat` with 100 MB of input) each then waits for the other for ever. Here
the socket never blocks: whoever sends writes from its own thread and waits only for room, while the one thread that
calls `receive` goes on reading, answers pings, and notices a dead peer.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from .._version import USER_AGENT
from .._wire import api_error, closed_error
from ..errors import ApiConnectionError, ApiTimeoutError, ConnectionClosedError

PING_INTERVAL_S = 20.0
# The answer comes when the sandbox has read what lies before the question, which may take a slow machine long.
PONG_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0
_READ_BYTES = 256 * 1024
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# `poll` takes any descriptor, `select` only small ones; not every system has `poll`.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class WebSocket:
    """An open WebSocket. One thread receives until the end; any number of threads may send.

    Attributes:
        headers: The headers of the answer to the upgrade, with lower-case names.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: ClientProtocol,
        headers: Mapping[str, str],
        early: Sequence[Frame],
    ) -> None:
        self.headers = headers
        self._socket = sock
        self._protocol = protocol
        # Guards the protocol and the queue of outgoing bytes, and is never held while waiting.
        self._state = threading.Lock()
        # Held by the one thread that writes to the socket.
        self._writing = threading.Lock()
        # OpenSSL's objects do not allow reading and writing at the same instant.
        self._tls = threading.Lock() if isinstance(sock, ssl.SSLSocket) else contextlib.nullcontext()
        self._outgoing: deque[memoryview] = deque()
        self._messages: deque[str | bytes] = deque()
        self._fragments: list[bytes] = []
        self._is_text = True
        self._ended = threading.Event()
        self._broken = False
        self._heard_at = time.monotonic()
        self._pinged_at: float | None = None
        sock.setblocking(False)
        for frame in early:
            self._take(frame)

    @staticmethod
    def open(
        url: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        max_message_bytes: int,
        ssl_context: ssl.SSLContext,
    ) -> WebSocket:
        """Connects within `timeout` seconds.

        Raises:
            ApiError: When the server refuses, with its reason.
            ApiTimeoutError, ApiConnectionError: When the server cannot be reached.
        """
        deadline = time.monotonic() + timeout
        uri = parse_uri(url)
        sock: socket.socket | None = None
        try:
            sock = socket.create_connection((uri.host, uri.port), timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                sock.settimeout(_remaining(deadline))
                sock = ssl_context.wrap_socket(sock, server_hostname=uri.host)
            protocol = ClientProtocol(uri, max_size=max_message_bytes)
            answer, early = _shake_hands(sock, protocol, headers, deadline)
            return WebSocket(sock, protocol, answer, early)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, InvalidStatus):
                response = error.response
                names = {name.lower(): value for name, value in response.headers.raw_items()}
                raise api_error(response.status_code, names, bytes(response.body or b"")) from None
            if isinstance(error, TimeoutError):
                raise ApiTimeoutError(f"Connecting to {url} took longer than {timeout:g} s") from None
            if isinstance(error, (OSError, EOFError, InvalidHandshake)):
                raise ApiConnectionError(f"Cannot connect to {url}: {error}") from error
            raise

    def send(self, text: str) -> None:
        """Sends one message. Waits while the other side takes no more. Raises `ConnectionClosedError`."""
        data = text.encode()
        self._produce(lambda: self._protocol.send_text(data))
        if not self._flush(wait=True):
            raise self._closed()

    def receive(self) -> str | bytes:
        """The next message. Raises `ConnectionClosedError` when there will be none, having closed the socket."""
        try:
            while not self._messages:
                if self._broken or self._protocol.close_rcvd is not None or self._protocol.state is State.CLOSED:
                    self._flush(wait=False)
                    raise self._closed()
                self._wait_for_socket()
            return self._messages.popleft()
        except BaseException:
            self._tear_down()
            raise

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes the connection, politely at first, and within `CLOSE_TIMEOUT_S` in any case."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        with contextlib.suppress(ConnectionClosedError):
            self._produce(lambda: self._protocol.send_close(code, reason))
            self._flush(wait=True, deadline=deadline)
        if not self._ended.wait(_remaining(deadline, floor=0.0)):
            self._break()
            self._ended.wait(CLOSE_TIMEOUT_S)

    def reject(self, code: int, reason: str) -> None:
        """Closes the connection on behalf of the one that receives, and so does not wait for what will be received."""
        with contextlib.suppress(ConnectionClosedError):
            self._produce(lambda: self._protocol.send_close(code, reason))
            self._flush(wait=False)
        self._tear_down()

    def _produce(self, step: Callable[[], None]) -> None:
        """Lets the protocol make frames, and queues their bytes in that order."""
        with self._state:
            if self._broken or self._protocol.state is not State.OPEN:
                raise self._closed()
            step()
            self._collect()

    def _collect(self) -> None:
        """Moves what the protocol wants sent into the queue. The caller holds the state."""
        # An empty piece asks to half-close the socket; tearing it down does that soon enough.
        self._outgoing.extend(memoryview(data) for data in self._protocol.data_to_send() if data)

    def _flush(self, *, wait: bool, deadline: float | None = None) -> bool:
        """Writes the queue to the socket. False when the connection is broken, or `wait` is not allowed or over."""
        limit = -1.0 if deadline is None else _remaining(deadline, floor=0.0)
        if not (self._writing.acquire(timeout=limit) if wait else self._writing.acquire(blocking=False)):
            return False  # Another thread is at it, and whatever it leaves is tried again by `receive`.
        try:
            while True:
                with self._state:
                    # Also when the connection broke right after: it may have arrived, and its answer too.
                    if not self._outgoing:
                        return True
                    if self._broken:
                        return False
                    piece = self._outgoing[0]
                try:
                    with self._tls:
                        written = self._socket.send(piece)
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    if not wait or (deadline is not None and time.monotonic() > deadline):
                        return False
                    # Looks up now and then, because the socket may be torn down meanwhile.
                    self._poll(_WRITE, 0.5)
                    continue
                with self._state:
                    if written == len(piece):
                        self._outgoing.popleft()
                    else:
                        self._outgoing[0] = piece[written:]
        except OSError:
            self._break()
            return False
        except BaseException:
            # Interrupted in the middle of a frame (Ctrl-C): what follows would not be understood.
            self._break()
            raise
        finally:
            self._writing.release()

    def _wait_for_socket(self) -> None:
        """Waits until something can be read or written, or a ping is due, and does it."""
        events = _READ | _WRITE if self._outgoing else _READ
        due = self._heard_at + PING_INTERVAL_S if self._pinged_at is None else self._pinged_at + PONG_TIMEOUT_S
        happened = self._poll(events, max(0.0, due - time.monotonic()))
        if happened == 0:
            self._keep_alive()
        if happened & _READ:
            self._read()
        if self._outgoing:
            self._flush(wait=False)

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if self._pinged_at is None and now >= self._heard_at + PING_INTERVAL_S:
            self._pinged_at = now
            with contextlib.suppress(ConnectionClosedError):
                self._produce(lambda: self._protocol.send_ping(os.urandom(4)))
        elif self._pinged_at is not None and now >= self._pinged_at + PONG_TIMEOUT_S:
            self._break()

    def _read(self) -> None:
        try:
            with self._tls:
                data = self._socket.recv(_READ_BYTES)
                # What TLS has decrypted already does not make the socket readable again.
                while data and isinstance(self._socket, ssl.SSLSocket) and (more := self._socket.pending()):
                    data += self._socket.recv(more)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        self._heard_at = time.monotonic()
        self._pinged_at = None
        with self._state:
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
                self._broken = True
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
            self._collect()

    def _take(self, frame: Frame) -> None:
        """Puts the pieces of a message together. The caller holds the state."""
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        data = b"".join(self._fragments)
        self._fragments.clear()
        try:
            self._messages.append(data.decode() if self._is_text else data)
        except UnicodeDecodeError as error:
            self._protocol.fail(1007, f"{error.reason} at position {error.start}")

    def _poll(self, events: int, timeout_s: float) -> int:
        with _Selector() as selector:
            try:
                selector.register(self._socket, events)
            except (ValueError, OSError):
                return events  # Closed meanwhile: the caller finds out when it tries.
            ready = selector.select(timeout_s)
        return ready[0][1] if ready else 0

    def _break(self) -> None:
        """Gives the connection up: every thread that waits on the socket wakes and sees it."""
        self._broken = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _tear_down(self) -> None:
        self._break()
        with self._writing:  # A number that another thread still polls must not be given to a new file.
            self._socket.close()
        self._ended.set()

    def _closed(self) -> ConnectionClosedError:
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return closed_error(close.code, close.reason) if close is not None else closed_error(None, None)


def _shake_hands(
    sock: socket.socket, protocol: ClientProtocol, headers: Mapping[str, str], deadline: float
) -> tuple[dict[str, str], Sequence[Frame]]:
    request = protocol.connect()
    for name, value in {**headers, "User-Agent": USER_AGENT}.items():
        request.headers[name] = value
    protocol.send_request(request)
    for data in protocol.data_to_send():
        sock.settimeout(_remaining(deadline))
        sock.sendall(data)
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        sock.settimeout(_remaining(deadline))
        data = sock.recv(4096)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    response, *frames = protocol.events_received()
    raw = response.headers.raw_items() if not isinstance(response, Frame) else ()
    return {name.lower(): value for name, value in raw}, [frame for frame in frames if isinstance(frame, Frame)]


def _remaining(deadline: float, floor: float = 0.001) -> float:
    return max(floor, deadline - time.monotonic())
