"""Storage pools: what holds the server's space."""

from __future__ import annotations

import builtins

from .._records import Pool
from .http import AsyncHttp


class AsyncPools:
    """`client.pools`: for tokens of the server's first organization. Others get `PermissionDeniedError`."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v1/pools"

    async def list(self) -> builtins.list[Pool]:
        """What each region's pool holds."""
        return [Pool.from_wire(item) for item in await self._http.get(self._url)]

    async def grow(self) -> builtins.list[Pool]:
        """Applies a `pool.size` that was raised in the server's settings, without a restart.

        Raises:
            BadRequestError: When the settings name no size, or a smaller one.
        """
        return [Pool.from_wire(item) for item in await self._http.post(f"{self._url}/grow", {}, repeatable=True)]
