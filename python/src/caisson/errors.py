"""Every error that this package raises.

* `ApiError` and one subclass for each status: the server refused a request.
* `ApiConnectionError`, `ApiTimeoutError`: the server could not be reached, or did not answer in time.
* `ConnectionClosedError`, `CallTimeoutError`, `RpcError`: the connection into a sandbox failed.
* `SandboxError` and one subclass for each kind: an operation failed inside the sandbox. Where Python has a
  built-in class for the same thing (`FileNotFoundError`, `PermissionError`, ...) the subclass derives from it
  too, so that ordinary `except` clauses work.
* `SandboxCommandError`, `HTTPStatusError`: a command or a fetched page reported failure.
"""

from __future__ import annotations

import errno as errno_codes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._records import ProcessStatus


class CaissonError(Exception):
    """The base of every error that this package raises on its own account."""


class MissingApiToken(CaissonError):
    """No token was given, neither as an option nor in the environment."""


class ApiConnectionError(CaissonError):
    """The server could not be reached, or the connection broke before it had answered."""


class ApiTimeoutError(ApiConnectionError, TimeoutError):
    """The server did not answer within the time that was allowed."""


class ApiError(CaissonError):
    """The server refused a request.

    Attributes:
        status: The HTTP status.
        code: The server's machine-readable code, for example `"VOLUME_IN_USE"`.
        message: What happened, in words.
        hint: What to do next, when the server says so.
        request_id: Finds the request in the server's log.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.request_id = request_id

    @property
    def trace_id(self) -> str | None:
        """The same as `request_id`, under the name that the wire protocol uses."""
        return self.request_id

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.message} ({self.status} {self.code}{request}){hint}"


class BadRequestError(ApiError):
    """400: a value in the request is not acceptable; the message names it."""


class AuthenticationError(ApiError):
    """401: the token is not valid."""


class PermissionDeniedError(ApiError):
    """403: the token does not allow this."""


class NotFoundError(ApiError):
    """404: there is no such object."""


class ConflictError(ApiError):
    """409: the object's present state forbids it, for example a slug that is taken or a volume in use."""


class PayloadTooLargeError(ApiError):
    """413: the request is too large."""


class RateLimitError(ApiError):
    """429: too many requests, or too many sandboxes at once."""


class InternalServerError(ApiError):
    """500: the server failed."""


class NotSupportedError(ApiError):
    """501: this server does not offer that feature."""


class BadGatewayError(ApiError):
    """502: the sandbox could not be started or reached."""


class ServiceUnavailableError(ApiError):
    """503: the server is starting or stopping."""


class GatewayTimeoutError(ApiError):
    """504: something behind the server did not answer in time."""


class InsufficientStorageError(ApiError):
    """507: the server's storage pool is full."""


API_ERRORS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    429: RateLimitError,
    500: InternalServerError,
    501: NotSupportedError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    507: InsufficientStorageError,
}


class ConnectionClosedError(CaissonError, ConnectionError):
    """The connection into the sandbox is closed: the sandbox ended, or the network broke.

    Attributes:
        code: The WebSocket close code; 1006 when the connection broke without one.
        reason: The reason that the other side gave; where it gave none, that this client asked for the end of the
            sandbox, or an empty text.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"The connection to the sandbox is closed ({code}{': ' if reason else ''}{reason})")
        self.code = code
        self.reason = reason


class CallTimeoutError(CaissonError, TimeoutError):
    """The sandbox did not answer a call within the time that was allowed.

    Attributes:
        stdout: What a command had printed by then, when `sh` was given a timeout; else None.
        stderr: The same for its error output.
    """

    stdout: bytes | None = None
    stderr: bytes | None = None


class RpcError(CaissonError):
    """The sandbox could not process a call.

    Attributes:
        code: The JSON-RPC code, for example -32603.
        message: What happened, in words.
        data: Whatever else the sandbox sent.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} (JSON-RPC {code})")
        self.code = code
        self.message = message
        self.data = data


class UnknownRpcMethod(RpcError):
    """The sandbox does not know the method that was called."""


class RpcValidationError(RpcError, ValueError):
    """The sandbox refused the parameters of a call; `errors` says which and why."""

    def __init__(self, code: int, message: str, errors: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(
            f"\n- {'.'.join(str(part) for part in error.get('path', []))}: {error.get('message', '')}"
            for error in errors
        )
        super().__init__(code, f"{message}{lines}", errors)
        self.errors = list(errors)


class SandboxError(CaissonError):
    """An operation failed inside the sandbox.

    Attributes:
        kind: The class of the error inside the sandbox, for example `"NotFound"`.
        code: The name of the system error, for example `"ENOENT"`, or None.
        message: What happened, in words.
        stack: The stack inside the sandbox, for errors that code of yours threw there, or None.
        method: The call that failed, for example `"readFile"`.
    """

    kind: str = "Error"

    def __init__(self, error: Mapping[str, Any], method: str) -> None:
        self.kind = str(error.get("constructorName") or "Error")
        self.message = str(error.get("message") or "")
        code = error.get("code")
        self.code = code if isinstance(code, str) else None
        stack = error.get("stack")
        self.stack = stack if isinstance(stack, str) else None
        self.method = method
        super().__init__(self.message)
        number = getattr(errno_codes, self.code, None) if self.code else None
        if isinstance(self, OSError) and isinstance(number, int):
            self.errno = number

    def __str__(self) -> str:
        code = f", {self.code}" if self.code else ""
        return f"{self.method}: {self.message} ({self.kind}{code})"


class SandboxOSError(SandboxError, OSError):
    """A system error that has no class of its own here, such as a full disk; `code` and `errno` say which."""


class NotFound(SandboxError, FileNotFoundError):
    """There is no such file, directory or program."""

    kind = "NotFound"


class PermissionDenied(SandboxError, PermissionError):
    """The system does not permit it."""

    kind = "PermissionDenied"


class AlreadyExists(SandboxError, FileExistsError):
    """The file or directory exists already."""

    kind = "AlreadyExists"


class NotADirectory(SandboxError, NotADirectoryError):
    """A part of the path is not a directory."""

    kind = "NotADirectory"


class IsADirectory(SandboxError, IsADirectoryError):
    """The path is a directory where a file is needed."""

    kind = "IsADirectory"


class FilesystemLoop(SandboxError, OSError):
    """Too many symbolic links in the path."""

    kind = "FilesystemLoop"


class ConnectionRefused(SandboxError, ConnectionRefusedError):
    """Nothing listens at the address."""

    kind = "ConnectionRefused"


class ConnectionReset(SandboxError, ConnectionResetError):
    """The other side dropped the connection."""

    kind = "ConnectionReset"


class ConnectionAborted(SandboxError, ConnectionAbortedError):
    """The connection was aborted."""

    kind = "ConnectionAborted"


class NotConnected(SandboxError, OSError):
    """The socket is not connected."""

    kind = "NotConnected"


class AddrInUse(SandboxError, OSError):
    """The address is in use."""

    kind = "AddrInUse"


class AddrNotAvailable(SandboxError, OSError):
    """The address does not exist on this machine."""

    kind = "AddrNotAvailable"


class NetworkUnreachable(SandboxError, OSError):
    """No route leads there."""

    kind = "NetworkUnreachable"


class BrokenPipe(SandboxError, BrokenPipeError):
    """Nobody reads the other end any more."""

    kind = "BrokenPipe"


class Interrupted(SandboxError, InterruptedError):
    """A signal interrupted the operation."""

    kind = "Interrupted"


class WouldBlock(SandboxError, BlockingIOError):
    """The operation would have to wait."""

    kind = "WouldBlock"


class TimedOut(SandboxError, TimeoutError):
    """The operation took too long inside the sandbox."""

    kind = "TimedOut"


class InvalidData(SandboxError, ValueError):
    """The data or an argument is not valid."""

    kind = "InvalidData"


class UnexpectedEof(SandboxError, EOFError):
    """The data ended too early."""

    kind = "UnexpectedEof"


class WriteZero(SandboxError, OSError):
    """A write stored nothing."""

    kind = "WriteZero"


class BadResource(SandboxError):
    """The file handle is closed or was never open."""

    kind = "BadResource"


class Busy(SandboxError, OSError):
    """The resource is busy."""

    kind = "Busy"


class NotSupported(SandboxError):
    """The sandbox does not offer this operation."""

    kind = "NotSupported"


class NotCapable(SandboxError):
    """The runtime inside the sandbox lacks the permission."""

    kind = "NotCapable"


class Http(SandboxError):
    """The HTTP exchange failed."""

    kind = "Http"


class DOMException(SandboxError):
    """A web platform error, for example an operation that was aborted."""

    kind = "DOMException"


class JavaScriptError(SandboxError):
    """JavaScript code threw an error that has no class of its own here; `kind` has the name of its class."""


class JsTypeError(JavaScriptError, TypeError):
    """JavaScript's `TypeError`."""

    kind = "TypeError"


class JsRangeError(JavaScriptError, ValueError):
    """JavaScript's `RangeError`."""

    kind = "RangeError"


class JsReferenceError(JavaScriptError, NameError):
    """JavaScript's `ReferenceError`."""

    kind = "ReferenceError"


class JsSyntaxError(JavaScriptError):
    """JavaScript's `SyntaxError`."""

    kind = "SyntaxError"


class JsUriError(JavaScriptError, ValueError):
    """JavaScript's `URIError`."""

    kind = "URIError"


class JsEvalError(JavaScriptError):
    """JavaScript's `EvalError`."""

    kind = "EvalError"


class JsAggregateError(JavaScriptError):
    """JavaScript's `AggregateError`."""

    kind = "AggregateError"


class ProcessAlreadyExited(SandboxError, ProcessLookupError):
    """The process that was to be signalled has exited already."""


SANDBOX_ERRORS: Mapping[str, type[SandboxError]] = {
    error.kind: error
    for error in (
        NotFound,
        PermissionDenied,
        AlreadyExists,
        NotADirectory,
        IsADirectory,
        FilesystemLoop,
        ConnectionRefused,
        ConnectionReset,
        ConnectionAborted,
        NotConnected,
        AddrInUse,
        AddrNotAvailable,
        NetworkUnreachable,
        BrokenPipe,
        Interrupted,
        WouldBlock,
        TimedOut,
        InvalidData,
        UnexpectedEof,
        WriteZero,
        BadResource,
        Busy,
        NotSupported,
        NotCapable,
        Http,
        DOMException,
        JsTypeError,
        JsRangeError,
        JsReferenceError,
        JsSyntaxError,
        JsUriError,
        JsEvalError,
        JsAggregateError,
    )
}


class SandboxCommandError(CaissonError):
    """A command that `sh` ran did not succeed.

    Attributes:
        status: How the command ended.
        code: Its exit code.
        stdout, stderr: What it printed, as bytes; None where the output was not piped.
    """

    def __init__(self, command: str, status: ProcessStatus, stdout: bytes | None, stderr: bytes | None) -> None:
        how = f"ended by {status.signal}" if status.signal else f"ended with exit code {status.code}"
        memory = ", because the sandbox ran out of memory" if status.oom else ""
        detail = (stderr or b"").decode("utf-8", "replace").strip()
        super().__init__(f"Command {command!r} {how}{memory}{': ' if detail else ''}{detail[-2000:]}")
        self.command = command
        self.status = status
        self.code = status.code
        self.stdout = stdout
        self.stderr = stderr


class HTTPStatusError(CaissonError):
    """A page that was fetched inside the sandbox has a status of 400 or more."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(f"HTTP status {status_code}: {message}")
        self.status_code = status_code
        self.message = message
