"""Answers that several tests script into the fake server."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from fake_server import FakeServer, FakeSession, Later


def spawned(stdout: int | None = 1, stderr: int | None = None) -> Callable[[FakeSession, int, dict[str, Any]], Any]:
    def answer(session: FakeSession, call_id: int, params: dict[str, Any]) -> Any:
        return {"pid": 7, "stdoutStreamId": stdout, "stderrStreamId": stderr}

    return answer


def cut_off(session: FakeSession, *_: Any) -> Any:
    """Instead of a process's end: half a line of its output, and then the connection is cut."""
    session.start(1)
    session.enqueue(1, b"half a line")
    session.drop()
    return Later


def exited(code: int = 0) -> dict[str, Any]:
    return {"success": code == 0, "code": code, "signal": None, "oom": None}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.005)


def echo(fake: FakeServer) -> None:
    """Scripts `cat` in a server that reads nothing while it cannot write."""

    def copy(session: FakeSession, method: str, params: dict[str, Any]) -> None:
        if method == "$sandbox.stream.enqueue":
            session.enqueue(1, base64.b64decode(params["data"]))
        elif method == "$sandbox.stream.end":
            session.end(1)
            session.answer(3, exited())

    def wait(session: FakeSession, *_: Any) -> Any:
        session.start(1)
        return Later

    fake.notification = copy
    fake.rpc |= {"spawn": spawned(), "processWait": wait}
