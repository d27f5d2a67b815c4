"""Making, finding and ending sandboxes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta

from .._options import Options
from .._records import Mount, SandboxMeta, SecretConfig, Snapshot, Volume
from .._wire import duration_seconds, is_shortened, read_stop_at, sandbox_config
from ..errors import CaissonError
from .concurrency import Opening, opening
from .connection import AsyncConnection
from .control import AsyncSandboxControl
from .http import AsyncHttp, path_part
from .pages import AsyncPaginatedList, fetch_page, list_params
from .sandbox import AsyncSandbox
from .websocket import AsyncWebSocket


class AsyncSandboxApi:
    """`client.sandbox`."""

    def __init__(self, http: AsyncHttp, options: Options) -> None:
        self._http = http
        self._options = options
        self._control = AsyncSandboxControl(http, options)

    def create(
        self,
        *,
        region: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: str | float | timedelta | None = None,
        memory_mb: int | None = None,
        debug: bool = False,
        labels: Mapping[str, str] | None = None,
        root: str | Volume | Snapshot | None = None,
        volumes: Mapping[str, str | Volume | Mount] | None = None,
        allow_net: Sequence[str] | None = None,
        secrets: Mapping[str, SecretConfig] | None = None,
        hostname: str | None = None,
        ssh: bool = False,
        port: int | None = None,
    ) -> Opening[AsyncSandbox]:
        """Makes a sandbox and connects to it. Enter the result with `with`, or close it yourself.

        Args:
            region: Where to make it. Default: where its root and volumes are.
            env: Environment variables.
            timeout: How long it lives, also without a connection: seconds, a `timedelta`, or a text like "30s" or
                "5m". Default: "session", it ends when this connection closes. When the server allows less, a warning
                says so, and `Sandbox.stop_at` has the end.
            memory_mb: Memory in MiB, 768 to 4096. Default: 1280.
            debug: Whether to print each message to stderr, without its content. Default: False.
            labels: At most 5 labels of yours, to find it by.
            root: A bootable volume, which keeps what is written, or a bootable snapshot, which does not. Default: a
                fresh Debian.
            volumes: What to mount: mount path to volume, or to `{"volume": ..., "read_only": True}`.
            allow_net: The only hosts that it may reach, for example ["example.com", "*.npmjs.org:443"]. Default: all.
            secrets: Variables whose real values are only sent to certain hosts.
            hostname: What it is called inside, at most 63 letters, digits, "-" and ".". Default: the slug of the volume
                that it boots from, else its id.
            ssh: Whether to open SSH access; see `Sandbox.ssh`. Default: False.
            port: A port to expose to the public; see `Sandbox.url`. Default: none.

        Raises:
            ConflictError: When a volume is in use by another sandbox.
            BadRequestError: When an option is not acceptable.
            RateLimitError: When too many sandboxes run already.
            ApiTimeoutError: When it takes longer than the client's `connect_timeout`.
        """
        config = sandbox_config(
            region=region,
            env=env,
            timeout=timeout,
            memory_mb=memory_mb,
            labels=labels,
            root=root,
            volumes=volumes,
            allow_net=allow_net,
            secrets=secrets,
            hostname=hostname,
        )
        origin = self._options.sandbox_origin(region)
        return opening(self._create(origin, config, timeout, debug, ssh, port))

    def connect(self, sandbox_id: str, *, debug: bool = False) -> Opening[AsyncSandbox]:
        """Connects to a running sandbox.

        Args:
            sandbox_id: Its id.
            debug: As in `create`.

        Raises:
            NotFoundError: When there is no such sandbox, or it has ended.
        """
        return opening(self._connect(sandbox_id, debug))

    async def get(self, sandbox_id: str) -> SandboxMeta | None:
        """A sandbox, running or ended not long ago; None when there is none."""
        return await self._control.get(sandbox_id)

    async def list(self, *, labels: Mapping[str, str] | None = None) -> AsyncPaginatedList[SandboxMeta]:
        """Lists sandboxes, running ones and those that ended not long ago.

        Args:
            labels: Only sandboxes that have all these labels.
        """
        url = f"{self._options.endpoint}/api/v2/sandboxes"
        return await fetch_page(self._http, url, list_params(labels=labels), SandboxMeta.from_wire)

    async def kill(self, sandbox_id: str) -> None:
        """Ends a sandbox now. Its volumes are durable and free when this returns.

        Raises:
            NotFoundError: When there is no such sandbox.
        """
        await self._control.kill(sandbox_id)

    async def _create(
        self,
        origin: str,
        config: str,
        timeout: str | float | timedelta | None,
        debug: bool,
        ssh: bool,
        port: int | None,
    ) -> AsyncSandbox:
        started = time.monotonic()
        websocket = await self._open(f"{origin}/api/v3/sandboxes/create", {"x-deno-sandbox-config": config})
        sandbox_id = websocket.headers.get("x-deno-sandbox-id")
        if sandbox_id is None:
            await websocket.close()
            raise CaissonError(f"{origin} made a sandbox but did not say its id: it is not a Caisson server")
        is_session = timeout is None or timeout == "session"
        sandbox = self._wrap(websocket, sandbox_id, debug, owns_session=is_session)
        try:
            seconds = duration_seconds(timeout)
            if seconds is not None and is_shortened(websocket.headers, seconds, time.monotonic() - started):
                end = f"{sandbox.stop_at:%Y-%m-%d %H:%M:%S} UTC"
                warnings.warn(f"{timeout!r} is more than the server allows: the sandbox ends at {end}", stacklevel=3)
            if ssh:
                sandbox.ssh = await sandbox.expose_ssh()
            if port is not None:
                sandbox.url = await sandbox.expose_http(port=port)
        except BaseException as error:
            await sandbox.__aexit__(type(error), error, None)
            raise
        return sandbox

    async def _connect(self, sandbox_id: str, debug: bool) -> AsyncSandbox:
        origin = self._options.origin_of_sandbox(sandbox_id)
        websocket = await self._open(f"{origin}/api/v3/sandbox/{path_part(sandbox_id)}/connect", {})
        return self._wrap(websocket, sandbox_id, debug, owns_session=False)

    async def _open(self, url: str, headers: Mapping[str, str]) -> AsyncWebSocket:
        options = self._options
        return await AsyncWebSocket.open(
            url.replace("http", "ws", 1),
            {**options.headers(), **headers},
            timeout=options.connect_timeout,
            max_message_bytes=options.max_message_bytes,
            ssl_context=options.ssl_context,
        )

    def _wrap(self, websocket: AsyncWebSocket, sandbox_id: str, debug: bool, *, owns_session: bool) -> AsyncSandbox:
        connection = AsyncConnection(
            websocket,
            call_timeout=self._options.call_timeout,
            buffer_bytes=self._options.buffer_bytes,
            debug=debug,
        )
        trace_id = websocket.headers.get("x-deno-trace-id")
        return AsyncSandbox(
            connection,
            self._control,
            sandbox_id,
            trace_id=trace_id,
            stop_at=read_stop_at(websocket.headers),
            owns_session=owns_session,
        )
