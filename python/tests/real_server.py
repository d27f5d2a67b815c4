"""A real server for the tests: the one that the environment names, or a new one with data of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parents[2] / "caisson"
# The first start on a machine makes the built-in image.
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RealServer:
    endpoint: str
    token: str
    # The authority of its previews; None where they have a certificate that everybody trusts.
    authority: str | None = None


@contextlib.contextmanager
def running_server() -> Generator[RealServer]:
    endpoint, token = os.environ.get("CAISSON_TEST_ENDPOINT"), os.environ.get("CAISSON_TEST_TOKEN")
    if endpoint and token:
        yield RealServer(endpoint, token)
        return
    data = Path(tempfile.mkdtemp(prefix="caisson-python-"))
    try:
        with _started(data) as endpoint:
            token = json.loads((data / "credentials.json").read_text())["token"]
            yield RealServer(endpoint, token, str(data / "previews" / "authority.pem"))
    finally:
        shutil.rmtree(data)
    left = _leftovers(data)
    assert not left, f"the server left something behind: {left}"


@contextlib.contextmanager
def _started(data: Path) -> Generator[str]:
    launcher = shlex.split(os.environ.get("CAISSON_TEST_LAUNCHER", str(LAUNCHER)))
    command = [*launcher, "up", "--data", str(data), "--listen", "127.0.0.1:0"]
    # A session of its own, so that a Ctrl-C for the tests reaches the server through this function only.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[bytes] = []
    readers = [threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)]
    ready: list[str] = []

    def watch(lines: Iterator[bytes]) -> None:
        for line in lines:
            if match := re.search(rb"ready at (\S+)", line):
                ready.append(match.group(1).decode())

    readers.append(threading.Thread(target=watch, args=(process.stdout,), daemon=True))
    for reader in readers:
        reader.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready:
            text = b"".join(log).decode("utf-8", "replace")
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{text}"
            assert time.monotonic() < deadline, f"the server is not ready after {START_TIMEOUT_S} s:\n{text}"
            time.sleep(0.05)
        yield ready[0]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            for reader in readers:
                reader.join(5)
            process.stdout.close()
            process.stderr.close()


def _leftovers(data: Path) -> list[str]:
    """Mounts, loop devices and processes that still have to do with a data directory."""
    name = str(data)
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    devices = [
        str(path)
        for path in Path("/sys/block").glob("loop*/loop/backing_file")
        if name in path.read_text(errors="replace")
    ]
    processes: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name.encode() in path.read_bytes():
                processes.append(str(path))
    return mounts + devices + processes
