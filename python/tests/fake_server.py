"""A server that a test scripts line by line, to provoke what a real one does once in a thousand years."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

SANDBOX_ID = "sbx_ord_0123456789abcdefghjk"
_WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


class Drop:
    """Instead of an answer: the connection is cut."""


@dataclass
class Failure:
    """Instead of a result: the error of the operation (`error`), or of the call itself (`rpc_error`)."""

    error: dict[str, Any] | None = None
    rpc_error: dict[str, Any] | None = None


class Later:
    """Instead of a result: nothing, for now."""


Handler = Callable[[Request], "Answer | type[Drop]"]
RpcHandler = Callable[["FakeSession", int, dict[str, Any]], Any]


class FakeSession:
    """One WebSocket, seen from the server."""

    def __init__(self, server: FakeServer, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self._protocol = Protocol(Side.SERVER, max_size=None)
        self._lock = threading.Lock()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.notifications: list[tuple[str, dict[str, Any]]] = []
        # While this is not set, nothing is read: the client's messages pile up in the network.
        self.reads = threading.Event()
        self.reads.set()

    def answer(self, call_id: int, ok: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": call_id, "result": {"ok": ok}})

    def start(self, stream_id: int) -> None:
        self._notify("start", streamId=stream_id)

    def enqueue(self, stream_id: int, data: bytes) -> None:
        self._notify("enqueue", streamId=stream_id, data=base64.b64encode(data).decode())

    def end(self, stream_id: int) -> None:
        self._notify("end", streamId=stream_id)

    def cancel(self, stream_id: int) -> None:
        self._notify("cancel", streamId=stream_id, reason=None)

    def send(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        with self._lock:
            if self._protocol.state is not State.OPEN:
                raise BrokenPipeError("the client has closed the connection")
            self._protocol.send_text(text.encode())
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        with self._lock:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code, reason)
                self._flush()

    def drop(self) -> None:
        """Cuts the connection without a word."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        fragments: list[bytes] = []
        while True:
            self.reads.wait()
            data = self._connection.recv(65536)
            if not data:
                return
            with self._lock:
                self._protocol.receive_data(data)
                frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
                self._flush()
            for frame in frames:
                if frame.opcode in (Opcode.TEXT, Opcode.CONT):
                    fragments.append(bytes(frame.data))
                    if frame.fin:
                        self._handle(json.loads(b"".join(fragments)))
                        fragments.clear()
                elif frame.opcode is Opcode.CLOSE:
                    return

    def _handle(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self.notifications.append((message["method"], message["params"]))
            self._server.notification(self, message["method"], message["params"])
            return
        self.calls.append((message["method"], message["params"]))
        handler = self._server.rpc.get(message["method"])
        result = (
            Failure(rpc_error={"code": -32601, "message": "Method not found"})
            if handler is None
            else handler(self, message["id"], message["params"])
        )
        if result is Later:
            return
        if isinstance(result, Failure):
            body = {"error": result.rpc_error} if result.rpc_error else {"result": {"error": result.error}}
            self.send({"jsonrpc": "2.0", "id": message["id"], **body})
        else:
            self.answer(message["id"], result)

    def _notify(self, kind: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": f"$sandbox.stream.{kind}", "params": params})

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)


class FakeServer:
    """Listens on a port of its own. Answers come from `rest` and `rpc`, and everything that arrives is kept."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.rest: dict[tuple[str, str], list[Any] | Handler] = {}
        self.rpc: dict[str, RpcHandler] = {}
        self.notification: Callable[[FakeSession, str, dict[str, Any]], None] = lambda *_: None
        self.upgrade: Answer | None = None
        # Added to the answer of an upgrade that succeeds.
        self.upgrade_headers: dict[str, str] = {}
        self.before_upgrade: Callable[[], object] = lambda: None
        self.requests: list[Request] = []
        self.sessions: list[FakeSession] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._spawn(self._accept)

    def stop(self) -> None:
        for listener in (self._listener, *self._connections):
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for session in self.sessions:
            session.reads.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} of the fake server did not end"

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                return
            self._connections.append(connection)
        reader = connection.makefile("rb")
        try:
            while (request := _read_request(reader)) is not None:
                self.requests.append(request)
                if "upgrade" in request.headers:
                    self._serve_websocket(connection, request)
                    return
                answer = self._find(request)
                if answer is Drop:
                    return
                connection.sendall(_write_answer(answer))
        except OSError:
            return
        finally:
            reader.close()
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _find(self, request: Request) -> Any:
        script = self.rest.get((request.method, request.path.partition("?")[0]))
        if script is None:
            return Answer(404, {"code": "NOT_FOUND", "message": f"no script for {request.method} {request.path}"})
        if isinstance(script, list):
            answers = cast("list[Any]", script)
            return answers.pop(0) if len(answers) > 1 else answers[0]
        return script(request)

    def _serve_websocket(self, connection: socket.socket, request: Request) -> None:
        self.before_upgrade()
        if self.upgrade is not None:
            connection.sendall(_write_answer(self.upgrade))
            return
        session = FakeSession(self, connection)
        self.sessions.append(session)
        digest = hashlib.sha1((request.headers["sec-websocket-key"] + _WEBSOCKET_GUID).encode()).digest()
        added = "".join(f"{name}: {value}\r\n" for name, value in self.upgrade_headers.items())
        connection.sendall(
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
                f"x-deno-sandbox-id: {SANDBOX_ID}\r\nx-deno-trace-id: trace-1\r\n{added}\r\n"
            ).encode()
        )
        session.run()


def _read_request(reader: Any) -> Request | None:
    line = reader.readline().decode("latin-1")
    if not line:
        return None
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else None)


def _write_answer(answer: Answer) -> bytes:
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} Scripted\r\n{head}\r\n".encode() + body
