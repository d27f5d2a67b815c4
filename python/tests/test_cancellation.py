"""Cancelled tasks of asyncio against a real server: nothing that nobody has goes on running."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from caisson import AsyncCaisson
from real_server import RealServer

pytestmark = [pytest.mark.anyio, pytest.mark.server]

# From before the first byte is sent to about when everything is ready.
DELAYS_S = (0.0, 0.005, 0.02, 0.05, 0.1, 0.3)


@pytest.fixture
async def client(clean_environment: None, server: RealServer) -> AsyncIterator[AsyncCaisson]:
    async with AsyncCaisson(token=server.token, endpoint=server.endpoint) as client:
        yield client


async def test_a_cancelled_create_leaves_no_sandbox_and_its_volume_free(client: AsyncCaisson, name: str) -> None:
    await client.volumes.create(name, "ord", "300MB")
    for delay_s in DELAYS_S:
        work = client.sandbox.create(volumes={"/data": name}, timeout="5m", labels={"test": name})
        task = asyncio.ensure_future(work)
        await asyncio.sleep(delay_s)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await (await task).kill()
        # A sandbox that lived on would hold the volume for its five minutes.
        async with client.sandbox.create(volumes={"/data": name}) as sandbox:
            assert (await sandbox.sh("echo free")).stdout_text == "free\n"
    running = [meta async for meta in await client.sandbox.list(labels={"test": name}) if meta["status"] == "running"]
    assert running == []
    await client.volumes.delete(name)


async def test_a_create_that_is_cancelled_together_with_its_answer_resets_the_connection(
    clean_environment: None,
) -> None:
    """A server takes a connection that is closed properly for one whose client has read the answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked, answer, answered, ended = (threading.Event() for _ in range(4))
    endings: list[str] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            key = next(
                line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
            ).split()[1]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            asked.set()
            answer.wait()
            head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            connection.sendall(head + b"x-deno-sandbox-id: sbx_ord_0\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            answered.set()
            try:
                endings.append("closed" if connection.recv(1) == b"" else "used")
            except ConnectionResetError:
                endings.append("reset")
            ended.set()
            connection.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with AsyncCaisson(token="ddo_test", endpoint=endpoint) as client:
            # The answer waits for the event loop; after so many turns of it the task is cancelled.
            for turns in range(8):
                for event in (asked, answer, answered, ended):
                    event.clear()
                task = asyncio.ensure_future(client.sandbox.create(timeout="5m"))
                await asyncio.to_thread(asked.wait)
                answer.set()
                answered.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
                if not task.cancel():
                    break
                with pytest.raises(asyncio.CancelledError):
                    await task
                await asyncio.to_thread(ended.wait)
            else:
                pytest.fail("the create was never done")
            await (await task)._connection.close()  # pyright: ignore[reportPrivateUsage]
            assert turns >= 2
            assert endings[:turns] == ["reset"] * turns
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(5)


async def test_a_cancelled_spawn_leaves_no_process(client: AsyncCaisson) -> None:
    async with client.sandbox.create() as sandbox:
        for delay_s in (0.0, 0.001, 0.003, 0.01):
            task = asyncio.ensure_future(sandbox.spawn("sleep", args=["4321"], stdout="piped"))
            await asyncio.sleep(delay_s)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await (await task).close()
        deadline = asyncio.get_running_loop().time() + 20
        while (await sandbox.sh("pgrep -c sleep", check=False)).stdout_text != "0\n":
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
