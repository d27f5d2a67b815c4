"""The connection into a sandbox against a scripted server: closing, faults, order, lifetimes."""

from __future__ import annotations

import base64
import json
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from caisson import AsyncCaisson, errors
from fake_scripts import cut_off, exited, spawned
from fake_server import SANDBOX_ID, Answer, Failure, FakeServer, FakeSession, Later

pytestmark = pytest.mark.anyio

STOP_PATH = f"/api/v3/sandbox/{SANDBOX_ID}"


async def test_a_close_ends_everything_that_waits(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def hang_up(session: FakeSession, *_: Any) -> Any:
        session.close(1001, "sandbox stopped")
        return Later

    fake.rpc |= {"spawn": spawned(), "processWait": lambda *_: Later, "readTextFile": hang_up}
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("sleep", args=["9"], stdout="piped", stderr="null")
        with pytest.raises(errors.ConnectionClosedError, match="1001: sandbox stopped") as caught:
            await sandbox.fs.read_text_file("x")
        assert (caught.value.code, caught.value.reason) == (1001, "sandbox stopped")
        assert isinstance(caught.value, ConnectionError)
        with pytest.raises(errors.ConnectionClosedError):
            await process.wait()
        with pytest.raises(errors.ConnectionClosedError):
            await process.stdout.read()
        with pytest.raises(errors.ConnectionClosedError):
            await sandbox.env.get("A")
        assert sandbox.closed


async def test_leaving_a_session_whose_end_has_lost_something_raises_as_a_kill_does(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    lost = {"status": "stopped", "damages": ["Volume vol_a: Writes are lost"]}
    fake.rest["GET", STOP_PATH] = [Answer(200, {"status": "stopping"}), Answer(200, lost)]
    with pytest.raises(errors.ConflictError, match="Volume vol_a: Writes are lost") as caught:
        async with fake_client.sandbox.create():
            pass
    assert (caught.value.status, caught.value.code) == (409, "DATA_LOST")


async def test_a_connection_that_breaks_gives_what_arrived_and_then_the_error(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    fake.rpc |= {"spawn": spawned(), "processWait": cut_off}
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("x", stdout="piped", stderr="null")
        assert await process.stdout.read(100) == b"half a line"
        with pytest.raises(errors.ConnectionClosedError) as caught:
            await process.stdout.read(100)
        assert caught.value.code == 1006


@pytest.mark.parametrize("message", ["[]", "{", '{"jsonrpc":"2.0"}', '{"method":"$sandbox.stream.end","params":{}}'])
async def test_a_message_that_is_not_the_protocol_ends_the_connection(
    fake: FakeServer, fake_client: AsyncCaisson, message: str
) -> None:
    def babble(session: FakeSession, *_: Any) -> Any:
        session.send(message)
        return Later

    fake.rpc["envGet"] = babble
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(errors.ConnectionClosedError, match="unexpected message"):
            await sandbox.env.get("A")
        with pytest.raises(errors.ConnectionClosedError):
            await sandbox.env.get("A")


async def test_a_call_that_takes_too_long_is_aborted_and_its_late_answer_ignored(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    fake.rpc |= {"readTextFile": lambda *_: Later, "abort": lambda *_: None, "envGet": lambda *_: "value"}
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(errors.CallTimeoutError, match=r"readTextFile: no answer .* after 0.1 s") as caught:
            await sandbox.fs.read_text_file("x", timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        (session,) = fake.sessions
        # The answer to this call proves that the abort before it has been handled.
        assert await sandbox.env.get("A") == "value"
        assert [method for method, _ in session.calls] == ["readTextFile", "abort", "envGet"]
        assert session.calls[1][1] == {"abortId": session.calls[0][1]["abortId"]}
        session.answer(2, "late")
        assert await sandbox.env.get("A") == "value"


async def test_output_that_comes_together_with_the_answer_is_not_lost(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    def hasty(session: FakeSession, call_id: int, params: dict[str, Any]) -> Any:
        session.answer(call_id, {"pid": 7, "stdoutStreamId": 1, "stderrStreamId": 2})
        for stream_id, data in ((1, b"out\nmore"), (2, b"err")):
            session.start(stream_id)
            session.enqueue(stream_id, data)
            session.end(stream_id)
        return Later

    fake.rpc |= {"spawn": hasty, "processWait": lambda *_: exited()}
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("x", stdout="piped", stderr="piped")
        status = await process.wait()
        assert (status.success, status["code"], process.returncode) == (True, 0, 0)
        assert [line async for line in process.stdout] == [b"out\n", b"more"]
        assert process.stdout.at_eof()
        assert await process.stderr.readexactly(3) == b"err"
        with pytest.raises(EOFError):
            await process.stderr.readexactly(1)


async def test_a_stream_that_is_over_before_anybody_asks_for_it_is_kept(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    def walk(session: FakeSession, call_id: int, params: dict[str, Any]) -> Any:
        session.answer(call_id, {"streamId": 4})
        session.start(4)
        session.enqueue(4, b"all of it")
        session.end(4)
        return Later

    fake.rpc |= {"walk": walk, "envGet": lambda *_: None}
    async with fake_client.sandbox.create() as sandbox:
        connection = sandbox._connection  # pyright: ignore[reportPrivateUsage]
        reply = await connection.start_call("walk", {"path": "."})
        # The answer to this call proves that everything before it has been handled.
        await sandbox.env.get("A")
        assert (await reply.value())["streamId"] == 4
        assert await connection.claim_stream(4).read() == b"all of it"


async def test_closing_a_process_cancels_its_streams_and_later_data_is_ignored(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    def endless(session: FakeSession, *_: Any) -> Any:
        session.start(1)
        session.enqueue(1, b"x")
        return Later

    def kill(session: FakeSession, *_: Any) -> Any:
        wait_call = 1 + [method for method, _ in session.calls].index("processWait")
        session.answer(wait_call, {"success": False, "code": 143, "signal": "SIGTERM", "oom": None})
        return None

    def more(session: FakeSession, *_: Any) -> Any:
        session.enqueue(1, b"late")
        session.end(1)
        return "value"

    fake.rpc |= {"spawn": spawned(), "processWait": endless, "processKill": kill, "envGet": more}
    async with fake_client.sandbox.create() as sandbox:
        async with sandbox.spawn("yes", stdout="piped", stderr="null") as process:
            assert await process.stdout.read(1) == b"x"
        assert process.returncode == 143
        (session,) = fake.sessions
        assert await sandbox.env.get("A") == "value"
        cancel = {"streamId": 1, "reason": None}
        assert ("$sandbox.stream.cancel", cancel) in session.notifications
        assert ("processKill", {"pid": 7, "signal": "SIGTERM"}) in session.calls


async def test_killing_a_process_that_has_ended_is_no_error(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    gone = {"constructorName": "TypeError", "code": "ENOENT", "message": "Child process has already terminated"}
    unknown = {"constructorName": "TypeError", "code": None, "message": "Unknown signal"}
    fake.rpc |= {
        "spawn": spawned(),
        "processWait": lambda *_: exited(),
        "processKill": lambda session, call_id, params: Failure(unknown if params["signal"] == "SIGX" else gone),
    }
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("x", stdout="piped", stderr="null")
        await process.kill()
        with pytest.raises(errors.JsTypeError, match="Unknown signal"):
            await process.kill("SIGX")


async def test_errors_inside_the_sandbox_are_also_the_built_in_classes(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    missing = {"constructorName": "NotFound", "code": "ENOENT", "message": "No such file or directory (os error 2)"}
    strange = {"constructorName": "MyError", "message": "boom", "stack": "MyError: boom\n    at <sandbox>:1:1"}
    zod = [{"expected": "string", "code": "invalid_type", "path": ["path"], "message": "expected string"}]
    invalid = {
        "code": -32602,
        "message": "Invalid params",
        "data": {"constructorName": "ZodError", "message": json.dumps(zod)},
    }
    fake.rpc |= {
        "stat": lambda *_: Failure(missing),
        "lstat": lambda *_: Failure(strange),
        "mkdir": lambda *_: Failure(rpc_error=invalid),
    }
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(FileNotFoundError) as caught:
            await sandbox.fs.stat("x")
        assert isinstance(caught.value, errors.NotFound)
        assert (caught.value.code, caught.value.errno, caught.value.kind) == ("ENOENT", 2, "NotFound")
        assert str(caught.value) == "stat: No such file or directory (os error 2) (NotFound, ENOENT)"
        with pytest.raises(errors.JavaScriptError, match="boom") as thrown:
            await sandbox.fs.lstat("x")
        assert (thrown.value.kind, thrown.value.stack) == ("MyError", strange["stack"])
        with pytest.raises(errors.RpcValidationError, match="path: expected string") as refused:
            await sandbox.fs.mkdir("x")
        assert refused.value.errors == zod
        with pytest.raises(errors.UnknownRpcMethod) as unknown:
            await sandbox.fs.umask()
        assert unknown.value.code == -32601


async def test_data_of_users_keeps_its_case_both_ways(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rpc |= {
        "envToObject": lambda *_: {"MY_VAR": "1", "camelCase": "2"},
        "spawn": spawned(),
        "spawnDenoRepl": spawned(),
        "processWait": lambda *_: exited(),
        "denoReplCall": lambda session, call_id, params: {"someKey": params["args"]},
        "denoReplClose": lambda *_: None,
    }
    async with fake_client.sandbox.create(env={"FOO_BAR": "1"}, labels={"job_name": "x"}) as sandbox:
        config = json.loads(base64.b64decode(fake.requests[0].headers["x-deno-sandbox-config"]))
        assert (config["env"], config["labels"]) == ({"FOO_BAR": "1"}, {"job_name": "x"})
        assert await sandbox.env.as_dict() == {"MY_VAR": "1", "camelCase": "2"}
        await sandbox.spawn("x", env={"MY_VAR": "1", "myVar": "2"}, stdout="null", stderr="null")
        assert fake.sessions[0].calls[1][1]["env"] == {"MY_VAR": "1", "myVar": "2"}
        async with sandbox.deno.repl(stdout="null", stderr="null") as repl:
            assert await repl.call("f", [{"under_score": {"innerKey": None}}]) == {
                "someKey": [{"under_score": {"innerKey": None}}]
            }


async def test_the_configuration_of_a_sandbox_is_sent_whole(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    async with fake_client.sandbox.create(
        region="ord",
        timeout=90,
        memory_mb=2048,
        root="base",
        volumes={"/data": "vol_ord_1", "/ro": {"volume": "shared", "read_only": True}},
        allow_net=["example.com"],
        secrets={"KEY": {"hosts": ["api.example.com"], "value": "é"}},
        hostname="db.example",
    ):
        pass
    assert json.loads(base64.b64decode(fake.requests[0].headers["x-deno-sandbox-config"])) == {
        "memory_mb": 2048,
        "region": "ord",
        "timeout": "90s",
        "root": {"volume": "base"},
        "volumes": [
            {"volume": "vol_ord_1", "path": "/data"},
            {"volume": "shared", "path": "/ro", "read_only": True},
        ],
        "allow_net": ["example.com"],
        "secrets": {"KEY": {"hosts": ["api.example.com"], "value": "é"}},
        "hostname": "db.example",
    }


async def test_a_sandbox_knows_its_end_and_a_warning_says_when_that_is_earlier_than_was_asked_for(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    # The server's clock is an hour ahead.
    now = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    stop_at = now + timedelta(minutes=30)
    fake.upgrade_headers = {
        "date": format_datetime(now, usegmt=True),
        "x-caisson-stop-at-ms": str(int(stop_at.timestamp() * 1000)),
    }
    for timeout in ("30m", 1800, timedelta(minutes=30)):
        async with fake_client.sandbox.create(timeout=timeout) as sandbox:
            assert sandbox.stop_at == stop_at
    with pytest.warns(UserWarning, match=r"is more than the server allows: the sandbox ends at 20.* UTC$") as caught:
        async with fake_client.sandbox.create(timeout="31m") as sandbox:
            assert sandbox.stop_at == stop_at
    (warning,) = caught
    assert warning.filename == __file__
    async with fake_client.sandbox.connect(SANDBOX_ID) as sandbox:
        assert sandbox.stop_at == stop_at


async def test_a_session_has_no_end_of_its_own(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    async with fake_client.sandbox.create() as sandbox:
        assert sandbox.stop_at is None


async def test_a_refused_upgrade_raises_the_class_of_its_status(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    body = {"code": "VOLUME_IN_USE", "message": "Volume is in use", "hint": "End the sandbox.", "request_id": "r1"}
    fake.upgrade = Answer(409, body)
    with pytest.raises(errors.ConflictError) as caught:
        await fake_client.sandbox.create(volumes={"/data": "x"})
    assert (caught.value.code, caught.value.hint, caught.value.request_id) == (
        "VOLUME_IN_USE",
        "End the sandbox.",
        "r1",
    )
    fake.upgrade = Answer(401, {"code": "INVALID_TOKEN", "message": "no"})
    with pytest.raises(errors.AuthenticationError):
        await fake_client.sandbox.connect(SANDBOX_ID)
    fake.upgrade = Answer(404, b"nothing here")
    with pytest.raises(errors.NotFoundError, match="nothing here"):
        await fake_client.sandbox.connect(SANDBOX_ID)


async def test_an_upgrade_that_is_not_answered_is_given_up_in_time(fake: FakeServer) -> None:
    gate = threading.Event()
    fake.before_upgrade = lambda: gate.wait(20)
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, connect_timeout=0.2) as client:
        with pytest.raises(errors.ApiTimeoutError):
            await client.sandbox.create()
    gate.set()


async def test_leaving_a_session_sandbox_waits_until_it_has_stopped(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    fake.rest["GET", STOP_PATH] = [Answer(200, {"status": "stopping"}), Answer(200, {"status": "stopped"})]
    async with fake_client.sandbox.create() as sandbox:
        assert sandbox.id == SANDBOX_ID
        assert sandbox.trace_id == "trace-1"
    waits = [request.path for request in fake.requests if request.method == "GET" and "wait" in request.path]
    assert waits == [f"{STOP_PATH}?wait=stopped"] * 2
    await sandbox.close()
    assert len(fake.requests) == 3


async def test_a_server_without_that_question_counts_as_done(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rest["GET", STOP_PATH] = [Answer(404, {"code": "NOT_FOUND", "message": "no such path"})]
    async with fake_client.sandbox.create():
        pass
    assert fake.requests[-1].path == f"{STOP_PATH}?wait=stopped"


async def test_a_sandbox_that_does_not_stop_is_reported_unless_something_worse_happened(fake: FakeServer) -> None:
    fake.rest["GET", STOP_PATH] = [Answer(200, {"status": "stopping"})]
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, stop_timeout=0.2) as client:
        with pytest.raises(errors.CaissonError, match=r"has not ended 0.2 s after"):
            async with client.sandbox.create():
                pass
        with pytest.raises(ZeroDivisionError):
            async with client.sandbox.create():
                _ = 1 / 0


async def test_leaving_a_sandbox_with_a_duration_ends_only_the_processes_started_here(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    fake.rpc |= {"spawn": spawned(None), "processWait": lambda *_: Later, "processKill": lambda *_: None}
    async with fake_client.sandbox.create(timeout="5m") as sandbox:
        await sandbox.spawn("sleep", stdout="null", stderr="null")
    (session,) = fake.sessions
    assert ("processKill", {"pid": 7, "signal": "SIGTERM"}) in session.calls
    assert not [request for request in fake.requests if "wait=stopped" in request.path]


async def test_what_an_own_kill_breaks_off_is_told_so(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rest["DELETE", STOP_PATH] = [Answer(204, b"")]
    fake.rpc |= {"spawn": spawned(), "processWait": lambda *_: Later}
    async with fake_client.sandbox.create() as sandbox:
        process = await sandbox.spawn("x", stdout="piped", stderr="null")
        await sandbox.kill()
        with pytest.raises(errors.ConnectionClosedError, match="this client asked for the end of the sandbox"):
            await process.stdout.read(100)
        with pytest.raises(errors.ConnectionClosedError, match="this client asked for the end of the sandbox"):
            await sandbox.env.get("A")


async def test_kill_ends_the_sandbox_and_closes(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rest["DELETE", STOP_PATH] = [Answer(204, b"")]
    async with fake_client.sandbox.create() as sandbox:
        await sandbox.kill()
        assert sandbox.closed
    assert [request.method for request in fake.requests] == ["GET", "DELETE"]


async def test_extending_a_session_makes_leaving_it_return_at_once(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rest["PATCH", STOP_PATH] = lambda request: Answer(200, request.body)
    async with fake_client.sandbox.create() as sandbox:
        end = await sandbox.extend_timeout(60)
    assert 50 < end.timestamp() - time.time() <= 60
    assert fake.requests[-1].method == "PATCH"


async def test_a_dead_peer_is_noticed(
    fake: FakeServer, fake_client: AsyncCaisson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caisson._async.websocket.PING_INTERVAL_S", 0.2)
    monkeypatch.setattr("caisson._async.websocket.PONG_TIMEOUT_S", 0.2)
    monkeypatch.setattr("caisson._async.websocket.CLOSE_TIMEOUT_S", 0.2)

    def freeze(session: FakeSession, *_: Any) -> Any:
        session.reads.clear()
        return Later

    fake.rpc["envGet"] = freeze
    async with fake_client.sandbox.create() as sandbox:
        with pytest.raises(errors.ConnectionClosedError):
            await sandbox.env.get("A")


async def test_a_living_peer_is_left_alone_however_long_it_takes(
    fake: FakeServer, fake_client: AsyncCaisson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caisson._async.websocket.PING_INTERVAL_S", 0.05)
    fake.rpc["envGet"] = lambda session, call_id, _: (
        threading.Timer(0.6, session.answer, (call_id, "slow")).start() or Later
    )
    async with fake_client.sandbox.create() as sandbox:
        assert await sandbox.env.get("A") == "slow"
