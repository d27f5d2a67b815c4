from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from caisson import AsyncCaisson
from fake_server import SANDBOX_ID, Answer, FakeServer


@pytest.fixture
async def fake_client(fake: FakeServer) -> AsyncIterator[AsyncCaisson]:
    """A client of the scripted server, whose sandboxes end at once."""
    fake.rest["GET", f"/api/v3/sandbox/{SANDBOX_ID}"] = [Answer(200, {"id": SANDBOX_ID, "status": "stopped"})]
    async with AsyncCaisson(token="ddo_test", endpoint=fake.endpoint, call_timeout=20) as client:
        yield client
