from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from fake_server import FakeServer
from real_server import RealServer, running_server

VARIABLES = ("TOKEN", "ENDPOINT", "ORG")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the settings of whoever runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(f"CAISSON_{name}", raising=False)
        monkeypatch.delenv(f"DENO_DEPLOY_{name}", raising=False)
    monkeypatch.delenv("DENO_SANDBOX_ENDPOINT", raising=False)
    monkeypatch.delenv("DENO_SANDBOX_BASE_DOMAIN", raising=False)


@pytest.fixture
def fake(clean_environment: None) -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server() -> Iterator[RealServer]:
    """One real server for all tests that need one."""
    with running_server() as server:
        yield server


@pytest.fixture
def name() -> str:
    """A slug that no other test has, also on a server that is used for several runs."""
    return f"t{uuid.uuid4().hex[:12]}"
