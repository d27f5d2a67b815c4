"""The unmodified official `deno-sandbox` package as a client of a real server."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import httpx
import pytest
from deno_sandbox import AsyncDenoDeploy
from deno_sandbox.errors import AuthenticationError, HTTPStatusError, RpcValidationError, UnknownRpcMethod

from caisson._async.concurrency import sleep
from real_server import RealServer
from ssh_login import run_over_ssh

pytestmark = [pytest.mark.anyio, pytest.mark.server]

# Older versions raise the error of their HTTP library.
STATUS_ERRORS = (httpx.HTTPStatusError, HTTPStatusError)

VOLUME_KEYS = {
    "id",
    "slug",
    "region",
    "capacity",
    "estimated_allocated_size",
    "estimated_flattened_size",
    "is_bootable",
    "base_snapshot",
    "used",
}


async def test_a_volume_is_created_found_listed_and_deleted(sdk: AsyncDenoDeploy, name: str) -> None:
    volume = await sdk.volumes.create(slug=name, region="ord", capacity="1GB")
    assert set(volume) == VOLUME_KEYS
    assert dict(volume)["used"] == volume["estimated_flattened_size"]
    assert (volume["slug"], volume["region"], volume["capacity"]) == (name, "ord", 1_000_000_000)
    assert (volume["is_bootable"], volume.get("base_snapshot")) == (False, None)
    assert await sdk.volumes.get(volume["id"]) == volume
    assert await sdk.volumes.get(name) == volume
    assert (await sdk.volumes.list(search=name)).items == [volume]
    await sdk.volumes.delete(name)
    assert await sdk.volumes.get(name) is None
    with pytest.raises(STATUS_ERRORS, match=r"\b404\b"):
        await sdk.volumes.delete(name)


async def test_pages_follow_each_other_by_the_whole_next_address(sdk: AsyncDenoDeploy, name: str) -> None:
    for index in range(3):
        await sdk.volumes.create(slug=f"{name}-{index}", region="ord", capacity="300MB")
    first = await sdk.volumes.list(search=name, limit=2)
    assert [volume["slug"] for volume in first.items] == [f"{name}-2", f"{name}-1"]
    assert first.has_more
    second = await first.get_next_page()
    assert second is not None
    assert [volume["slug"] for volume in second.items] == [f"{name}-0"]
    assert not second.has_more
    assert await second.get_next_page() is None


async def test_a_mounted_volume_keeps_its_files(sdk: AsyncDenoDeploy, name: str) -> None:
    volume = await sdk.volumes.create(slug=name, region="ord", capacity="300MB")
    async with sdk.sandbox.create(
        region="ord", volumes={"/data/nested/dataset": volume["slug"]}, labels={"job": "prepare"}
    ) as sandbox:
        await sandbox.fs.write_text_file("/data/nested/dataset/hello.txt", "Persist me!\n")
        process = await sandbox.spawn("sync", stdout="piped", stderr="piped")
        assert (await process.wait())["success"]
    # Without a pause, and by id this time.
    async with sdk.sandbox.create(region="ord", volumes={"/data/nested/dataset": volume["id"]}) as sandbox:
        assert await sandbox.fs.read_text_file("/data/nested/dataset/hello.txt") == "Persist me!\n"


async def test_a_bootable_volume_keeps_its_root_and_a_snapshot_serves_many(sdk: AsyncDenoDeploy, name: str) -> None:
    root = await sdk.volumes.create(slug=name, region="ord", capacity="10GB", from_snapshot="builtin:debian-13")
    assert (root["is_bootable"], root["capacity"]) == (True, 10_000_000_000)
    async with sdk.sandbox.create(region="ord", root=name) as sandbox:
        await sandbox.fs.write_text_file("note.txt", "kept")
        # The documentation takes its snapshot right here, while the sandbox holds the volume.
        snapshot = await sdk.volumes.snapshot(root["id"], slug=f"{name}-s")
        await sandbox.fs.write_text_file("note.txt", "later")
    async with sdk.sandbox.create(region="ord", root=root["id"]) as sandbox:
        assert await sandbox.fs.read_text_file("note.txt") == "later"
    assert snapshot["is_bootable"]
    assert await sdk.snapshots.get(snapshot["slug"]) is not None
    assert [item["id"] for item in (await sdk.snapshots.list(search=name)).items] == [snapshot["id"]]
    async with (
        sdk.sandbox.create(region="ord", root=snapshot["slug"]) as first,
        sdk.sandbox.create(region="ord", root=snapshot["id"]) as second,
    ):
        assert await first.fs.read_text_file("note.txt") == "kept"
        await first.fs.write_text_file("note.txt", "mine")
        assert await second.fs.read_text_file("note.txt") == "kept"
    fork = await sdk.volumes.create(slug=f"{name}-f", region="ord", capacity="10GB", from_snapshot=snapshot["slug"])
    assert fork.get("base_snapshot") == {"id": snapshot["id"], "slug": snapshot["slug"]}
    await sdk.snapshots.delete(snapshot["slug"])
    assert await sdk.snapshots.get(snapshot["id"]) is None


async def test_files_make_the_round_trip(sdk: AsyncDenoDeploy, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("uploaded")
    (tmp_path / "tree" / "link").symlink_to("sub/file")
    async with sdk.sandbox.create() as sandbox:
        fs = sandbox.fs
        await fs.write_file("chunks", iter([bytes([index]) * 10_240 for index in range(10)]))
        assert await fs.read_file("chunks") == b"".join(bytes([index]) * 10_240 for index in range(10))
        await fs.write_file("empty", iter([]))
        assert await fs.read_file("empty") == b""
        await fs.write_text_file("text", "Grüße", mode=0o600)
        info = await fs.stat("text")
        assert (info["size"], info["is_file"], info["mode"] & 0o777) == (7, True, 0o600)
        await fs.mkdir("a/b", recursive=True)
        await fs.rename("text", "a/b/text")
        assert [entry["name"] for entry in await fs.read_dir("a/b")] == ["text"]
        await fs.upload(str(tmp_path / "tree"), "/tmp/tree")
        assert await fs.read_text_file("/tmp/tree/link") == "uploaded"
        assert (await fs.lstat("/tmp/tree/link"))["is_symlink"]
        await fs.remove("a", recursive=True)
        with pytest.raises(Exception, match="NotFound"):
            await fs.stat("a")
        async with await fs.open("handle", read=True, write=True, create=True) as file:
            assert await file.write(b"hello world") == 11
            assert await file.seek(6, 0) == 6
            assert await file.read(5) == b"world"
            await file.truncate(0)
            assert (await file.stat())["size"] == 0
            await file.lock(True)
            await file.unlock()
            await file.sync_data()


async def test_processes_print_and_take_input(sdk: AsyncDenoDeploy) -> None:
    async with sdk.sandbox.create(env={"GREETING": "hello"}) as sandbox:
        process = await sandbox.spawn(
            "sh", args=["-c", "echo $GREETING; echo err >&2; exit 42"], stdout="piped", stderr="piped"
        )
        status = await process.wait()
        assert (status["success"], status["code"]) == (False, 42)
        assert await process.stdout.read() == b"hello\n"
        assert await process.stderr.read() == b"err\n"
        process = await sandbox.spawn("cat", stdin_data=iter([b"x" * 100_000, b"y"]), stdout="piped", stderr="piped")
        assert await process.stdout.read() == b"x" * 100_000 + b"y"
        await sandbox.env.set("A_KEY", "value")
        assert await sandbox.env.get("A_KEY") == "value"
        await sandbox.env.delete("A_KEY")
        assert await sandbox.deno.eval("1 + 2") == 3
        async with await sandbox.deno.repl(stdout="null", stderr="null") as repl:
            await repl.eval("function add(a, b) { return a + b }")
            assert await repl.call("add", [1, 2]) == 3
        code = "Deno.serve({port: 0}, () => new Response('hi'))"
        served = await sandbox.deno.run(code=code, stdout="piped", stderr="piped")
        assert await served.wait_http_ready()
        assert (await served.fetch("http://localhost/")).status_code == 200


async def test_protocol_errors_have_the_forms_that_it_knows(sdk: AsyncDenoDeploy) -> None:
    async with sdk.sandbox.create() as sandbox:
        with pytest.raises(UnknownRpcMethod):
            await sandbox.fs.download("here", "there")
        with pytest.raises(RpcValidationError):
            await sandbox.fs.read_text_file(5)  # pyright: ignore[reportArgumentType]


async def test_a_sandbox_with_a_duration_is_found_extended_and_killed(sdk: AsyncDenoDeploy, name: str) -> None:
    async with sdk.sandbox.create(timeout="1m", labels={"job": name}) as sandbox:
        sandbox_id = sandbox.id
        await sandbox.fs.write_text_file("here", "still")
    (meta,) = (await sdk.sandbox.list(labels={"job": name})).items
    assert (meta["id"], meta["status"]) == (sandbox_id, "running")
    async with sdk.sandbox.connect(sandbox_id) as again:
        assert await again.fs.read_text_file("here") == "still"
        assert (await again.extend_timeout(120)).timestamp() > time.time() + 100
        await again.kill()
    deadline = time.monotonic() + 10
    while (await sdk.sandbox.list(labels={"job": name})).items[0]["status"] != "stopped":
        assert time.monotonic() < deadline, "the sandbox does not stop"
        await sleep(0.05)


async def test_a_bad_token_is_its_authentication_error(sdk: AsyncDenoDeploy) -> None:
    stranger = AsyncDenoDeploy({"token": "ddo_wrong"})
    with pytest.raises(AuthenticationError):
        async with stranger.sandbox.create():
            raise AssertionError("a sandbox was made for a stranger")
    with pytest.raises(STATUS_ERRORS, match=r"\b401\b"):
        await stranger.volumes.list()


async def test_a_port_and_a_deno_process_are_exposed_and_answer_at_once(
    sdk: AsyncDenoDeploy, server: RealServer
) -> None:
    trusted = ssl.create_default_context(cafile=server.authority)

    async def get(address: str) -> str:
        # Names below localhost lead here, which the system's resolver need not know.
        url = httpx.URL(address)
        async with httpx.AsyncClient(verify=trusted) as client:
            response = await client.get(
                url.copy_with(host="127.0.0.1"),
                headers={"Host": url.netloc.decode()},
                extensions={"sni_hostname": url.host},
            )
            assert response.status_code == 200
            return response.text

    async with sdk.sandbox.create() as sandbox:
        process = await sandbox.deno.run(code="Deno.serve({ port: 8000 }, () => new Response('reached'))")
        assert await process.wait_http_ready()
        by_port = await sandbox.expose_http(port=8000)
        assert by_port.startswith("https://")
        assert await get(by_port) == "reached"
        by_process = await sandbox.expose_http(pid=process.pid)
        assert by_process != by_port
        assert await get(by_process) == "reached"


async def test_it_is_opened_to_ssh_and_the_user_name_logs_in(sdk: AsyncDenoDeploy) -> None:
    async with sdk.sandbox.create() as sandbox:
        access = await sandbox.expose_ssh()
        assert set(access) == {"hostname", "username", "port"}
        assert isinstance(access["port"], int)
        assert run_over_ssh(**access, command="hostname") == sandbox.id.replace("_", "-")
