"""Cancelled tasks of asyncio against a real server: nothing that nobody has goes on running."""

from __future__ import annotations

import asyncio
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
