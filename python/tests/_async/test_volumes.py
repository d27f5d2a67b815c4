"""Volumes and snapshots on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from caisson import AsyncCaisson, errors

pytestmark = [pytest.mark.anyio, pytest.mark.server]

DEBIAN = "builtin:debian-13"


async def test_the_example_of_the_documentation_runs(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(slug=name, region="ord", capacity="1GB")
    async with client.sandbox.create(
        region="ord", volumes={"/data/dataset": volume["slug"]}, labels={"job": "prepare"}
    ) as sandbox:
        await sandbox.fs.write_text_file("/data/dataset/hello.txt", "Persist me!\n")
    page = await client.volumes.list(search=name.upper())
    for vol in page.items:
        assert f"{vol['slug']} {vol['capacity']}" == f"{name} 1000000000"
        assert vol["used"] > 0
    # No waiting: the volume is free when the block has been left.
    async with client.sandbox.create(volumes={"/mnt/again": volume.id}) as sandbox:
        assert await sandbox.fs.read_text_file("/mnt/again/hello.txt") == "Persist me!\n"
    await client.volumes.delete(name)
    assert await client.volumes.get(name) is None


async def test_a_volume_is_created_found_and_deleted(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", 300_000_000, labels={"myKey": "My Value"})
    assert volume.capacity == 300_000_000
    assert (volume.is_bootable, volume.base_snapshot, volume.parent, volume.attached_to) == (False, None, None, None)
    assert volume.labels == {"myKey": "My Value"}
    for key in (name, volume.id):
        found = await client.volumes.get(key)
        assert found is not None
        # Sizes are measured when they are asked for.
        assert found == {**volume, "usage_measured_at": found["usage_measured_at"]}
    assert [found.id for found in (await client.volumes.list(labels={"myKey": "My Value"})).items] == [volume.id]
    assert (await client.volumes.list(search=name, labels={"myKey": "other"})).items == []
    with pytest.raises(errors.ConflictError) as caught:
        await client.volumes.create(name, "ord", "1GB")
    assert caught.value.code == "SLUG_ALREADY_IN_USE"
    assert caught.value.hint
    assert caught.value.request_id
    assert (await client.volumes.update(volume, labels={"b": "2"})).labels == {"b": "2"}
    await client.volumes.delete(volume)
    with pytest.raises(errors.NotFoundError):
        await client.volumes.delete(volume)


async def test_the_inodes_of_a_volume_are_chosen_and_shown(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB", inodes=50_000)
    assert volume.inodes is not None
    assert 50_000 <= volume.inodes < 51_000
    snapshot = await client.volumes.snapshot(volume, slug=f"{name}-1")
    assert (snapshot.inodes, snapshot.used_inodes) == (volume.inodes, volume.used_inodes)
    with pytest.raises(errors.BadRequestError, match="give a whole number from 1024"):
        await client.volumes.create(f"{name}-2", "ord", "300MB", inodes=7)


async def test_the_class_of_a_volume_is_chosen_and_shown(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB", storage_class="local")
    assert volume.storage_class == "local"
    assert (await client.volumes.snapshot(volume, slug=f"{name}-1")).storage_class == "local"
    with pytest.raises(errors.BadRequestError, match="has no replicated pool"):
        await client.volumes.create(f"{name}-2", "ord", "300MB", storage_class="replicated")


async def test_a_create_with_the_same_key_gives_the_same_volume(client: AsyncCaisson, name: str) -> None:
    first = await client.volumes.create(name, "ord", "1GB", idempotency_key=name)
    assert (await client.volumes.create(name, "ord", "1GB", idempotency_key=name)).id == first.id
    with pytest.raises(errors.ConflictError) as caught:
        await client.volumes.create(name, "ord", "2GB", idempotency_key=name)
    assert caught.value.code == "IDEMPOTENCY_KEY_REUSED"


@pytest.mark.parametrize(
    ("slug", "region", "capacity", "code"),
    [
        ("-x", "ord", "1GB", "INVALID_SLUG"),
        ("good", "nowhere", "1GB", "INVALID_REGION"),
        ("good", "ord", "1TB", "INVALID_CAPACITY"),
        ("good", "ord", 5, "INVALID_CAPACITY"),
    ],
)
async def test_bad_values_are_refused_with_a_code(
    client: AsyncCaisson, slug: str, region: str, capacity: int | str, code: str
) -> None:
    with pytest.raises(errors.BadRequestError) as caught:
        await client.volumes.create(slug, region, capacity)
    assert caught.value.code == code


async def test_iterating_a_listing_walks_all_pages(client: AsyncCaisson, name: str) -> None:
    slugs = [f"{name}-{index}" for index in range(5)]
    for slug in slugs:
        await client.volumes.create(slug, "ord", "300MB")
    page = await client.volumes.list(search=name, limit=2)
    assert [volume.slug for volume in page.items] == slugs[:2:-1]
    assert page.has_more
    assert [volume.slug async for volume in page] == slugs[::-1]
    resumed = await client.volumes.list(search=name, limit=2, cursor=page.next_cursor)
    assert [volume.slug for volume in resumed.items] == slugs[2:0:-1]


async def test_a_deleted_volume_comes_back_with_what_it_held(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB")
    async with client.sandbox.create(volumes={"/v": volume}) as sandbox:
        await sandbox.fs.write_file("/v/kept", b"kept")
    await client.volumes.delete(volume)
    (deleted,) = (await client.volumes.list(deleted=True, search=name)).items
    assert deleted.id == volume.id
    assert deleted.deleted_at is not None
    assert deleted.purge_at is not None
    await client.volumes.create(name, "ord", "300MB")
    with pytest.raises(errors.ConflictError):
        await client.volumes.restore(volume)
    restored = await client.volumes.restore(volume, slug=f"{name}-b")
    assert (restored.id, restored.slug, restored.deleted_at) == (volume.id, f"{name}-b", None)
    async with client.sandbox.create(volumes={"/v": restored}) as sandbox:
        assert await sandbox.fs.read_file("/v/kept") == b"kept"


async def test_a_volume_is_given_a_schedule_whose_snapshots_are_automatic(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB", every="12h")
    assert volume.schedule is not None
    assert (volume.schedule.every, volume.schedule.error) == ("12h", None)
    assert volume.schedule.replicates is False
    assert volume.replicated_at is None
    assert (await client.volumes.schedule(volume, every=None)).schedule is None
    with pytest.raises(errors.BadRequestError, match="30d"):
        await client.volumes.schedule(volume, every="1y")
    snapshot = await client.volumes.snapshot(volume, slug=f"{name}-s")
    assert snapshot.automatic is False


async def test_what_is_deleted_for_good_or_purged_cannot_be_restored(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB")
    assert volume.last_error is None
    assert (await client.volumes.acknowledge(volume)).last_error is None
    snapshot = await client.volumes.snapshot(volume, slug=f"{name}-s")
    with pytest.raises(errors.NotFoundError):
        await client.volumes.purge(volume)
    await client.snapshots.delete(snapshot)
    await client.snapshots.purge(snapshot)
    with pytest.raises(errors.NotFoundError):
        await client.snapshots.restore(snapshot)
    other = await client.volumes.snapshot(volume, slug=f"{name}-t")
    await client.snapshots.delete(other, now=True)
    await client.volumes.delete(volume)
    await client.volumes.purge(volume)
    gone = await client.volumes.create(name, "ord", "300MB")
    await client.volumes.delete(gone, now=True)
    assert (await client.volumes.list(deleted=True, search=name)).items == []
    assert (await client.snapshots.list(deleted=True, search=name)).items == []


async def test_pools_tell_what_they_hold(client: AsyncCaisson) -> None:
    (pool,) = await client.pools.list()
    assert pool.region == "ord"
    assert 0 < pool.available <= pool.free <= pool.total
    assert pool.retention_floor_hours == 1
    with pytest.raises(errors.BadRequestError, match="name no size"):
        await client.pools.grow()


async def test_a_server_without_a_snapshot_store_says_so(client: AsyncCaisson) -> None:
    with pytest.raises(errors.NotSupportedError, match=r"snapshot_store\.url"):
        await client.snapshot_store.get()
    with pytest.raises(errors.NotSupportedError, match=r"snapshot_store\.url"):
        await client.snapshot_store.accept()
    with pytest.raises(errors.NotSupportedError, match=r"snapshot_store\.url"):
        await client.snapshot_store.rotate_key(dry_run=True)
    with pytest.raises(errors.NotSupportedError, match=r"snapshot_store\.url"):
        await client.snapshot_store.finish_key_rotation(f"caisson-key-1:{'0' * 64}\n")
    with pytest.raises(ValueError, match="is no installation key"):
        await client.snapshot_store.finish_key_rotation("0" * 64)


async def test_a_node_is_drained_and_used_again(client: AsyncCaisson, name: str) -> None:
    (node,) = await client.nodes.list()
    assert (node.state, node.regions, node.memory_mib) == ("live", ["ord"], None)
    volume = await client.volumes.create(name, "ord", "300MB")
    assert volume.node == node.id
    with pytest.raises(errors.ConflictError, match="this server is that node"):
        await client.nodes.forget(node.id)
    with pytest.raises(errors.NotFoundError):
        await client.nodes.get("nod_absent")
    with pytest.raises(errors.BadRequestError, match="in the process of a server"):
        await client.nodes.set_address(node.id, "10.0.0.9:8485")
    # No other test runs at the same time.
    assert (await client.nodes.drain(node.id)).draining
    try:
        assert (await client.nodes.get(node.id)).state == "draining"
    finally:
        assert (await client.nodes.undrain(node.id)).state == "live"


async def test_tokens_for_joining_are_made_listed_and_revoked(client: AsyncCaisson) -> None:
    made = await client.nodes.create_token(expires_seconds=60, region="ord")
    assert made.token.startswith("cjt_")
    assert made.server_url.startswith("http")
    assert (made.region, made.node_id) == ("ord", None)
    listed = [token for token in await client.nodes.list_tokens() if token.id == made.id]
    assert [(token.region, token.expires_at, "token" in token) for token in listed] == [("ord", made.expires_at, False)]
    assert (await client.nodes.create_token()).region is None
    for token in await client.nodes.list_tokens():
        await client.nodes.revoke_token(token.id)
    assert await client.nodes.list_tokens() == []
    with pytest.raises(errors.NotFoundError):
        await client.nodes.revoke_token(made.id)
    with pytest.raises(errors.BadRequestError, match="1 second to 30 days"):
        await client.nodes.create_token(expires_seconds=0)


async def test_the_authority_of_nodes_is_renewed_and_retired(client: AsyncCaisson) -> None:
    await client.nodes.create_token()
    (before,) = (await client.nodes.authority()).authorities
    renewed = await client.nodes.renew_authority()
    assert [one["number"] for one in renewed.authorities] == [before["number"], before["number"] + 1]
    assert renewed.authorities[0] == before
    with pytest.raises(errors.BadRequestError, match="being renewed already"):
        await client.nodes.renew_authority()
    retired = await client.nodes.retire_authority(lock_out=True)
    assert (retired.authorities, retired.waiting_nodes) == (renewed.authorities[1:], [])
    assert await client.nodes.list_tokens() == []
    with pytest.raises(errors.BadRequestError, match="no two authorities"):
        await client.nodes.retire_authority()


async def test_what_would_be_lost_with_a_node_is_told(client: AsyncCaisson, name: str) -> None:
    (node,) = await client.nodes.list()
    before = await client.nodes.loss(node.id)
    await client.volumes.create(name, "ord", "300MB")
    loss = await client.nodes.loss(node.id)
    assert (loss.volumes, loss.snapshots) == (before.volumes + 1, before.snapshots)
    with pytest.raises(errors.ConflictError, match="this server is that node"):
        await client.nodes.forget(node.id, lost=True)


async def test_a_grown_volume_has_room(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB")
    grown = await client.volumes.grow(volume, capacity="600MB")
    assert grown.capacity == 600_000_000
    async with client.sandbox.create(volumes={"/v": grown}) as sandbox:
        await sandbox.sh("head -c 400M /dev/zero > /v/file")
        with pytest.raises(errors.ConflictError):
            await client.volumes.grow(volume, capacity="700MB")
    with pytest.raises(errors.BadRequestError):
        await client.volumes.grow(volume, capacity="300MB")


async def test_snapshots_keep_an_instant_and_know_their_lineage(client: AsyncCaisson, name: str) -> None:
    volume = await client.volumes.create(name, "ord", "300MB")
    async with client.sandbox.create(volumes={"/v": volume}) as sandbox:
        await sandbox.fs.write_text_file("/v/file", "one")
        live = await client.volumes.snapshot(volume, slug=f"{name}-live", labels={"a": "1"})
        await sandbox.fs.write_text_file("/v/file", "two")
    clean = await client.volumes.snapshot(volume.slug, slug=f"{name}-clean")
    assert (live.consistency, clean.consistency) == ("frozen", "clean")
    assert (live.volume.id, live.volume.slug, live.labels) == (volume.id, name, {"a": "1"})
    assert (live["bootable"], live.bootable, live.is_bootable) == (False, False, False)
    found = await client.snapshots.get(live.slug)
    assert found is not None
    assert (found.id, found.created_at, found.region) == (live.id, live.created_at, "ord")
    fork = await client.volumes.create(f"{name}-fork", "ord", "300MB", from_snapshot=live)
    assert fork.parent is not None
    assert (fork.parent.kind, fork.parent.id, fork.parent.slug) == ("snapshot", live.id, live.slug)
    async with client.sandbox.create(volumes={"/v": fork}) as sandbox:
        assert await sandbox.fs.read_text_file("/v/file") == "one"
    descendants = await client.volumes.descendants(volume)
    assert {item.slug for item in descendants} == {live.slug, clean.slug, fork.slug}
    assert [item.slug for item in await client.snapshots.descendants(live)] == [fork.slug]
    assert {item.slug async for item in await client.snapshots.list(search=name)} == {live.slug, clean.slug}
    await client.snapshots.delete(live)
    assert await client.snapshots.get(live.id) is None
    assert [item.id for item in (await client.snapshots.list(search=name, deleted=True)).items] == [live.id]
    assert (await client.snapshots.restore(live)).id == live.id
    assert (await client.snapshots.update(live, labels={"b": "2"})).labels == {"b": "2"}


async def test_a_bootable_volume_keeps_what_a_sandbox_writes_and_a_snapshot_does_not(
    client: AsyncCaisson, name: str
) -> None:
    root = await client.volumes.create(name, "ord", "10GB", from_snapshot=DEBIAN)
    assert root.is_bootable
    assert root.parent is not None
    assert root.parent.kind == "image"
    async with client.sandbox.create(root=root) as sandbox:
        await sandbox.fs.write_text_file("note", "kept")
    async with client.sandbox.create(root=root.slug) as sandbox:
        assert await sandbox.fs.read_text_file("note") == "kept"
    snapshot = await client.volumes.snapshot(root, slug=f"{name}-s")
    assert snapshot.bootable
    for _ in range(2):
        async with client.sandbox.create(root=snapshot) as sandbox:
            assert await sandbox.fs.read_text_file("note") == "kept"
            await sandbox.fs.write_text_file("note", "changed")
    blank = await client.volumes.create(f"{name}-b", "ord", "300MB")
    with pytest.raises(errors.BadRequestError) as caught:
        await client.sandbox.create(root=blank)
    assert caught.value.code == "NOT_BOOTABLE"


async def test_a_snapshot_leaves_and_comes_back(client: AsyncCaisson, name: str) -> None:
    await client.volumes.create(name, "ord", "300MB")
    async with client.sandbox.create(volumes={"/v": name}) as sandbox:
        await sandbox.fs.write_text_file("/v/file", "exported")
    await client.volumes.snapshot(name, slug=f"{name}-1", labels={"team": "a"})

    async def pieces(content: bytes) -> AsyncIterator[bytes]:
        yield content

    content = b"".join([piece async for piece in client.snapshots.export(f"{name}-1")])
    imported = await client.snapshots.import_(pieces(content), slug=f"{name}-2")
    assert (imported.slug, imported.labels, imported.is_bootable) == (f"{name}-2", {"team": "a"}, False)
    raw = b"".join([piece async for piece in client.snapshots.export(imported, raw=True)])
    assert len(raw) == 300_000_000
    again = await client.snapshots.import_(
        pieces(raw), slug=f"{name}-3", region="ord", labels={"b": "2"}, raw=True, bootable=True
    )
    assert (again.labels, again.is_bootable) == ({"b": "2"}, True)
    await client.volumes.create(f"{name}-new", "ord", "300MB", from_snapshot=f"{name}-3")
    async with client.sandbox.create(volumes={"/v": f"{name}-new"}) as sandbox:
        assert await sandbox.fs.read_text_file("/v/file") == "exported"

    with pytest.raises(errors.ApiError) as caught:
        await client.snapshots.import_(pieces(content[:-1]), slug=f"{name}-4")
    assert caught.value.code == "INVALID_SNAPSHOT_FILE"
    assert await client.snapshots.get(f"{name}-4") is None
    with pytest.raises(errors.NotFoundError):
        async for _ in client.snapshots.export(f"{name}-4"):
            pass
