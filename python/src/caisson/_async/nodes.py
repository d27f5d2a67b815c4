"""Nodes: the machines that hold volumes and run sandboxes."""

from __future__ import annotations

import builtins

from .._records import CreatedJoinToken, JoinToken, Node, NodeAuthority, NodeLoss
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

    async def set_address(self, id: str, address: str) -> Node:
        """Says where a node is from now on. A connection to it that stands stays.

        Args:
            id: The node.
            address: `HOST:PORT`, where the server reaches it.

        Raises:
            NotFoundError: When there is none with this id.
            BadRequestError: When the address is none, or the node is in the process of a server.
        """
        return Node(await self._http.patch(self._of(id), {"address": address}))

    async def loss(self, id: str) -> NodeLoss:
        """What would be lost if the node were forgotten as lost.

        Raises:
            NotFoundError: When there is none with this id.
        """
        return NodeLoss(await self._http.get(f"{self._of(id)}/loss"))

    async def forget(self, id: str, *, lost: bool = False) -> None:
        """Forgets a node that is gone for good.

        Args:
            id: The node.
            lost: What it has is lost with it: its sandboxes end, and its volumes and its snapshots that are not
                replicated cannot be used any more.

        Raises:
            NotFoundError: When there is none with this id.
            ConflictError: While it is live, or, unless it is `lost`, has volumes, snapshots or sandboxes.
        """
        await self._http.delete(self._of(id) + ("?lost=true" if lost else ""))

    async def create_token(self, *, expires_seconds: int | None = None, region: str | None = None) -> CreatedJoinToken:
        """Makes a token with which one machine joins as a node, once.

        The machine reaches the server as this client does, or by the server's setting `public_url`.

        Args:
            expires_seconds: How long it can be used. Default: 3600; at most 30 days.
            region: The only region that the node may have. Default: those in its settings.

        Raises:
            BadRequestError: When it would be good for less than a second or more than 30 days, or the region is none.
        """
        wire = {"expires_seconds": expires_seconds, "region": region}
        body = {name: value for name, value in wire.items() if value is not None}
        return CreatedJoinToken(await self._http.post(f"{self._url}/tokens", body))

    async def list_tokens(self) -> builtins.list[JoinToken]:
        """The tokens for joining that have not expired, the newest first, without their text."""
        return [JoinToken(item) for item in await self._http.get(f"{self._url}/tokens")]

    async def revoke_token(self, id: str) -> None:
        """Revokes a token for joining; a node that has joined with it stays.

        Raises:
            NotFoundError: When there is none with this id that has not expired.
        """
        await self._http.delete(f"{self._url}/tokens/{path_part(id)}")

    async def authority(self) -> NodeAuthority:
        """The authority that signs for nodes and servers, and how far its renewal is."""
        return NodeAuthority(await self._http.get(f"{self._url}/authority"))

    async def renew_authority(self) -> NodeAuthority:
        """Makes a new authority, which is believed beside the old one, and which each node gets a certificate of.

        Raises:
            BadRequestError: While it is being renewed already, and before there is one.
        """
        return NodeAuthority(await self._http.post(f"{self._url}/authority/renew", {}))

    async def retire_authority(self, *, lock_out: bool = False) -> NodeAuthority:
        """Retires the old one of two authorities, and the tokens for joining, which name it.

        Args:
            lock_out: Also if that locks out nodes until they join again.

        Raises:
            BadRequestError: Unless there are two authorities.
            ConflictError: While nodes would be locked out, unless `lock_out`.
        """
        return NodeAuthority(await self._http.post(f"{self._url}/authority/retire", {"lock_out": lock_out}))

    def _of(self, id: str) -> str:
        return f"{self._url}/{path_part(id)}"
