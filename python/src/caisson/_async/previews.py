"""Previews: addresses of servers inside sandboxes."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta
from typing import Any

from .._options import Options
from .._records import CreatedPreview, Preview
from .._wire import duration_seconds
from .http import AsyncHttp, path_part


class AsyncPreviews:
    """`client.previews`: names under which servers inside sandboxes are reached. They end with their sandboxes."""

    def __init__(self, http: AsyncHttp, options: Options) -> None:
        self._http = http
        self._options = options

    async def create(
        self,
        sandbox_id: str,
        *,
        port: int | None = None,
        pid: int | None = None,
        private: bool = False,
        rewrite_host: bool = False,
    ) -> CreatedPreview:
        """Exposes a server inside a sandbox.

        Args:
            sandbox_id: The sandbox.
            port: The port that the server listens on. Give this or `pid`.
            pid: The process that serves, wherever it listens.
            private: Let in only who has the token of the result or a signed link. Default: everybody who knows the
                address.
            rewrite_host: Show the server inside `localhost:port` as its host. Default: False.

        Raises:
            NotFoundError: When the sandbox does not run.
        """
        if (port is None) == (pid is None):
            raise ValueError("Give either port or pid")
        target: dict[str, Any] = {"port": port} if port is not None else {"pid": pid}
        body = {**target, "private": private, "rewrite_host": rewrite_host}
        return CreatedPreview(await self._http.post(self._url(sandbox_id), body))

    async def list(self, sandbox_id: str) -> builtins.list[Preview]:
        """The previews of a running sandbox, oldest first."""
        return [Preview(item) for item in await self._http.get(self._url(sandbox_id))]

    async def revoke(self, sandbox_id: str, domain: str) -> None:
        """Ends a preview, and every connection through it.

        Raises:
            NotFoundError: When the sandbox has no such preview.
        """
        await self._http.delete(f"{self._url(sandbox_id)}/{path_part(domain)}")

    async def link(
        self, sandbox_id: str, domain: str, *, expires_in: str | float | timedelta = "60m", path: str = "/"
    ) -> tuple[str, datetime]:
        """Signs a link that opens a private preview in a browser, and returns it with the time at which it expires.

        Args:
            sandbox_id: The sandbox.
            domain: The preview's domain.
            expires_in: How long it works, as for `timeout` of a sandbox; at most a week.
            path: Where it leads on the preview.
        """
        body = {"expires_in_seconds": int(duration_seconds(expires_in) or 0), "path": path}
        answer = await self._http.post(f"{self._url(sandbox_id)}/{path_part(domain)}/link", body)
        return answer["url"], datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))

    def _url(self, sandbox_id: str) -> str:
        origin = self._options.origin_of_sandbox(sandbox_id)
        return f"{origin}/api/v3/sandbox/{path_part(sandbox_id)}/expose/http"
