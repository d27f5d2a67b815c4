"""TLS, where reading and writing share one state: the same floods as without it."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from typing import Any, cast

import pytest
import trustme

from caisson import AsyncCaisson, Caisson, errors
from fake_server import SANDBOX_ID, Answer, FakeServer, FakeSession, Later

DATA = bytes(range(256)) * (16 * 4096)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def fake_tls(clean_environment: None, authority: trustme.CA) -> Iterator[FakeServer]:
    """`cat` behind TLS, in a server that reads nothing while it cannot write."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # trustme also takes contexts of a library that is not installed, whose type is therefore unknown.
    cast(Any, authority.issue_cert("127.0.0.1")).configure_cert(context)
    server = FakeServer(context)
    server.rest["GET", f"/api/v3/sandbox/{SANDBOX_ID}"] = [Answer(200, {"status": "stopped"})]

    def wait(session: FakeSession, *_: Any) -> Any:
        session.start(1)
        return Later

    def copy(session: FakeSession, method: str, params: dict[str, Any]) -> None:
        if method == "$sandbox.stream.enqueue":
            session.enqueue(1, base64.b64decode(params["data"]))
        elif method == "$sandbox.stream.end":
            session.end(1)

    server.rpc |= {"spawn": lambda *_: {"pid": 1, "stdoutStreamId": 1, "stderrStreamId": None}, "processWait": wait}
    server.notification = copy
    yield server
    server.stop()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    cast(Any, authority).configure_trust(context)
    return context


def test_the_synchronous_half_sends_and_receives_at_once(fake_tls: FakeServer, trusting: ssl.SSLContext) -> None:
    with (
        Caisson(token="ddo_t", endpoint=fake_tls.endpoint, ssl_context=trusting) as client,
        client.sandbox.create() as sandbox,
    ):
        process = sandbox.spawn("cat", stdin_data=DATA, stdout="piped", stderr="null")
        assert hashlib.sha256(process.stdout.read()).digest() == hashlib.sha256(DATA).digest()


@pytest.mark.anyio
async def test_the_asynchronous_half_sends_and_receives_at_once(fake_tls: FakeServer, trusting: ssl.SSLContext) -> None:
    async with (
        AsyncCaisson(token="ddo_t", endpoint=fake_tls.endpoint, ssl_context=trusting) as client,
        client.sandbox.create() as sandbox,
    ):
        process = await sandbox.spawn("cat", stdin_data=DATA, stdout="piped", stderr="null")
        assert hashlib.sha256(await process.stdout.read()).digest() == hashlib.sha256(DATA).digest()


def test_a_server_with_an_unknown_certificate_is_refused(fake_tls: FakeServer) -> None:
    with Caisson(token="ddo_t", endpoint=fake_tls.endpoint, max_retries=0) as client:
        with pytest.raises(errors.ApiConnectionError, match="certificate verify failed"):
            client.volumes.list()
        with pytest.raises(errors.ApiConnectionError, match="certificate verify failed"):
            client.sandbox.create()
