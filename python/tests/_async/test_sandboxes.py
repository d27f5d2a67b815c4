"""The lives of sandboxes on a real server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from caisson import AsyncCaisson, AsyncSandbox, errors
from real_server import RealServer

pytestmark = [pytest.mark.anyio, pytest.mark.server]


async def test_a_session_ends_with_its_block_and_is_listed_as_stopped(client: AsyncCaisson, name: str) -> None:
    async with client.sandbox.create(labels={"job": name}) as sandbox:
        (running,) = (await client.sandbox.list(labels={"job": name})).items
        assert (running.id, running.status, running.stopped_at) == (sandbox.id, "running", None)
        assert running.labels == {"job": name}
        assert sandbox.trace_id
    (stopped,) = (await client.sandbox.list(labels={"job": name})).items
    assert stopped.status == "stopped"
    assert stopped.stopped_at is not None
    found = await client.sandbox.get(sandbox.id)
    assert found is not None
    assert found.status == "stopped"
    with pytest.raises(errors.NotFoundError):
        await client.sandbox.connect(sandbox.id)


async def test_a_volume_can_be_deleted_as_soon_as_the_block_is_left(client: AsyncCaisson, name: str) -> None:
    for _ in range(3):
        volume = await client.volumes.create(name, "ord", "300MB")
        async with client.sandbox.create(volumes={"/v": volume}) as sandbox:
            attached = await client.volumes.get(name)
            assert attached is not None
            assert attached.attached_to == sandbox.id
            with pytest.raises(errors.ConflictError) as caught:
                await client.volumes.delete(volume)
            assert caught.value.code == "VOLUME_IN_USE"
        await client.volumes.delete(volume)


async def test_two_connections_share_one_sandbox(client: AsyncCaisson, sandbox: AsyncSandbox) -> None:
    async with client.sandbox.connect(sandbox.id) as other:
        assert other.id == sandbox.id
        await other.fs.write_text_file("shared", "hello")
        assert await sandbox.fs.read_text_file("shared") == "hello"
    assert not sandbox.closed
    assert await sandbox.fs.read_text_file("shared") == "hello"


async def test_a_sandbox_with_a_duration_outlives_its_connection(client: AsyncCaisson, name: str) -> None:
    async with client.sandbox.create(timeout=timedelta(minutes=1), labels={"job": name}) as sandbox:
        await sandbox.fs.write_text_file("here", "still")
    async with client.sandbox.connect(sandbox.id) as again:
        assert await again.fs.read_text_file("here") == "still"
        await again.kill()
        assert again.closed
    with pytest.raises(errors.NotFoundError):
        await client.sandbox.connect(sandbox.id)


async def test_a_sandbox_can_be_killed_by_its_id_and_that_ends_every_call(client: AsyncCaisson) -> None:
    async with client.sandbox.create() as sandbox:
        process = await sandbox.spawn("sleep", args=["100"], stdout="null", stderr="null")
        await client.sandbox.kill(sandbox.id)
        with pytest.raises(errors.ConnectionClosedError):
            await process.wait()


async def test_extending_promises_a_time(client: AsyncCaisson) -> None:
    before = datetime.now(timezone.utc)
    async with client.sandbox.create(timeout="30s") as sandbox:
        assert sandbox.stop_at is not None
        assert before + timedelta(seconds=29) < sandbox.stop_at <= datetime.now(timezone.utc) + timedelta(seconds=30)
        asked_after = datetime.now(timezone.utc)
        end = await sandbox.extend_timeout(600)
        assert asked_after + timedelta(seconds=599) < end <= datetime.now(timezone.utc) + timedelta(seconds=600)
        assert sandbox.stop_at == end
        await sandbox.kill()


async def test_a_read_only_volume_serves_several_sandboxes(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB")
    async with client.sandbox.create(volumes={"/v": volume}) as sandbox:
        await sandbox.fs.write_text_file("/v/file", "shared")
        with pytest.raises(errors.ConflictError) as caught:
            await client.sandbox.create(volumes={"/v": volume})
        assert caught.value.code == "VOLUME_IN_USE"
    async with (
        client.sandbox.create(volumes={"/v": {"volume": volume, "read_only": True}}) as first,
        client.sandbox.create(volumes={"/v": {"volume": name, "read_only": True}}) as second,
    ):
        assert await first.fs.read_text_file("/v/file") == "shared"
        assert await second.fs.read_text_file("/v/file") == "shared"
        with pytest.raises(OSError, match="Read-only file system"):
            await second.fs.write_text_file("/v/file", "no")


async def test_bad_options_are_refused_before_anything_runs(client: AsyncCaisson) -> None:
    with pytest.raises(errors.BadRequestError) as memory:
        await client.sandbox.create(memory_mb=1)
    assert memory.value.code == "INVALID_MEMORY"
    with pytest.raises(errors.NotFoundError) as volume:
        await client.sandbox.create(volumes={"/v": "no-such-volume"})
    assert volume.value.code == "VOLUME_NOT_FOUND"
    with pytest.raises(errors.BadRequestError):
        await client.sandbox.create(timeout="1h")


async def test_a_bad_token_is_an_authentication_error(server: RealServer) -> None:
    async with AsyncCaisson(token="ddo_wrong", endpoint=server.endpoint) as stranger:
        with pytest.raises(errors.AuthenticationError) as caught:
            await stranger.volumes.list()
        assert caught.value.code == "INVALID_TOKEN"
        with pytest.raises(errors.AuthenticationError):
            await stranger.sandbox.create()


async def test_environment_variables_reach_programs_as_they_are(client: AsyncCaisson) -> None:
    async with client.sandbox.create(env={"MY_VAR": "one", "camelCase": "two"}) as sandbox:
        assert (await sandbox.sh("echo $MY_VAR $camelCase")).stdout_text == "one two\n"
        await sandbox.env.set("MY_VAR", "ünï")
        assert await sandbox.env.get("MY_VAR") == "ünï"
        variables = await sandbox.env.as_dict()
        assert (variables["MY_VAR"], variables["camelCase"]) == ("ünï", "two")
        assert variables["PATH"]
        await sandbox.env.delete("MY_VAR")
        assert await sandbox.env.get("MY_VAR") is None
        result = await sandbox.sh("echo $MY_VAR,$EXTRA_VAR", env={"EXTRA_VAR": "x"})
        assert result.stdout_text == ",x\n"


async def test_ssh_user_names_are_made_and_revoked(client: AsyncCaisson) -> None:
    endpoint = await client.ssh.endpoint()
    assert endpoint.host_key.startswith("ssh-")
    assert endpoint.fingerprint.startswith("SHA256:")
    async with client.sandbox.create() as sandbox:
        first = await client.ssh.create(sandbox.id)
        second = await sandbox.expose_ssh()
        assert (first.hostname, first.port) == (endpoint.hostname, endpoint.port)
        assert first.username != second.username
        await client.ssh.revoke(sandbox.id, first.username)
        with pytest.raises(errors.NotFoundError):
            await client.ssh.revoke(sandbox.id, first.username)
        await client.ssh.revoke(sandbox.id)
        with pytest.raises(errors.NotFoundError):
            await client.ssh.revoke(sandbox.id, second.username)


async def test_ssh_keys_are_added_listed_and_removed(client: AsyncCaisson) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS someone@home"
    key = await client.ssh_keys.add(line)
    try:
        assert (key.name, key.type, key.public_key) == ("someone@home", "ssh-ed25519", line.rpartition(" ")[0])
        assert key.id in [one.id for one in await client.ssh_keys.list()]
    finally:
        await client.ssh_keys.remove(key.id)
    assert key.id not in [one.id for one in await client.ssh_keys.list()]
    with pytest.raises(errors.NotFoundError):
        await client.ssh_keys.remove(key.id)
    named = await client.ssh_keys.add(line, name="laptop")
    assert named.name == "laptop"
    await client.ssh_keys.remove(named.id)


async def test_a_name_that_cannot_be_bound_is_given_back(client: AsyncCaisson) -> None:
    async with client.sandbox.create() as sandbox:
        with pytest.raises(errors.SandboxError):
            await sandbox.expose_http(pid=4_000_000)
        assert await client.previews.list(sandbox.id) == []
