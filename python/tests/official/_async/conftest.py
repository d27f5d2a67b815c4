from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from deno_sandbox import AsyncDenoDeploy

from caisson import AsyncCaisson, ConflictError, Volume
from caisson._async.concurrency import sleep
from real_server import RealServer


@pytest.fixture
async def sdk(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, server: RealServer, name: str
) -> AsyncIterator[AsyncDenoDeploy]:
    """The official client, set up as its users do it: through the environment."""
    monkeypatch.setenv("DENO_DEPLOY_TOKEN", server.token)
    monkeypatch.setenv("DENO_DEPLOY_ENDPOINT", server.endpoint)
    monkeypatch.setenv("DENO_SANDBOX_ENDPOINT", server.endpoint)
    yield AsyncDenoDeploy()
    async with AsyncCaisson() as client:
        for volume in [volume async for volume in await client.volumes.list(search=name)]:
            await delete_when_free(client, volume)
        for snapshot in [snapshot async for snapshot in await client.snapshots.list(search=name)]:
            await client.snapshots.delete(snapshot)


async def delete_when_free(client: AsyncCaisson, volume: Volume) -> None:
    """Unlike ours, the official client leaves a sandbox without waiting for its end."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return await client.volumes.delete(volume)
        except ConflictError:
            if time.monotonic() > deadline:
                raise
        await sleep(0.02)
