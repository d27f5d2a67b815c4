"""What only one of the halves can do: cancellation of tasks, and use from several threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caisson import AsyncCaisson, Caisson, errors
from caisson._sync.flow import FlowControl
from caisson._sync.streams import ByteStream
from fake_scripts import cut_off, spawned, wait_for
from fake_server import SANDBOX_ID, Answer, Failure, FakeServer, FakeSession, Later


@pytest.fixture(autouse=True)
def stopped(fake: FakeServer) -> None:
    fake.rest["GET", f"/api/v3/sandbox/{SANDBOX_ID}"] = [Answer(200, {"status": "stopped"})]


async def silent() -> AsyncIterator[bytes]:
    """A source that never gets to its second piece."""
    yield b"first"
    await asyncio.Event().wait()


@pytest.mark.anyio
async def test_a_source_that_waits_for_ever_does_not_hold_up_a_refusal_or_a_close(fake: FakeServer) -> None:
    denied = {"constructorName": "PermissionDenied", "code": "EACCES", "message": "no"}
    fake.rpc["writeFile"] = lambda *_: Failure(denied)
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint) as client:
        async with client.sandbox.create() as sandbox:
            with pytest.raises(PermissionError):
                await asyncio.wait_for(sandbox.fs.write_file("x", silent()), 10)

        def hang_up(session: FakeSession, *_: Any) -> Any:
            session.close(1001, "stopped")
            return Later

        fake.rpc["writeFile"] = hang_up
        async with client.sandbox.create() as sandbox:
            with pytest.raises(errors.ConnectionClosedError):
                await asyncio.wait_for(sandbox.fs.write_file("x", silent()), 10)


@pytest.mark.anyio
async def test_a_cancelled_task_aborts_its_call_and_leaves_the_connection_usable(fake: FakeServer) -> None:
    fake.rpc |= {"readTextFile": lambda *_: Later, "abort": lambda *_: None, "envGet": lambda *_: "value"}
    async with (
        AsyncCaisson(token="ddo_t", endpoint=fake.endpoint) as client,
        client.sandbox.create() as sandbox,
    ):
        task = asyncio.create_task(sandbox.fs.read_text_file("x"))
        assert await sandbox.env.get("A") == "value"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await sandbox.env.get("A") == "value"
        methods = [method for method, _ in fake.sessions[0].calls]
        assert sorted(methods) == ["abort", "envGet", "envGet", "readTextFile"]
        assert methods.index("readTextFile") < methods.index("abort")


@pytest.mark.anyio
async def test_a_cancelled_upload_tells_the_sandbox_that_it_is_incomplete(fake: FakeServer) -> None:
    fake.rpc |= {"writeFile": lambda *_: Later, "envGet": lambda *_: None}
    async with (
        AsyncCaisson(token="ddo_t", endpoint=fake.endpoint) as client,
        client.sandbox.create() as sandbox,
    ):
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(sandbox.fs.write_file("x", silent()), 0.2)
        await sandbox.env.get("A")
        assert fake.sessions[0].notifications[-1][0] == "$sandbox.stream.error"


def test_many_threads_share_one_sandbox(fake: FakeServer) -> None:
    fake.rpc["envGet"] = lambda session, call_id, params: params["key"] * 1000
    with (
        Caisson(token="ddo_t", endpoint=fake.endpoint) as client,
        client.sandbox.create() as sandbox,
        ThreadPoolExecutor(16) as pool,
    ):
        keys = [str(number) for number in range(1000)]
        assert list(pool.map(sandbox.env.get, keys)) == [key * 1000 for key in keys]


def test_the_synchronous_half_runs_no_event_loop_and_ends_its_only_thread(fake: FakeServer) -> None:
    with Caisson(token="ddo_t", endpoint=fake.endpoint) as client:
        for _ in range(3):
            with client.sandbox.create():
                names = [thread.name for thread in threading.enumerate() if thread.name.startswith("caisson")]
                assert names == ["caisson-reader"]
                with pytest.raises(RuntimeError):
                    asyncio.get_running_loop()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("caisson")] == []


def test_a_thread_that_waits_is_woken_when_another_closes_the_sandbox(fake: FakeServer) -> None:
    called = threading.Event()

    def hold(*_: Any) -> Any:
        called.set()
        return Later

    fake.rpc["envGet"] = hold
    with Caisson(token="ddo_t", endpoint=fake.endpoint) as client, ThreadPoolExecutor(1) as pool:
        sandbox = client.sandbox.create()
        waiting = pool.submit(sandbox.env.get, "A")
        assert called.wait(10)
        sandbox.close()
        with pytest.raises(errors.ConnectionClosedError):
            waiting.result(10)


def test_closing_does_not_wait_for_a_sender_that_is_stuck(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caisson._sync.websocket.CLOSE_TIMEOUT_S", 0.3)
    fake.rpc["envSet"] = lambda *_: None
    with Caisson(token="ddo_t", endpoint=fake.endpoint) as client, ThreadPoolExecutor(2) as pool:
        sandbox = client.sandbox.create()
        fake.sessions[0].reads.clear()
        stuck = pool.submit(sandbox.env.set, "A", "x" * 50_000_000)
        while not sandbox._connection._replies:  # pyright: ignore[reportPrivateUsage]
            assert not stuck.done()
        pool.submit(sandbox.close).result(60)
        with pytest.raises(errors.ConnectionClosedError):
            stuck.result(10)


@pytest.mark.anyio
async def test_closing_does_not_wait_for_a_task_that_is_stuck(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caisson._async.websocket.CLOSE_TIMEOUT_S", 0.3)
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint) as client:
        sandbox = await client.sandbox.create()
        fake.sessions[0].reads.clear()
        stuck = asyncio.create_task(sandbox.env.set("A", "x" * 50_000_000))
        await asyncio.sleep(0)
        await asyncio.wait_for(sandbox.close(), 60)
        with pytest.raises(errors.ConnectionClosedError):
            await asyncio.wait_for(stuck, 10)


def test_what_was_written_counts_as_sent_although_the_connection_broke_at_once(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.rpc |= {"spawn": spawned(), "processWait": cut_off}
    with Caisson(token="ddo_t", endpoint=fake.endpoint) as client, client.sandbox.create() as sandbox:
        websocket = sandbox._connection._websocket  # pyright: ignore[reportPrivateUsage]

        class SlowSocket:
            """Writes, and lets the reader see the cut before it tells how much it wrote."""

            def __init__(self, inner: socket.socket) -> None:
                self.inner = inner
                self.sent = 0

            def send(self, data: memoryview) -> int:
                written = self.inner.send(data)
                self.sent += 1
                if self.sent == 2:
                    wait_for(lambda: websocket._broken, "the cut")  # pyright: ignore[reportPrivateUsage]
                return written

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        monkeypatch.setattr(websocket, "_socket", SlowSocket(websocket._socket))  # pyright: ignore[reportPrivateUsage]
        process = sandbox.spawn("x", stdout="piped", stderr="null")
        assert process.stdout.read(100) == b"half a line"
        with pytest.raises(errors.ConnectionClosedError):
            process.stdout.read(100)


class Peer:
    """Stands for the connection of a stream that nobody else has."""

    def notify(self, method: str, params: dict[str, Any]) -> None:
        pass

    def forget_stream(self, stream: ByteStream) -> None:
        pass

    def forget_outgoing(self, stream_id: int) -> None:
        pass


def test_output_that_arrives_while_the_first_is_being_printed_is_printed_after_it() -> None:
    stream = ByteStream(1, FlowControl(1 << 20), Peer())
    stream.feed(b"first")
    printed: list[bytes] = []
    reader = threading.Thread(target=stream.feed, args=(b"second",))

    def slow_printer(data: bytes) -> None:
        if data == b"first":
            reader.start()
            reader.join(0.3)
        printed.append(data)

    stream.pass_to(slow_printer)
    reader.join()
    assert printed == [b"first", b"second"]


def test_output_that_was_on_its_way_when_its_reader_gave_up_takes_no_room() -> None:
    flow = FlowControl(1 << 20)
    stream = ByteStream(1, flow, Peer())
    stream.feed(b"unread")
    stream.cancel()
    stream.feed(b"late")
    assert flow.buffered_bytes == 0
