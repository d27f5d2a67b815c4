"""Requests about a sandbox that do not go through its connection."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from .._options import Options
from .._records import SandboxMeta
from ..errors import ApiError, CaissonError, ConflictError
from .concurrency import sleep
from .http import AsyncHttp, path_part

# The server answers a wait after 30 seconds at the latest; this leaves room for the way there and back.
_WAIT_TIMEOUT_S = 40.0
_POLL_S = 0.1


class AsyncSandboxControl:
    """The per-sandbox part of the API, on the origin that is nearest to the sandbox."""

    def __init__(self, http: AsyncHttp, options: Options) -> None:
        self._http = http
        self._options = options

    async def get(self, sandbox_id: str) -> SandboxMeta | None:
        wire = await self._http.get_or_none(self._url(sandbox_id))
        return None if wire is None else SandboxMeta.from_wire(wire)

    async def kill(self, sandbox_id: str) -> None:
        await self._http.delete(self._url(sandbox_id))

    async def extend(self, sandbox_id: str, stop_at: datetime) -> datetime:
        body = {"stop_at_ms": int(stop_at.timestamp() * 1000)}
        answer = await self._http.patch(self._url(sandbox_id), body)
        return datetime.fromtimestamp(answer["stop_at_ms"] / 1000, timezone.utc)

    async def expose_http(self, sandbox_id: str, target: Mapping[str, Any]) -> str:
        return (await self._http.post(f"{self._url(sandbox_id)}/expose/http", target))["domain"]

    async def revoke_http(self, sandbox_id: str, domain: str) -> None:
        """Gives back a name that could not be bound: it would count as one of the sandbox's until that ends.

        Where that fails too, it does.
        """
        with suppress(CaissonError):
            await self._http.delete(f"{self._url(sandbox_id)}/expose/http/{path_part(domain)}")

    async def expose_vscode(self, sandbox_id: str) -> str:
        return (await self._http.post(f"{self._url(sandbox_id)}/expose/vscode", {}))["domain"]

    async def expose_ssh(self, sandbox_id: str) -> Mapping[str, Any]:
        return await self._http.post(f"{self._url(sandbox_id)}/expose/ssh", {})

    async def wait_stopped(self, sandbox_id: str) -> None:
        """Waits until a sandbox that is ending has ended: its volumes are durable and free then.

        A server that cannot tell (the path is not part of the official protocol) counts as done. Raises ConflictError
        with `DATA_LOST` when its end has lost something.
        """
        deadline = time.monotonic() + self._options.stop_timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise CaissonError(
                    f"Sandbox {sandbox_id} has not ended {self._options.stop_timeout:g} s after its connection was "
                    f"closed; its volumes may still be attached. Kill it with `client.sandbox.kill`, and see the "
                    f"server's log for what it waits for"
                )
            try:
                answer = await self._http.get(
                    self._url(sandbox_id), {"wait": "stopped"}, timeout=min(left, _WAIT_TIMEOUT_S)
                )
            except ApiError as error:
                if error.status in (404, 405, 501):
                    return
                raise
            if answer.get("status") == "stopped":
                if answer.get("damages"):
                    raise ConflictError(
                        409,
                        "DATA_LOST",
                        f"Sandbox {sandbox_id} has ended, but not well. {'. '.join(answer['damages'])}",
                    )
                return
            # A server that does not know `wait` answers at once.
            await sleep(_POLL_S)

    def _url(self, sandbox_id: str) -> str:
        return f"{self._options.origin_of_sandbox(sandbox_id)}/api/v3/sandbox/{path_part(sandbox_id)}"
