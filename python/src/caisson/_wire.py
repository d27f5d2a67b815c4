"""The parts of the wire protocol that need no connection: headers, errors, patterns."""

from __future__ import annotations

import base64
import errno
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from ._records import Mount, SecretConfig, Snapshot, Volume, id_of
from .errors import (
    API_ERRORS,
    SANDBOX_ERRORS,
    ApiError,
    ConnectionClosedError,
    JavaScriptError,
    ProcessAlreadyExited,
    RpcError,
    RpcValidationError,
    SandboxError,
    SandboxOSError,
    UnknownRpcMethod,
)

DEFAULT_MEMORY_MB = 1280

# Clocks do not run at quite the same speed, and the server tells its own to the second.
STOP_TOLERANCE_S = 2.0


def api_error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Reads a refusal. The body may be anything, since proxies answer too."""
    try:
        fields = _object(json.loads(body))
    except ValueError:
        fields = None
    request_id = headers.get("x-deno-trace-id")
    kind = API_ERRORS.get(status, ApiError)
    if fields is None:
        text = body.decode("utf-8", "replace").strip()[:500]
        return kind(status, "INVALID_RESPONSE_BODY", text or f"HTTP status {status}", request_id=request_id)
    return kind(
        status,
        str(fields.get("code") or "UNKNOWN_ERROR"),
        str(fields.get("message") or f"HTTP status {status}"),
        hint=fields.get("hint"),
        request_id=fields.get("request_id") or request_id,
    )


def next_cursor(link: str | None) -> str | None:
    """The cursor of the next page, from a `Link` header."""
    for entry in (link or "").split(","):
        match = re.fullmatch(r'\s*<([^>]*)>\s*;\s*rel="?next"?\s*', entry)
        if match is not None:
            cursors = parse_qs(urlsplit(match.group(1)).query).get("cursor")
            return cursors[-1] if cursors else None
    return None


def sandbox_config(
    *,
    region: str | None,
    env: Mapping[str, str] | None,
    timeout: str | float | timedelta | None,
    memory_mb: int | None,
    labels: Mapping[str, str] | None,
    root: str | Volume | Snapshot | None,
    volumes: Mapping[str, str | Volume | Mount] | None,
    allow_net: Sequence[str] | None,
    secrets: Mapping[str, SecretConfig] | None,
    hostname: str | None,
) -> str:
    """The value of the header that describes a new sandbox: base64 of JSON, in plain ASCII."""
    config: dict[str, Any] = {"memory_mb": DEFAULT_MEMORY_MB if memory_mb is None else memory_mb}
    optional = {
        "region": region,
        "env": env,
        "timeout": None if timeout is None else duration_text(timeout),
        "labels": labels,
        "root": None if root is None else {"volume": id_of(root)},
        "volumes": None if volumes is None else [_mount(path, value) for path, value in volumes.items()],
        "allow_net": allow_net,
        "secrets": secrets,
        "hostname": hostname,
    }
    config.update({key: value for key, value in optional.items() if value is not None})
    return base64.b64encode(json.dumps(config, separators=(",", ":")).encode("ascii")).decode("ascii")


def _mount(path: str, value: str | Volume | Mount) -> dict[str, Any]:
    if isinstance(value, (str, Volume)):
        return {"volume": id_of(value), "path": path}
    unknown = set(value) - {"volume", "read_only"}
    if unknown or "volume" not in value:
        raise ValueError(f"Mount at {path!r} is {value!r}: give a volume, or {{'volume': ..., 'read_only': True}}")
    mount: dict[str, Any] = {"volume": id_of(value["volume"]), "path": path}
    if value.get("read_only"):
        mount["read_only"] = True
    return mount


def duration_text(value: str | float | timedelta) -> str:
    """A duration as the wire has it: a text as it is, seconds and `timedelta` as whole seconds, rounded up."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds <= 0:
        raise ValueError(f"Duration is {value!r}: give seconds above zero")
    return f"{-int(-seconds // 1)}s"


def duration_seconds(value: str | float | timedelta | None) -> float | None:
    """A duration in seconds; None for a session, and for a text that the server refuses."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)([sm])", duration_text(value))
    return None if match is None else int(match.group(1)) * (60 if match.group(2) == "m" else 1)


def read_stop_at(headers: Mapping[str, str]) -> datetime | None:
    """When a sandbox ends at the latest, from the answer to the upgrade; None when its creator's connection decides."""
    stop_at_ms = headers.get("x-caisson-stop-at-ms")
    return None if stop_at_ms is None else datetime.fromtimestamp(int(stop_at_ms) / 1000, timezone.utc)


def is_shortened(headers: Mapping[str, str], seconds: float, elapsed: float) -> bool:
    """Whether a new sandbox ends before `seconds` are over.

    Both times are of the server's clock, which need not agree with ours; the time that creating took, by ours, is
    granted to it.
    """
    stop_at = read_stop_at(headers)
    if stop_at is None:
        return False
    date = headers.get("date")
    answered_at = datetime.now(timezone.utc) if date is None else parsedate_to_datetime(date)
    return (stop_at - answered_at).total_seconds() + elapsed < seconds - STOP_TOLERANCE_S


def closed_error(code: int | None, reason: str | None) -> ConnectionClosedError:
    """The error for a socket that is closed; without a closing frame the code is 1006."""
    return ConnectionClosedError(code or 1006, reason or "")


def sandbox_error(error: Mapping[str, Any], method: str) -> SandboxError:
    """An error that happened inside the sandbox."""
    kind = str(error.get("constructorName") or "Error")
    if method == "processKill" and kind == "TypeError" and error.get("code") == "ENOENT":
        return ProcessAlreadyExited(error, method)
    if kind != "Error":
        return SANDBOX_ERRORS.get(kind, JavaScriptError)(error, method)
    return (SandboxOSError if error.get("code") in errno.errorcode.values() else SandboxError)(error, method)


def rpc_error(error: Mapping[str, Any], method: str) -> RpcError:
    """An error of the call itself, not of what it was to do."""
    code = int(error.get("code") or 0)
    message = f"{method}: {error.get('message') or 'unknown error'}"
    data = error.get("data")
    if code == -32601:
        return UnknownRpcMethod(code, message, data)
    if code == -32602:
        return RpcValidationError(code, message, _problems(data))
    return RpcError(code, message, data)


def _problems(data: Any) -> list[dict[str, Any]]:
    """What is wrong with parameters: a list, sent as JSON inside of JSON."""
    try:
        problems = json.loads(str((_object(data) or {}).get("message")))
    except ValueError:
        return []
    if not isinstance(problems, list):
        return []
    return [fields for problem in cast("list[Any]", problems) if (fields := _object(problem)) is not None]


def _object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def remote_error_object(message: str) -> dict[str, Any]:
    """Tells the sandbox why a stream that we send ends early."""
    return {"constructorName": "Error", "message": message}


def js_regex(pattern: re.Pattern[str]) -> dict[str, str]:
    """A Python pattern as the JavaScript pattern that the sandbox evaluates.

    Raises:
        ValueError: For what JavaScript cannot express.
    """
    flags = "".join(letter for flag, letter in _JS_FLAGS if pattern.flags & flag)
    if pattern.flags & (re.VERBOSE | re.ASCII | re.LOCALE):
        raise ValueError(
            f"Pattern {pattern.pattern!r}: the flags VERBOSE, ASCII and LOCALE cannot be sent to a sandbox"
        )
    source: list[str] = []
    position = 0
    for match in _PYTHON_ONLY.finditer(pattern.pattern):
        text = match.group()
        if text.startswith("(?P<"):
            translated = "(?<"
        elif text.startswith("(?P="):
            translated = f"\\k<{match.group('name')}>"
        elif text in _ANCHORS:
            translated = _ANCHORS[text]
        elif text.startswith("\\"):
            translated = text
        else:
            raise ValueError(f"Pattern {pattern.pattern!r}: {text!r} cannot be sent to a sandbox")
        source += [pattern.pattern[position : match.start()], translated]
        position = match.end()
    source.append(pattern.pattern[position:])
    return {"source": "".join(source), "flags": flags}


_JS_FLAGS = ((re.IGNORECASE, "i"), (re.MULTILINE, "m"), (re.DOTALL, "s"))
# An escaped character is matched as a whole, so that the backslash of `\\A` is not taken for that of `\A`.
_PYTHON_ONLY = re.compile(r"\\.|\(\?P<|\(\?P=(?P<name>\w+)\)|\(\?#|\(\?\(|\(\?>|\(\?[aiLmsux-]+[:)]", re.DOTALL)
_ANCHORS = {"\\A": "(?<![\\s\\S])", "\\Z": "(?![\\s\\S])"}
