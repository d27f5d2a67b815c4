"""Volumes: read-write storage that outlives sandboxes."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Literal

from .._records import Descendant, Snapshot, Volume, id_of
from .http import AsyncHttp, path_part
from .pages import AsyncPaginatedList, fetch_page, list_params


class AsyncVolumes:
    """`client.volumes`. Every method raises `ApiError` subclasses when the server refuses."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v2/volumes"

    async def create(
        self,
        slug: str,
        region: str,
        capacity: int | str,
        *,
        from_snapshot: str | Snapshot | None = None,
        storage_class: Literal["local", "replicated"] | None = None,
        inodes: int | None = None,
        labels: Mapping[str, str] | None = None,
        every: str | None = None,
        idempotency_key: str | None = None,
    ) -> Volume:
        """Makes a volume.

        Args:
            slug: Its name: 2 to 32 characters of a-z, 0-9 and "-", unique among volumes and snapshots.
            region: The region to make it in, for example "ord".
            capacity: Its size: bytes, or a number with kB, MB, GB (1000) or KiB, MiB, GiB (1024), for example "10GB".
            from_snapshot: What it starts as: a snapshot, or "builtin:debian-13" for a bootable Debian. Default: empty.
            storage_class: Where its bytes live: "local", in the pool of a node; "replicated", in the replicated pool
                of the server, if it has one. Default: as the server's settings say. A volume that is made from a
                snapshot of the other class is a whole copy of it.
            inodes: How many files, directories and links a blank volume can hold at least: 1024 to one for every 4 KiB.
                Default: one for every 10 KiB. Each takes 256 bytes. Clones and snapshots keep them, and growing adds in
                proportion; with `from_snapshot` they cannot be chosen.
            labels: At most 5 labels of yours.
            every: How often the server makes a snapshot of it by itself, as in `schedule`. Default: never.
            idempotency_key: Makes repetitions of this call, by other processes too, give the same volume.
                Default: a new key, used for the retries of this one call.

        Raises:
            ConflictError: When the slug is taken.
            BadRequestError: When a value is not acceptable.
            InsufficientStorageError: When the storage pool is full.
        """
        body: dict[str, object] = {"slug": slug, "region": region, "capacity": capacity}
        if from_snapshot is not None:
            body["from"] = id_of(from_snapshot)
        if storage_class is not None:
            body["storage_class"] = storage_class
        if inodes is not None:
            body["inodes"] = inodes
        if labels is not None:
            body["labels"] = dict(labels)
        if every is not None:
            body["every"] = every
        return Volume.from_wire(await self._http.create(self._url, body, idempotency_key=idempotency_key))

    async def get(self, id_or_slug: str) -> Volume | None:
        """The volume with this id or slug; None when there is none."""
        wire = await self._http.get_or_none(self._of(id_or_slug))
        return None if wire is None else Volume.from_wire(wire)

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
        search: str | None = None,
        labels: Mapping[str, str] | None = None,
        deleted: bool = False,
    ) -> AsyncPaginatedList[Volume]:
        """Lists volumes, newest first.

        Args:
            cursor: Where to start: the `next_cursor` of an earlier page.
            limit: Volumes per page, 1 to 100. Default: 30.
            search: Only volumes whose slug contains this text, in any case.
            labels: Only volumes that have all these labels.
            deleted: Lists the deleted volumes that can still be restored, instead of the live ones.
        """
        params = list_params(cursor=cursor, limit=limit, search=search, labels=labels, deleted=deleted)
        return await fetch_page(self._http, self._url, params, Volume.from_wire)

    async def delete(self, id_or_slug: str | Volume, *, now: bool = False) -> None:
        """Deletes a volume. Its slug is free at once; it can be restored until its `purge_at`, by default for 24 hours.

        Args:
            id_or_slug: The volume.
            now: For good: its space is free when this returns, and nothing can restore it.

        Raises:
            ConflictError: When a sandbox has it mounted.
            NotFoundError: When there is no such volume.
        """
        await self._http.delete(self._of(id_or_slug) + ("?now=true" if now else ""))

    async def purge(self, volume_id: str | Volume) -> None:
        """Frees the space of a deleted volume before its time. Nothing can restore it then.

        Raises:
            NotFoundError: When it is not deleted, or gone already.
        """
        await self._http.request("POST", f"{self._of(volume_id)}/purge", body={}, repeatable=False)

    async def acknowledge(self, id_or_slug: str | Volume) -> Volume:
        """Says that you know what went wrong with a volume: its `last_error` is None from here on."""
        return Volume.from_wire(await self._http.post(f"{self._of(id_or_slug)}/acknowledge", {}, repeatable=True))

    async def snapshot(
        self,
        id_or_slug: str | Volume,
        *,
        slug: str,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Snapshot:
        """Takes a snapshot of a volume, also of one that a sandbox is using; see `Snapshot.consistency`.

        Args:
            id_or_slug: The volume.
            slug: The snapshot's name, unique among volumes and snapshots.
            labels: At most 5 labels of yours.
            idempotency_key: As in `create`.
        """
        body: dict[str, object] = {"slug": slug}
        if labels is not None:
            body["labels"] = dict(labels)
        url = f"{self._of(id_or_slug)}/snapshot"
        return Snapshot.from_wire(await self._http.create(url, body, idempotency_key=idempotency_key))

    async def restore(self, volume_id: str | Volume, *, slug: str | None = None) -> Volume:
        """Brings a deleted volume back.

        Args:
            volume_id: Its id; its slug may belong to another volume by now.
            slug: A new slug. Default: the one it had.

        Raises:
            ConflictError: When the slug is taken.
            NotFoundError: When it was never there, is not deleted, or its data is gone.
        """
        body = {} if slug is None else {"slug": slug}
        return Volume.from_wire(await self._http.post(f"{self._of(volume_id)}/restore", body))

    async def grow(self, id_or_slug: str | Volume, *, capacity: int | str) -> Volume:
        """Makes a volume larger, its file system included.

        Args:
            id_or_slug: The volume.
            capacity: The new size, as in `create`. The size that it has already is a success.

        Raises:
            ConflictError: When a sandbox has it mounted.
            BadRequestError: When the size is less than it has, or more than is allowed.
        """
        url, body = f"{self._of(id_or_slug)}/grow", {"capacity": capacity}
        return Volume.from_wire(await self._http.post(url, body, repeatable=True))

    async def schedule(self, id_or_slug: str | Volume, *, every: str | None) -> Volume:
        """Has the server make a snapshot of a volume that often, also while it is in use, the first one at once.

        Where the server has a snapshot store they go there, so that `replicated_at` is never much older. The server
        keeps all of the last hour, the last of each hour for a day, and the last of each day for 30 days, and what
        something needs.

        Args:
            id_or_slug: The volume.
            every: A whole number of seconds, minutes, hours or days, such as "5m"; from "1m" to "30d", unless the
                server's settings say otherwise. None: no more.

        Raises:
            BadRequestError: When the period is not acceptable.
        """
        url = f"{self._of(id_or_slug)}/schedule"
        return Volume.from_wire(await self._http.post(url, {"every": every}, repeatable=True))

    async def update(self, id_or_slug: str | Volume, *, labels: Mapping[str, str]) -> Volume:
        """Replaces the labels of a volume."""
        return Volume.from_wire(await self._http.patch(self._of(id_or_slug), {"labels": dict(labels)}))

    async def descendants(self, id_or_slug: str | Volume) -> builtins.list[Descendant]:
        """The snapshots that were taken of a volume, the volumes made from those, and so on."""
        wire = await self._http.get(f"{self._of(id_or_slug)}/descendants")
        return [Descendant(item) for item in wire]

    def _of(self, id_or_slug: str | Volume) -> str:
        return f"{self._url}/{path_part(id_of(id_or_slug))}"
