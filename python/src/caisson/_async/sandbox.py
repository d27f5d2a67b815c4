"""One sandbox, as seen through a connection."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Literal

from .._command import CommandResult, shell_params
from .._records import SshAccess
from ..errors import CaissonError, CallTimeoutError, ConnectionClosedError, SandboxCommandError, SandboxError
from .concurrency import ByteSource, Opening, opening
from .connection import AsyncConnection, optional
from .control import AsyncSandboxControl
from .deno import AsyncSandboxDeno
from .env import AsyncSandboxEnv
from .fetch import AsyncFetchResponse, fetch
from .fs import AsyncSandboxFs
from .process import AsyncChildProcess, ProcessTable, StdIo, start_process
from .vscode import AsyncVsCode, start_editor

_log = logging.getLogger("caisson")


class AsyncSandbox:
    """An isolated Linux environment.

    Leaving its `with` block closes the connection. A session sandbox that this client created ends with that, and the
    block is left only when its volumes are durable and free to be mounted elsewhere.

    Attributes:
        id: The sandbox's id; give it to `connect` to reach the sandbox from elsewhere.
        trace_id: Finds its creation in the server's log.
        stop_at: When it ends at the latest, as the server said when this connection was made or last extended it; None
            when its creator's connection decides.
        fs: Files.
        env: Environment variables.
        deno: The Deno runtime.
        url: Where the port given at creation is exposed; None when none was.
        ssh: SSH access, when it was asked for at creation.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        control: AsyncSandboxControl,
        sandbox_id: str,
        *,
        trace_id: str | None,
        stop_at: datetime | None,
        owns_session: bool,
    ) -> None:
        self._connection = connection
        self._control = control
        self._table = ProcessTable([])
        # Whether the sandbox ends with this connection.
        self._owns_session = owns_session
        self._is_closing = False
        self.id = sandbox_id
        self.trace_id = trace_id
        self.stop_at = stop_at
        self.fs = AsyncSandboxFs(connection)
        self.env = AsyncSandboxEnv(connection)
        self.deno = AsyncSandboxDeno(connection, self._table)
        self.url: str | None = None
        self.ssh: SshAccess | None = None

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, by either side."""
        return self._connection.closed

    def spawn(
        self,
        command: str,
        *,
        args: Sequence[str] | None = None,
        cwd: str | None = None,
        clear_env: bool | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Literal["piped", "null"] | None = None,
        stdout: StdIo | None = None,
        stderr: StdIo | None = None,
        stdin_data: ByteSource | str | None = None,
    ) -> Opening[AsyncChildProcess]:
        """Starts a program.

        Args:
            command: The program, found on the sandbox's PATH.
            args: Its arguments.
            cwd: Directory to run in. Default: `/home/app`.
            clear_env: Whether the program gets only the variables in `env`. Default: False.
            env: Variables to add.
            stdin: "piped" gives a `stdin` to write to. Default: "null", no input.
            stdout: "piped" keeps the output to be read, "null" drops it, "inherit" prints it here. Default: "inherit".
            stderr: The same for the error output.
            stdin_data: The whole input; sent before this call returns, as far as the program reads it.

        Raises:
            NotFound: When there is no such program or directory.
            PermissionDenied: When the file is not executable.
        """
        return opening(
            start_process(
                AsyncChildProcess,
                self._connection,
                self._table,
                "spawn",
                {"command": command, "args": list(args or ())},
                cwd=cwd,
                clear_env=clear_env,
                env=env,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                stdin_data=stdin_data,
            )
        )

    async def sh(
        self,
        command: str,
        *args: str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        sudo: bool = False,
        stdin_data: ByteSource | str | None = None,
        stdout: StdIo = "piped",
        stderr: StdIo = "piped",
        check: bool = True,
        timeout: float | None = None,
    ) -> CommandResult:
        """Runs a line of shell (bash) and waits for its end.

        Values of yours go in safely as arguments: `sandbox.sh('grep -c -- "$1" "$2"', pattern, path)`.

        Args:
            command: The line.
            args: What `$1`, `$2` and so on stand for in it.
            cwd: Directory to run in. Default: `/home/app`.
            env: Variables to add.
            sudo: Whether to put `sudo` before the line, which concerns its first command. Default: False.
            stdin_data: Input of the line. Default: none.
            stdout: "piped" returns the output, "inherit" prints it here, "null" drops it. Default: "piped".
            stderr: The same for the error output.
            check: Whether an exit code other than 0 raises. Default: True.
            timeout: Seconds to wait before the command is killed: SIGTERM, then SIGKILL after 5 seconds. Default: no
                limit.

        Raises:
            SandboxCommandError: When the command does not succeed and `check` is true.
            CallTimeoutError: When the time is over. Its `stdout` and `stderr` have what was printed by then.
        """
        process = await start_process(
            AsyncChildProcess,
            self._connection,
            self._table,
            "spawn",
            shell_params(command, args, sudo=sudo),
            cwd=cwd,
            clear_env=None,
            env={"BASH_ENV": "$HOME/.bashrc", **(env or {})},
            stdin=None,
            stdout=stdout,
            stderr=stderr,
            stdin_data=stdin_data,
        )
        async with process:
            try:
                out, err = await process.communicate(timeout)
            except CallTimeoutError as error:
                error.stdout, error.stderr = process.read_available()
                raise
            status = await process.wait()
        if check and not status.success:
            raise SandboxCommandError(command, status, out, err)
        return CommandResult(status, out, err)

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        redirect: Literal["follow", "manual"] = "follow",
        body: ByteSource | str | None = None,
        timeout: float | None = None,
    ) -> AsyncFetchResponse:
        """Makes an HTTP request from inside the sandbox, under its network rules.

        Args:
            url: An absolute URL.
            method: Default: "GET".
            headers: Headers to send.
            redirect: Whether redirects are followed. Default: "follow".
            body: What to send.
            timeout: Seconds to wait for the answer's head. Default: no limit.

        Raises:
            JsTypeError: When the request fails before there is an answer.
        """
        return await fetch(
            self._connection,
            url,
            method=method,
            headers=headers,
            redirect=redirect,
            body=body,
            timeout=timeout,
            pid=None,
        )

    async def extend_timeout(self, additional_s: float | timedelta) -> datetime:
        """Lets the sandbox live at least this much longer from now, at most 30 minutes at a time.

        Args:
            additional_s: Seconds, or a `timedelta`.

        Returns:
            When it will end; for a session sandbox, until when it outlives this connection.
        """
        seconds = additional_s.total_seconds() if isinstance(additional_s, timedelta) else additional_s
        stop_at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        end = await self._control.extend(self.id, stop_at)
        # A session is only kept until then; its creator may stay longer.
        if self.stop_at is not None:
            self.stop_at = end
        # From now on leaving it does not end it at once, so nobody should wait for that.
        self._owns_session = False
        return end

    async def expose_http(self, *, port: int | None = None, pid: int | None = None) -> str:
        """Makes an HTTP server in the sandbox reachable for everybody, without authentication.

        Args:
            port: The port that it listens on. Give this or `pid`.
            pid: The Deno process that serves.

        Returns:
            The URL.

        Raises:
            NotSupportedError: When this server does not offer it.
        """
        if (port is None) == (pid is None):
            raise ValueError("Give either port or pid")
        target = {"port": port} if port is not None else {"pid": pid}
        domain = await self._control.expose_http(self.id, target)
        try:
            await self._connection.call("exposeHttp", {"domain": domain, **target})
        except Exception:
            await self._control.revoke_http(self.id, domain)
            raise
        return f"https://{domain}"

    def expose_vscode(
        self,
        path: str = "/home/app",
        *,
        extensions: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        editor_settings: Mapping[str, Any] | None = None,
    ) -> Opening[AsyncVsCode]:
        """Starts VS Code in the sandbox and makes it reachable for everybody who knows its address.

        Args:
            path: The directory to open.
            extensions: Ids of extensions to install, or paths of `.vsix` files in the sandbox.
            env: Variables to add to the editor's.
            editor_settings: Settings of the machine, in place of those that there are.

        Raises:
            NotSupported: When the sandbox has neither code-server nor openvscode-server.
            FileNotFoundError: When there is no such directory.
            SandboxError: When an extension cannot be installed or the editor does not start; it quotes the program.
        """
        params = optional(
            path=path,
            extensions=list(extensions),
            env=None if env is None else dict(env),
            editorSettings=None if editor_settings is None else dict(editor_settings),
        )
        return opening(start_editor(self._connection, self._control, self.id, params))

    async def expose_ssh(self) -> SshAccess:
        """Opens SSH access to the sandbox for everybody who knows the user name in the result.

        Raises:
            NotSupportedError: When this server does not offer it.
        """
        return SshAccess(await self._control.expose_ssh(self.id))

    async def kill(self) -> None:
        """Ends the sandbox now. Its volumes are durable and free when this returns."""
        self._is_closing = True
        self._connection.own_reason = "this client asked for the end of the sandbox"
        try:
            await self._control.kill(self.id)
        except BaseException:
            self._connection.own_reason = ""
            raise
        finally:
            await self._connection.close()

    async def close(self) -> None:
        """Closes the connection; may be called again.

        A session sandbox that this client created ends, and this returns when its volumes are durable and free. Any
        other sandbox goes on, without the processes that were started here and not waited for: they get SIGTERM.

        Raises:
            CaissonError: When a session sandbox has not ended within the client's `stop_timeout`.
            ConflictError: With the code `DATA_LOST`: it has ended, but writes to its volumes are lost.
        """
        if self._is_closing:
            return
        self._is_closing = True
        try:
            if not self._owns_session:
                await self._stop_processes()
        finally:
            await self._connection.close()
        if self._owns_session:
            await self._control.wait_stopped(self.id)

    async def _stop_processes(self) -> None:
        # When the connection is closed, the sandbox has ended, and its processes with it.
        with suppress(ConnectionClosedError):
            signals = [
                await self._connection.start_call("processKill", {"pid": process.pid, "signal": "SIGTERM"})
                for process in list(self._table.processes)
                if process.returncode is None
            ]
            for reply in signals:
                # One that has just ended needs no signal.
                with suppress(SandboxError):
                    await self._connection.finish_call(reply)

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except CaissonError as problem:
            # What went wrong inside the block matters more than what goes wrong at its end.
            if error is None:
                raise
            _log.warning("Closing sandbox %s: %s", self.id, problem)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {'closed' if self.closed else 'open'}>"
