"""The environment variables of a sandbox."""

from __future__ import annotations

from .connection import AsyncConnection


class AsyncSandboxEnv:
    """`sandbox.env`: variables that every process started afterwards inherits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, key: str) -> str | None:
        """The value of a variable; None when it is not set."""
        return await self._connection.call("envGet", {"key": key})

    async def set(self, key: str, value: str) -> None:
        """Sets a variable."""
        await self._connection.call("envSet", {"key": key, "value": value})

    async def delete(self, key: str) -> None:
        """Removes a variable; nothing happens when it is not set."""
        await self._connection.call("envDelete", {"key": key})

    async def as_dict(self) -> dict[str, str]:
        """All variables, with their names as they are."""
        return await self._connection.call("envToObject", {})
