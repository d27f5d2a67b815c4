"""Streams against a scripted server: back-pressure, floods in both directions, sources that fail."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from caisson import AsyncCaisson, errors
from fake_scripts import echo, exited, spawned, wait_for
from fake_server import SANDBOX_ID, Answer, Failure, FakeServer, FakeSession, Later

pytestmark = pytest.mark.anyio

STOP_PATH = f"/api/v3/sandbox/{SANDBOX_ID}"


async def test_much_input_and_much_output_at_once_do_not_block_each_other(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    echo(fake)
    data = bytes(range(256)) * (32 * 4096)
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("cat", stdin_data=data, stdout="piped", stderr="null")
        assert hashlib.sha256(await process.stdout.read()).digest() == hashlib.sha256(data).digest()
        assert (await process.wait()).success


async def test_unread_output_is_bounded_and_nothing_of_it_is_lost(fake: FakeServer) -> None:
    chunk, total, sent = b"x" * 65536, 1024, [0]

    def flood(session: FakeSession, *_: Any) -> Any:
        session.start(1)
        for _i in range(total):
            session.enqueue(1, chunk)
            sent[0] += 1
        session.end(1)
        return exited()

    fake.rpc |= {"spawn": spawned(), "processWait": flood}
    fake.rest["GET", STOP_PATH] = [Answer(404, {})]
    async with (
        AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, buffer_bytes=1 << 20) as client,
        client.sandbox.create() as sandbox,
    ):
        process = await sandbox.spawn("yes", stdout="piped", stderr="null")
        assert len(await process.stdout.readexactly(65536)) == 65536

        def is_stuck() -> bool:
            before = sent[0]
            time.sleep(0.3)
            return sent[0] == before

        await wait_in_thread(is_stuck)
        assert sent[0] < total / 2
        assert len(await process.stdout.read()) == (total - 1) * 65536
        assert (await process.wait()).success


async def wait_in_thread(condition: Callable[[], bool]) -> None:
    """Waits without keeping the connection from being read."""
    from caisson._async.concurrency import in_thread

    await in_thread(wait_for, condition, "the flood to stop")


async def test_input_that_nobody_reads_stops_without_an_error(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"y\n" * 1000

    fake.notification = lambda session, method, params: (
        session.cancel(params["streamId"]) if method == "$sandbox.stream.enqueue" else None
    )
    fake.rpc |= {"spawn": spawned(), "processWait": lambda *_: Later}
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("head", stdin_data=endless(), stdout="piped", stderr="null")
        with pytest.raises(BrokenPipeError):
            await process.stdin.write(b"more")


async def test_input_can_be_written_piece_by_piece(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    echo(fake)
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("cat", stdin="piped", stdout="piped", stderr="null")
        await process.stdin.write(b"one\n")
        assert await process.stdout.readline() == b"one\n"
        await process.stdin.write(b"two")
        assert await process.communicate() == (b"two", None)
        with pytest.raises(ValueError, match='stderr="piped"'):
            await process.stderr.read()


async def test_a_source_that_fails_breaks_the_upload_off_and_its_own_error_is_raised(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"part"
        raise RuntimeError("disk on fire")

    fake.rpc |= {"writeFile": lambda *_: Later, "envGet": lambda *_: None}
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(RuntimeError, match="disk on fire"):
            await sandbox.fs.write_file("x", broken())
        assert await sandbox.env.get("A") is None
        kinds = [method.rpartition(".")[2] for method, _ in fake.sessions[0].notifications]
        assert kinds == ["start", "enqueue", "error"]
        error = fake.sessions[0].notifications[-1][1]["error"]
        assert error == {"constructorName": "Error", "message": "RuntimeError: disk on fire"}


async def test_a_process_whose_input_fails_is_ended(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def broken() -> Iterator[bytes]:
        yield b"part"
        raise RuntimeError("disk on fire")

    fake.rpc |= {"spawn": spawned(), "processWait": lambda *_: Later, "processKill": lambda *_: None}
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(RuntimeError, match="disk on fire"):
            await sandbox.spawn("cat", stdin_data=broken(), stdout="piped", stderr="null")
        assert ("processKill", {"pid": 7, "signal": "SIGTERM"}) in fake.sessions[0].calls


async def test_an_upload_that_is_refused_stops_sending(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    denied = {"constructorName": "PermissionDenied", "code": "EACCES", "message": "no"}
    fake.rpc["writeFile"] = lambda *_: Failure(denied)
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(PermissionError):
            await sandbox.fs.write_file("/etc/x", endless())


async def test_a_fetched_body_is_read_and_its_headers_are_pairs(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def answer(session: FakeSession, method: str, params: dict[str, Any]) -> None:
        if method == "$sandbox.stream.end":
            headers = [["content-type", "application/json"], ["set-cookie", "a"], ["set-cookie", "b"]]
            session.answer(3, {"status": 404, "statusText": "Not Found", "headers": headers, "bodyStreamId": 5})
            session.start(5)
            session.enqueue(5, b'{"aKey": 1}')
            session.end(5)

    fake.notification = answer
    fake.rpc["fetch"] = lambda *_: Later
    async with fake_client.sandbox.create() as sandbox:
        response = await sandbox.fetch("http://localhost/x", method="POST", headers={"X-A": "b"}, body="hello")
        assert (response.status_code, response.is_client_error) == (404, True)
        assert response.header("Content-Type") == "application/json"
        assert [value for name, value in response.headers if name == "set-cookie"] == ["a", "b"]
        assert await response.json() == {"aKey": 1}
        with pytest.raises(errors.HTTPStatusError, match="404"):
            response.raise_for_status()
        params = fake.sessions[0].calls[0][1]
        assert (params["method"], params["headers"], params["redirect"]) == ("POST", [["X-A", "b"]], "follow")
        sent = [params["data"] for method, params in fake.sessions[0].notifications if method.endswith("enqueue")]
        assert sent == [base64.b64encode(b"hello").decode()]
