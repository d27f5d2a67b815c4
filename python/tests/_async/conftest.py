from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from caisson import AsyncCaisson, AsyncSandbox
from fake_server import SANDBOX_ID, Answer, FakeServer
from real_server import RealServer


@pytest.fixture
async def fake_client(fake: FakeServer) -> AsyncIterator[AsyncCaisson]:
    """A client of the scripted server, whose sandboxes end at once."""
    fake.rest["GET", f"/api/v3/sandbox/{SANDBOX_ID}"] = [Answer(200, {"id": SANDBOX_ID, "status": "stopped"})]
    async with AsyncCaisson(token="ddo_test", endpoint=fake.endpoint, call_timeout=20) as client:
        yield client


@pytest.fixture
async def client(clean_environment: None, server: RealServer, name: str) -> AsyncIterator[AsyncCaisson]:
    """A client of the real server. What a test made under its own name, and left, is deleted at the end."""
    async with AsyncCaisson(token=server.token, endpoint=server.endpoint) as client:
        yield client
        for volume in [volume async for volume in await client.volumes.list(search=name)]:
            await client.volumes.delete(volume)
        for snapshot in [snapshot async for snapshot in await client.snapshots.list(search=name)]:
            await client.snapshots.delete(snapshot)


@pytest.fixture
async def sandbox(client: AsyncCaisson) -> AsyncIterator[AsyncSandbox]:
    """A fresh sandbox on the real server."""
    async with client.sandbox.create() as sandbox:
        yield sandbox
