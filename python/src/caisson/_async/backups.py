"""Backups of the installation's rows in the server's snapshot store."""

from __future__ import annotations

from .._records import BackupOverview, CreatedBackup
from .http import AsyncHttp, path_part


class AsyncBackups:
    """`client.backups`: for tokens of the server's first organization. Others get `PermissionDeniedError`."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v1/backups"

    async def list(self) -> BackupOverview:
        """What backups there are, and how the last one went.

        Raises:
            NotSupportedError: When the server has no snapshot store.
        """
        return BackupOverview.from_wire(await self._http.get(self._url))

    async def create(self) -> CreatedBackup:
        """Makes one, and waits until all of it is in the store. A repeated call makes another one."""
        return CreatedBackup(await self._http.post(self._url, {}))

    async def delete(self, id: str) -> None:
        """Deletes one.

        Raises:
            NotFoundError: When there is none with this id.
        """
        await self._http.delete(f"{self._url}/{path_part(id)}")
