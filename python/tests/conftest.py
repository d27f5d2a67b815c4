from __future__ import annotations

from collections.abc import Iterator

import pytest

from fake_server import FakeServer

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
