"""Snapshots: unchangeable images of volumes."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Mapping

from .._records import Descendant, Snapshot, SnapshotVerification, id_of
from .http import AsyncHttp, path_part
from .pages import AsyncPaginatedList, fetch_page, list_params

# A day: reading a snapshot takes as long as it does.
_VERIFIED_S = 86_400.0


class AsyncSnapshots:
    """`client.snapshots`. Snapshots are taken with `client.volumes.snapshot`, or imported."""

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

    async def replicate(self, id_or_slug: str | Snapshot) -> Snapshot:
        """Asks for a snapshot to be brought into the server's snapshot store, whatever its policy, in the background.

        `replication.state` of `get` becomes `replicated` when all of it is there. One that failed is tried at once.
        """
        return Snapshot.from_wire(await self._http.post(f"{self._of(id_or_slug)}/replicate", {}, repeatable=True))

    async def verify(self, id_or_slug: str | Snapshot) -> SnapshotVerification:
        """Reads a replicated snapshot whole, in the snapshot store and in its pool, and tells what is damaged.

        A damaged copy is uploaded again from a whole image. It takes as long as the reading does.
        """
        url = f"{self._of(id_or_slug)}/verify"
        response = await self._http.request("POST", url, body={}, timeout=_VERIFIED_S, repeatable=False)
        return SnapshotVerification.from_wire(response.json())

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

    async def export(self, id_or_slug: str | Snapshot, *, raw: bool = False) -> AsyncIterator[bytes]:
        """A snapshot as one file, piece by piece, which `import_` of any server takes.

        The file shows it when a bit of it changed. The snapshot can be used meanwhile, and deleted; when it is deleted
        for good, this fails.

            with open("tools-v1.snapshot", "wb") as file:
                async for piece in client.snapshots.export("tools-v1"):
                    file.write(piece)

        Args:
            id_or_slug: The snapshot.
            raw: The image of the ext4 file system itself, zeros included. Nothing in it shows damage, and labels and
                the like are not in it.

        Raises:
            NotFoundError: When there is no such snapshot.
            RateLimitError: When too many exports and imports are under way.
            ApiConnectionError: When the connection broke before the end: what came is not all of it.
        """
        params = {"raw": "true"} if raw else {}
        async for piece in self._http.download(f"{self._of(id_or_slug)}/export", params):
            yield piece

    async def import_(
        self,
        content: AsyncIterable[bytes],
        *,
        slug: str,
        region: str | None = None,
        labels: Mapping[str, str] | None = None,
        raw: bool = False,
        bootable: bool = False,
    ) -> Snapshot:
        """Makes a snapshot of what `export` gave, here or on another server, or of a raw image.

        The content is taken at the pace of the server, once. When this returns, all of it was verified and the
        snapshot is durable; when it raises, there is nothing of it.

        Args:
            content: The bytes, in pieces.
            slug: Of the new snapshot.
            region: Where. Default: the server's first region.
            labels: Default: those that it was exported with.
            raw: The content is the image of an ext4 file system, without a partition table.
            bootable: Sandboxes may boot from it; only with `raw`, because an exported file says it itself.

        Raises:
            ApiError: With the code `INVALID_SNAPSHOT_FILE` when the content is damaged, was cut, or has a file system
                that the server does not take.
            ConflictError: When the slug is taken.
            BadRequestError: With the code `INVALID_CAPACITY` when it is larger than a volume may be.
            InsufficientStorageError: When the pool has no room for it.
        """
        params = {"slug": slug}
        params.update({f"labels[{key}]": value for key, value in (labels or {}).items()})
        if region is not None:
            params["region"] = region
        if raw:
            params["raw"] = "true"
        if bootable:
            params["bootable"] = "true"
        return Snapshot.from_wire(await self._http.upload(f"{self._url}/import", params, content))

    async def descendants(self, id_or_slug: str | Snapshot) -> builtins.list[Descendant]:
        """The volumes that were made from a snapshot, the snapshots taken of those, and so on."""
        wire = await self._http.get(f"{self._of(id_or_slug)}/descendants")
        return [Descendant(item) for item in wire]

    def _of(self, id_or_slug: str | Snapshot) -> str:
        return f"{self._url}/{path_part(id_of(id_or_slug))}"
