"""SSH: user names of sandboxes, keys of the organization, and what clients need to know of the server."""

from __future__ import annotations

import builtins

from .._options import Options
from .._records import SshAccess, SshEndpoint, SshKey
from .http import AsyncHttp, path_part


class AsyncSsh:
    """`client.ssh`: user names with which SSH clients log in to sandboxes. They end with their sandboxes."""

    def __init__(self, http: AsyncHttp, options: Options) -> None:
        self._http = http
        self._options = options

    async def endpoint(self) -> SshEndpoint:
        """Where SSH clients connect, and by which key they know the server.

        Raises:
            NotSupportedError: Where SSH is switched off.
        """
        return SshEndpoint(await self._http.get(f"{self._options.endpoint}/api/v1/ssh"))

    async def create(self, sandbox_id: str) -> SshAccess:
        """Makes a user name that lets in whoever knows it, as `sandbox.expose_ssh()` does.

        Raises:
            NotFoundError: When the sandbox does not run.
            NotSupportedError: Where SSH is switched off.
        """
        return SshAccess(await self._http.post(self._url(sandbox_id), {}))

    async def revoke(self, sandbox_id: str, username: str | None = None) -> None:
        """Ends a user name of a sandbox and the connections by it. Without one: all user names of the sandbox.

        Raises:
            NotFoundError: When the sandbox does not run, or has no such user name.
        """
        await self._http.delete(self._url(sandbox_id), None if username is None else {"username": username})

    def _url(self, sandbox_id: str) -> str:
        return f"{self._options.origin_of_sandbox(sandbox_id)}/api/v3/sandbox/{path_part(sandbox_id)}/expose/ssh"


class AsyncSshKeys:
    """`client.ssh_keys`: public keys that may log in to every sandbox of the organization."""

    def __init__(self, http: AsyncHttp, endpoint: str) -> None:
        self._http = http
        self._url = f"{endpoint}/api/v1/ssh-keys"

    async def list(self) -> builtins.list[SshKey]:
        """The keys, newest first."""
        return [SshKey(item) for item in await self._http.get(self._url)]

    async def add(self, public_key: str, *, name: str | None = None) -> SshKey:
        """Lets a key log in to every sandbox of the organization, by the sandbox's id as the user name.

        Args:
            public_key: A line of a `.pub` file.
            name: What to call it. Default: the comment in the line.
        """
        body = {"public_key": public_key} if name is None else {"public_key": public_key, "name": name}
        return SshKey(await self._http.post(self._url, body))

    async def remove(self, id: str) -> None:
        """Removes a key at once, and ends the connections by it.

        Raises:
            NotFoundError: When there is none with this id.
        """
        await self._http.delete(f"{self._url}/{path_part(id)}")
