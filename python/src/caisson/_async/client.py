"""The client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from .._options import Options
from .backups import AsyncBackups
from .http import AsyncHttp
from .nodes import AsyncNodes
from .pools import AsyncPools
from .previews import AsyncPreviews
from .sandboxes import AsyncSandboxApi
from .snapshot_store import AsyncSnapshotStore
from .snapshots import AsyncSnapshots
from .ssh import AsyncSsh, AsyncSshKeys
from .volumes import AsyncVolumes


class AsyncCaisson:
    """A client of one server and one organization.

    Every option may also be given in a dictionary as the only argument. None means: from the environment, else the
    default. Close the client, or use it in a `with` block, to close its idle connections.

    Args:
        options: The options below, as a dictionary.
        token: Credentials. Environment: `CAISSON_TOKEN`, then `DENO_DEPLOY_TOKEN`.
        endpoint: Origin of the server. Environment: `CAISSON_ENDPOINT`, then `DENO_DEPLOY_ENDPOINT`. Default:
            `http://127.0.0.1:8484`.
        sandbox_endpoint: Origin for sandboxes, where it is another. Default: `endpoint`; but where that came from
            `DENO_DEPLOY_ENDPOINT` or its default, `DENO_SANDBOX_ENDPOINT`, then `https://<region>.` and
            `DENO_SANDBOX_BASE_DOMAIN`.
        org: Slug of the organization; needed with a personal token. Environment: `CAISSON_ORG`, then
            `DENO_DEPLOY_ORG`.
        timeout: Seconds to wait for the answer to a request. Default: 30.
        connect_timeout: Seconds to wait for a sandbox to be made or reached. Default: 60.
        call_timeout: Seconds to wait for an answer from inside a sandbox, where no program of yours is waited for.
            Default: 120.
        stop_timeout: Seconds that leaving a session sandbox waits for its end. Default: 60.
        max_retries: How often a request is repeated that failed in a way that may pass. Default: 3.
        max_message_bytes: Size limit of one message from a sandbox, for example of a whole file. Default: 256 MiB.
        buffer_bytes: How much unread output a connection keeps before the sandbox's programs have to wait, unless
            something else is being waited for. Default: 128 MiB.
        ssl_context: How servers are verified. Default: the system's certificates and `SSL_CERT_FILE`.

    Raises:
        MissingApiToken: When no token is given.
        TypeError: For an option that does not exist.
        ValueError: For an endpoint that is not an origin.

    Attributes:
        volumes: Read-write storage.
        snapshots: Unchangeable images of volumes.
        sandbox: Sandboxes.
        previews: Addresses of servers inside sandboxes.
        ssh: User names with which SSH clients log in to sandboxes.
        ssh_keys: Public keys that may log in to every sandbox of the organization.
        pools: What holds the server's space.
        snapshot_store: The second place for snapshots, as a whole.
        nodes: The machines that hold volumes and run sandboxes.
        backups: Backups of the installation's rows in the server's snapshot store.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        endpoint: str | None = None,
        sandbox_endpoint: str | None = None,
        org: str | None = None,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        call_timeout: float | None = None,
        stop_timeout: float | None = None,
        max_retries: int | None = None,
        max_message_bytes: int | None = None,
        buffer_bytes: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        named = {
            "token": token,
            "endpoint": endpoint,
            "sandbox_endpoint": sandbox_endpoint,
            "org": org,
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "call_timeout": call_timeout,
            "stop_timeout": stop_timeout,
            "max_retries": max_retries,
            "max_message_bytes": max_message_bytes,
            "buffer_bytes": buffer_bytes,
            "ssl_context": ssl_context,
        }
        given = {name: value for name, value in named.items() if value is not None}
        resolved = Options.resolve({**(options or {}), **given})
        self._http = AsyncHttp(resolved)
        self.volumes = AsyncVolumes(self._http, resolved.endpoint)
        self.snapshots = AsyncSnapshots(self._http, resolved.endpoint)
        self.sandbox = AsyncSandboxApi(self._http, resolved)
        self.previews = AsyncPreviews(self._http, resolved)
        self.ssh = AsyncSsh(self._http, resolved)
        self.ssh_keys = AsyncSshKeys(self._http, resolved.endpoint)
        self.pools = AsyncPools(self._http, resolved.endpoint)
        self.snapshot_store = AsyncSnapshotStore(self._http, resolved.endpoint)
        self.nodes = AsyncNodes(self._http, resolved.endpoint)
        self.backups = AsyncBackups(self._http, resolved.endpoint)

    async def close(self) -> None:
        """Closes idle connections. The client cannot be used afterwards; open sandboxes are not affected."""
        await self._http.close()

    async def __aenter__(self) -> AsyncCaisson:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
