"""The snapshot store as a whole."""

from __future__ import annotations

from .._installation_key import proof_of_key
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
        return SnapshotStoreStatus.from_wire(await self._http.get(self._url))

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
        """Makes a new installation key, and wraps the keys of all organizations by it as well.

        Nothing is encrypted anew. The former key stays in use, and both open everything, until `finish_key_rotation`; a
        rotation that waits goes on with the same new key. Keep that elsewhere, by `caisson keys export --new` on the
        server.

        Args:
            dry_run: Only open every key of the store with the one in use. Default: False.

        Raises:
            NotSupportedError: When the server has no snapshot store.
        """
        answer = await self._http.post(f"{self._url}/rotate-key", {"dry_run": True} if dry_run else {})
        return KeyRotation(answer)

    async def finish_key_rotation(self, key: str) -> KeyRotation:
        """Uses the new key of a rotation from now on, and takes away what the former one opens.

        Again is success, also after a finish that was cut off.

        Args:
            key: What `caisson keys export --new` printed, read from where it is kept. It does not travel: what does
                proves that you have it.

        Raises:
            ValueError: For a text that is no key.
            BadRequestError: For another key than the new one.
            NotSupportedError: When the server has no snapshot store.
        """
        answer = await self._http.post(f"{self._url}/finish-key-rotation", {"proof": proof_of_key(key)})
        return KeyRotation(answer)
