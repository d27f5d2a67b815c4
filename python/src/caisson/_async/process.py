"""Processes in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Literal, TypeVar

from .._deadline import Deadline
from .._inherit import printer
from .._records import ProcessStatus
from ..errors import CaissonError, CallTimeoutError, ProcessAlreadyExited
from .concurrency import ByteSource
from .connection import AsyncConnection, AsyncReply, optional, stream_ids
from .streams import AsyncByteSink, AsyncByteStream

StdIo = Literal["piped", "null", "inherit"]
# How long leaving a process's block waits after SIGTERM before it sends SIGKILL.
_GRACE_S = 5.0
# How long `wait` waits for inherited output that is still on its way. A grandchild may keep the pipe open for ever.
_DRAIN_S = 1.0


P = TypeVar("P", bound="AsyncChildProcess")


@dataclass
class ProcessTable:
    """The processes that a connection has started and that have not been waited for."""

    processes: list[AsyncChildProcess]


class AsyncChildProcess:
    """A process that was started with `spawn`. Leaving its `with` block ends it.

    Attributes:
        pid: Its number in the sandbox.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        table: ProcessTable,
        answer: Mapping[str, Any],
        exit_reply: AsyncReply,
        stdin: AsyncByteSink | None,
        stdout: StdIo,
        stderr: StdIo,
    ) -> None:
        self.pid: int = answer["pid"]
        self._connection = connection
        self._table = table
        self._exit_reply = exit_reply
        self._stdin = stdin
        self._inherited: list[AsyncByteStream] = []
        self._stdout = self._claim(answer.get("stdoutStreamId"), "stdout", stdout)
        self._stderr = self._claim(answer.get("stderrStreamId"), "stderr", stderr)
        table.processes.append(self)

    @property
    def stdin(self) -> AsyncByteSink:
        """Input to write to. Raises `ValueError` unless the process was started with `stdin="piped"`."""
        if self._stdin is None:
            raise ValueError('The process has no open stdin: start it with stdin="piped"')
        return self._stdin

    @property
    def stdout(self) -> AsyncByteStream:
        """Output to read. Raises `ValueError` unless the process was started with `stdout="piped"`."""
        if self._stdout is None:
            raise ValueError('The output of the process is not kept: start it with stdout="piped"')
        return self._stdout

    @property
    def stderr(self) -> AsyncByteStream:
        """Error output to read. Raises `ValueError` unless the process was started with `stderr="piped"`."""
        if self._stderr is None:
            raise ValueError('The error output of the process is not kept: start it with stderr="piped"')
        return self._stderr

    @property
    def returncode(self) -> int | None:
        """The exit code; None while the process is running."""
        if not self._exit_reply.arrived.is_set():
            return None
        return ProcessStatus.from_wire(self._exit_reply.peek()).code

    async def wait(self, timeout: float | None = None) -> ProcessStatus:
        """Waits until the process has ended. Output that was not read stays readable.

        Args:
            timeout: Seconds to wait. Default: no limit.

        Raises:
            CallTimeoutError: When it has not ended in that time. It goes on running.
            ConnectionClosedError: When the sandbox ended first.
        """
        status = ProcessStatus.from_wire(await self._exit_reply.value(timeout))
        for stream in self._inherited:
            with suppress(TimeoutError):
                await stream.wait_ended(_DRAIN_S)
        self._forget()
        return status

    async def communicate(self, timeout: float | None = None) -> tuple[bytes | None, bytes | None]:
        """Closes stdin, waits until the process and its output have ended, and returns stdout and stderr.

        A program left in the background keeps the output open; redirect its output elsewhere.

        Args:
            timeout: Seconds to wait. Default: no limit.

        Returns:
            What was printed; None for output that is not piped.

        Raises:
            CallTimeoutError: When the time is over. The process goes on, and nothing of its output is lost.
        """
        deadline = Deadline(timeout)
        if self._stdin is not None:
            await self._stdin.close()
        await self.wait(deadline.remaining())
        outputs: list[bytes | None] = []
        for stream in (self._stdout, self._stderr):
            if stream is not None:
                await stream.wait_ended(deadline.remaining())
            outputs.append(None if stream is None else await stream.read())
        return outputs[0], outputs[1]

    def read_available(self) -> tuple[bytes | None, bytes | None]:
        """What has been printed and not read yet, without waiting.

        Returns:
            Of stdout and of stderr; None for output that is not piped.
        """
        streams = (self._stdout, self._stderr)
        stdout, stderr = (None if stream is None else stream.read_available() for stream in streams)
        return stdout, stderr

    async def kill(self, signal: str = "SIGTERM") -> None:
        """Sends a signal to the process and its group. Nothing happens when it has ended already.

        Args:
            signal: The signal's name, for example "SIGKILL".
        """
        with suppress(ProcessAlreadyExited):
            await self._connection.call("processKill", {**self._target, "signal": signal})

    async def close(self) -> None:
        """Ends the process if it still runs: SIGTERM, then SIGKILL after 5 seconds. Drops unread output."""
        if self._connection.closed:
            self._forget()
            return
        if self._stdin is not None:
            await self._stdin.close()
        if self.returncode is None:
            await self._ask_to_end()
            try:
                await self._exit_reply.value(_GRACE_S)
            except CallTimeoutError:
                await self.kill("SIGKILL")
                await self._exit_reply.value()
        for stream in (self._stdout, self._stderr):
            if stream is not None:
                await stream.cancel()
        self._forget()

    @property
    def _target(self) -> Mapping[str, Any]:
        """How calls name the process."""
        return {"pid": self.pid}

    async def _ask_to_end(self) -> None:
        await self.kill()

    def _claim(self, stream_id: int | None, name: Literal["stdout", "stderr"], mode: StdIo) -> AsyncByteStream | None:
        if stream_id is None:
            return None
        stream = self._connection.claim_stream(stream_id)
        if mode == "piped":
            return stream
        stream.pass_to(printer(name))
        self._inherited.append(stream)
        return None

    def _forget(self) -> None:
        with suppress(ValueError):
            self._table.processes.remove(self)

    async def __aenter__(self: P) -> P:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid}, {'running' if self.returncode is None else 'ended'}>"


async def start_process(
    kind: type[P],
    connection: AsyncConnection,
    table: ProcessTable,
    method: str,
    params: Mapping[str, Any],
    *,
    cwd: str | None,
    clear_env: bool | None,
    env: Mapping[str, str] | None,
    stdin: Literal["piped", "null"] | None,
    stdout: StdIo | None,
    stderr: StdIo | None,
    stdin_data: ByteSource | str | None,
) -> P:
    """Starts a process and asks at once for its end, which is what makes the sandbox release its output."""
    if stdin_data is not None and stdin == "null":
        raise ValueError('stdin_data is given together with stdin="null": leave one of them out')
    out, err = stdout or "inherit", stderr or "inherit"
    sink = await connection.open_sink() if stdin == "piped" or stdin_data is not None else None
    shared = optional(cwd=cwd, clearEnv=clear_env, env=env, stdinStreamId=None if sink is None else sink.id)
    pipes = {"stdout": "null" if out == "null" else "piped", "stderr": "null" if err == "null" else "piped"}
    reply = await connection.start_call(method, {**params, **shared, **pipes})
    try:
        answer = await connection.finish_call(reply, gives_up=False)
        exit_reply = await connection.start_call("processWait", {"pid": answer["pid"]})
    except BaseException:
        await end_unwanted(connection, reply)
        raise
    process = kind(connection, table, answer, exit_reply, sink, out, err)
    if sink is not None and stdin_data is not None:
        data = stdin_data.encode() if isinstance(stdin_data, str) else stdin_data
        try:
            await sink.send_all(data, exit_reply.arrived)
        except BaseException:
            # Nobody else has the process yet who could end it.
            with suppress(CaissonError):
                await process.kill()
            raise
    return process


async def end_unwanted(
    connection: AsyncConnection, reply: AsyncReply, target: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Ends a process whose starter was cancelled or interrupted before it had it; there may be none."""
    with suppress(CaissonError):
        try:
            answer = await reply.value(_GRACE_S)
        finally:
            connection.abandon(reply)
        for stream_id in stream_ids(answer):
            await connection.claim_stream(stream_id).cancel()
        await connection.call("processKill", {"pid": answer["pid"], "signal": "SIGKILL", **target})
