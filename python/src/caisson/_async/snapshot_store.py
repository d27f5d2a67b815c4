"""The snapshot store as a whole."""

from __future__ import annotations

from .._records import KeyRotation, SnapshotStoreStatus
from .http import AsyncHttp


class AsyncSnapshotStore:
    """`client.snapshot_store`: for tokens of the server's first organization. Others get `PermissionDeniedError`."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v1/snapshot-store"

    async def get(self) -> SnapshotStoreStatus:
        """Asks the store whether it can be used.

        Raises:
            NotSupportedError: When the server has none.
        """
        return SnapshotStoreStatus(await self._http.get(self._url))

    async def accept(self, *, new_key: bool = False) -> int:
        """Takes the store of the server's settings, as it is, for the installation's from now on.

        What is replicated is uploaded again, and no other server may use the store.

        Args:
            new_key: Make a new installation key in place of one that is lost for good. Default: False.

        Returns:
            How many snapshots are uploaded again.

        Raises:
            NotSupportedError: When the server has none.
        """
        answer = await self._http.post(f"{self._url}/accept", {"new_key": True} if new_key else {})
        return int(answer["waiting"])

    async def rotate_key(self, *, dry_run: bool = False) -> KeyRotation:
        """Makes a new installation key, wraps the keys of all organizations by it, and uses it from then on.

        Nothing is encrypted anew. A rotation that was cut off is finished instead. The former key opens nothing
        afterwards, and the new one lies on the server's disk alone: keep it elsewhere at once, by `caisson keys export`
        on the server. Losing the disk before loses the store.

        Args:
            dry_run: Only open every key of the store with the one that there is. Default: False.

        Raises:
            NotSupportedError: When the server has no snapshot store.
        """
        answer = await self._http.post(f"{self._url}/rotate-key", {"dry_run": True} if dry_run else {})
        return KeyRotation(answer)
