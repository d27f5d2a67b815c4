"""Open files in a sandbox."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from types import TracebackType

from .._records import FileInfo
from .connection import AsyncConnection, optional

READ_BYTES = 512 * 1024


class AsyncFsFile:
    """An open file. It belongs to the connection that opened it and closes with that at the latest."""

    def __init__(self, connection: AsyncConnection, handle: int) -> None:
        self._connection = connection
        self._handle = handle

    async def read(self, size: int) -> bytes:
        """Reads at most `size` bytes from the present position; empty at the end of the file."""
        answer = await self._connection.call("fileRead", {"fileHandleId": self._handle, "length": size})
        data = answer["data"]
        return b"" if data is None else base64.b64decode(data)

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Writes at the present position. Returns the number of bytes that were written."""
        text = base64.b64encode(data).decode("ascii")
        answer = await self._connection.call("fileWrite", {"fileHandleId": self._handle, "data": text})
        return answer["bytesWritten"]

    async def _read_sparsely(self, size: int) -> tuple[int, bytes] | None:
        """As `read`, after passing over zeros: how many they are, and what follows, perhaps b""; None at the end."""
        params = {"fileHandleId": self._handle, "length": size, "sparse": True}
        answer = await self._connection.call("fileRead", params)
        data = answer["data"]
        return None if data is None else (answer.get("zeros", 0), base64.b64decode(data))

    async def _write_sparsely(self, data: bytes) -> None:
        """Writes all but blocks of zeros, which are holes where nothing was. The caller sets the length at last."""
        text = base64.b64encode(data).decode("ascii")
        await self._connection.call("fileWrite", {"fileHandleId": self._handle, "data": text, "sparse": True})

    async def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the position, counted from the start (`whence` 0), from here (1) or from the end (2). Returns it."""
        params = {"fileHandleId": self._handle, "offset": offset, "whence": whence}
        answer = await self._connection.call("fileSeek", params)
        return answer["position"]

    async def stat(self) -> FileInfo:
        """What the file system says about the file."""
        return FileInfo.from_wire(await self._connection.call("fileStat", {"fileHandleId": self._handle}))

    async def sync(self) -> None:
        """Returns when data and metadata are on stable storage."""
        await self._connection.call("fileSync", {"fileHandleId": self._handle})

    async def sync_data(self) -> None:
        """Returns when the data, and the metadata needed to read it, are on stable storage."""
        await self._connection.call("fileSyncData", {"fileHandleId": self._handle})

    async def truncate(self, size: int | None = None) -> None:
        """Cuts the file to `size` bytes, or extends it with zeros. Default: 0."""
        await self._connection.call("fileTruncate", {"fileHandleId": self._handle, "len": size or 0})

    async def lock(self, exclusive: bool | None = None, *, timeout: float | None = None) -> None:
        """Locks the file against other locks, waiting for them to go.

        Args:
            exclusive: Whether to exclude shared locks as well. Default: False.
            timeout: Seconds to wait. Default: no limit. The lock may still come after that; close the file then.
        """
        params = {"fileHandleId": self._handle, **optional(exclusive=exclusive)}
        await self._connection.call("fileLock", params, timeout=timeout)

    async def unlock(self) -> None:
        """Gives the lock up."""
        await self._connection.call("fileUnlock", {"fileHandleId": self._handle})

    async def utime(self, atime: float | datetime, mtime: float | datetime) -> None:
        """Sets the times of last access and modification: seconds since 1970, or points in time."""
        params = {"fileHandleId": self._handle, "atime": wire_time(atime), "mtime": wire_time(mtime)}
        await self._connection.call("fileUtime", params)

    async def close(self) -> None:
        """Closes the file, which gives up its lock."""
        await self._connection.call("fileClose", {"fileHandleId": self._handle})

    async def __aenter__(self) -> AsyncFsFile:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._connection.closed:
            await self.close()


def wire_time(value: str | float | datetime) -> str:
    """A point in time as the protocol has it: ISO 8601 in UTC, to the millisecond. Texts stay as they are."""
    if isinstance(value, str):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, timezone.utc)
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
