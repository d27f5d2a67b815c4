"""The Deno runtime of a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .concurrency import ByteSource, Opening, opening
from .connection import AsyncConnection, optional
from .fetch import AsyncFetchResponse, fetch
from .process import AsyncChildProcess, ProcessTable, StdIo, start_process

Extension = Literal["js", "cjs", "mjs", "ts", "cts", "mts", "jsx", "tsx"]


class AsyncDenoProcess(AsyncChildProcess):
    """A program that runs on Deno."""

    async def wait_http_ready(self, timeout: float | None = None) -> bool:
        """Waits until the program serves HTTP.

        Args:
            timeout: Seconds to wait. Default: no limit.

        Returns:
            True once it listens; False when it ended without listening.
        """
        return await self._connection.call("denoHttpWait", {"pid": self.pid}, timeout=timeout)

    async def fetch(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        redirect: Literal["follow", "manual"] = "follow",
        *,
        body: ByteSource | str | None = None,
        timeout: float | None = None,
    ) -> AsyncFetchResponse:
        """Makes a request to the program's own HTTP server, whatever host the URL names."""
        return await fetch(
            self._connection,
            url,
            method=method,
            headers=headers,
            redirect=redirect,
            body=body,
            timeout=timeout,
            pid=self.pid,
        )


class AsyncDenoRepl(AsyncChildProcess):
    """A Deno that evaluates code and keeps its variables from one piece to the next."""

    async def eval(self, code: str, *, timeout: float | None = None) -> Any:
        """Evaluates code. Promises are awaited.

        Args:
            code: TypeScript or JavaScript.
            timeout: Seconds to wait. Default: no limit. The code goes on running after that; close the REPL then.

        Returns:
            The value of the last expression, as JSON has it, with the keys of objects unchanged.

        Raises:
            JavaScriptError: What the code throws; see `SandboxError`.
        """
        return await self._connection.call("denoReplEval", {"pid": self.pid, "code": code}, timeout=timeout)

    async def call(self, fn: str, args: Sequence[Any] = (), *, timeout: float | None = None) -> Any:
        """Calls a function.

        Args:
            fn: The name of a function that was defined in the REPL, or the text of a function.
            args: Its arguments, which must be writable as JSON.
            timeout: As in `eval`.
        """
        params = {"pid": self.pid, "fn": fn, "args": list(args)}
        return await self._connection.call("denoReplCall", params, timeout=timeout)

    async def _ask_to_end(self) -> None:
        await self._connection.call("denoReplClose", {"pid": self.pid})


class AsyncSandboxDeno:
    """`sandbox.deno`."""

    def __init__(self, connection: AsyncConnection, table: ProcessTable) -> None:
        self._connection = connection
        self._table = table

    def run(
        self,
        *,
        entrypoint: str | None = None,
        code: str | None = None,
        extension: Extension | None = None,
        script_args: Sequence[str] | None = None,
        cwd: str | None = None,
        clear_env: bool | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Literal["piped", "null"] | None = None,
        stdout: StdIo | None = None,
        stderr: StdIo | None = None,
        stdin_data: ByteSource | str | None = None,
    ) -> Opening[AsyncDenoProcess]:
        """Runs a program on Deno, with all permissions.

        Args:
            entrypoint: Path of the program in the sandbox. Give this or `code`.
            code: The program itself.
            extension: The language of `code`. Default: "ts".
            script_args: The program's `Deno.args`.
            cwd: Directory to run in. Default: `/home/app`.
            clear_env: Whether the program gets only the variables in `env`. Default: False.
            env: Variables to add.
            stdin, stdout, stderr, stdin_data: As in `spawn`.

        Raises:
            ValueError: When neither or both of `entrypoint` and `code` are given.
        """
        if (entrypoint is None) == (code is None):
            raise ValueError("Give either entrypoint or code")
        params = optional(entrypoint=entrypoint, code=code, scriptArgs=script_args)
        if code is not None:
            params["extension"] = extension or "ts"
        elif extension is not None:
            raise ValueError("extension belongs to code; the name of the entrypoint says its language")
        return opening(
            start_process(
                AsyncDenoProcess,
                self._connection,
                self._table,
                "spawnDeno",
                params,
                cwd=cwd,
                clear_env=clear_env,
                env=env,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                stdin_data=stdin_data,
            )
        )

    def repl(
        self,
        *,
        script_args: Sequence[str] | None = None,
        cwd: str | None = None,
        clear_env: bool | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Literal["piped", "null"] | None = None,
        stdout: StdIo | None = None,
        stderr: StdIo | None = None,
    ) -> Opening[AsyncDenoRepl]:
        """Starts a REPL. The options are those of `run`."""
        return opening(
            start_process(
                AsyncDenoRepl,
                self._connection,
                self._table,
                "spawnDenoRepl",
                optional(scriptArgs=script_args),
                cwd=cwd,
                clear_env=clear_env,
                env=env,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                stdin_data=None,
            )
        )

    async def eval(self, code: str, *, timeout: float | None = None) -> Any:
        """Evaluates code in a REPL of its own; see `AsyncDenoRepl.eval`."""
        async with self.repl() as repl:
            return await repl.eval(code, timeout=timeout)
