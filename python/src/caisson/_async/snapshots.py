"""Snapshots: unchangeable images of volumes."""

from __future__ import annotations

import builtins
from collections.abc import Mapping

from .._records import Descendant, Snapshot, id_of
from .http import AsyncHttp, path_part
from .pages import AsyncPaginatedList, fetch_page, list_params


class AsyncSnapshots:
    """`client.snapshots`. Snapshots are taken with `client.volumes.snapshot`."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v2/snapshots"

    async def get(self, id_or_slug: str) -> Snapshot | None:
        """The snapshot with this id or slug; None when there is none."""
        wire = await self._http.get_or_none(self._of(id_or_slug))
        return None if wire is None else Snapshot.from_wire(wire)

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
        search: str | None = None,
        labels: Mapping[str, str] | None = None,
        deleted: bool = False,
    ) -> AsyncPaginatedList[Snapshot]:
        """Lists snapshots, newest first.

        Args:
            cursor: Where to start: the `next_cursor` of an earlier page.
            limit: Snapshots per page, 1 to 100. Default: 30.
            search: Only snapshots whose slug contains this text, in any case.
            labels: Only snapshots that have all these labels.
            deleted: Lists the deleted snapshots that can still be restored, instead of the live ones.
        """
        params = list_params(cursor=cursor, limit=limit, search=search, labels=labels, deleted=deleted)
        return await fetch_page(self._http, self._url, params, Snapshot.from_wire)

    async def delete(self, id_or_slug: str | Snapshot, *, now: bool = False) -> None:
        """Deletes a snapshot. What runs from it, or was made from it, is not harmed.

        Args:
            id_or_slug: The snapshot.
            now: For good: nothing can restore it. Its space is free when this returns, or, where sandboxes still run
                from it, after the last of them.

        Raises:
            NotFoundError: When there is no such snapshot.
        """
        await self._http.delete(self._of(id_or_slug) + ("?now=true" if now else ""))

    async def purge(self, snapshot_id: str | Snapshot) -> None:
        """Frees the space of a deleted snapshot before its time. Nothing can restore it then.

        Raises:
            NotFoundError: When it is not deleted, or gone already.
        """
        await self._http.request("POST", f"{self._of(snapshot_id)}/purge", body={}, repeatable=False)

    async def restore(self, snapshot_id: str | Snapshot, *, slug: str | None = None) -> Snapshot:
        """Brings a deleted snapshot back, under the slug it had or a new one.

        Raises:
            ConflictError: When the slug is taken.
            NotFoundError: When it was never there, is not deleted, or its data is gone.
        """
        body = {} if slug is None else {"slug": slug}
        return Snapshot.from_wire(await self._http.post(f"{self._of(snapshot_id)}/restore", body))

    async def update(self, id_or_slug: str | Snapshot, *, labels: Mapping[str, str]) -> Snapshot:
        """Replaces the labels of a snapshot."""
        return Snapshot.from_wire(await self._http.patch(self._of(id_or_slug), {"labels": dict(labels)}))

    async def descendants(self, id_or_slug: str | Snapshot) -> builtins.list[Descendant]:
        """The volumes that were made from a snapshot, the snapshots taken of those, and so on."""
        wire = await self._http.get(f"{self._of(id_or_slug)}/descendants")
        return [Descendant(item) for item in wire]

    def _of(self, id_or_slug: str | Snapshot) -> str:
        return f"{self._url}/{path_part(id_of(id_or_slug))}"
