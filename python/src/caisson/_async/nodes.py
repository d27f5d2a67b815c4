"""Nodes: the machines that hold volumes and run sandboxes."""

from __future__ import annotations

import builtins

from .._records import Node
from .http import AsyncHttp, path_part


class AsyncNodes:
    """`client.nodes`: for tokens of the server's first organization. Others get `PermissionDeniedError`."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v1/nodes"

    async def list(self) -> builtins.list[Node]:
        """All nodes."""
        return [Node(item) for item in await self._http.get(self._url)]

    async def get(self, id: str) -> Node:
        """Gets a node.

        Raises:
            NotFoundError: When there is none with this id.
        """
        return Node(await self._http.get(self._of(id)))

    async def drain(self, id: str) -> Node:
        """Keeps new sandboxes away from a node, until `undrain`; those that it has go on.

        Raises:
            NotFoundError: When there is none with this id.
        """
        return Node(await self._http.post(f"{self._of(id)}/drain", {}, repeatable=True))

    async def undrain(self, id: str) -> Node:
        """Lets a node have new sandboxes again.

        Raises:
            NotFoundError: When there is none with this id.
        """
        return Node(await self._http.post(f"{self._of(id)}/undrain", {}, repeatable=True))

    async def forget(self, id: str) -> None:
        """Forgets a node that is gone for good.

        Raises:
            NotFoundError: When there is none with this id.
            ConflictError: While it is live, or has volumes, snapshots or sandboxes.
        """
        await self._http.delete(self._of(id))

    def _of(self, id: str) -> str:
        return f"{self._url}/{path_part(id)}"
