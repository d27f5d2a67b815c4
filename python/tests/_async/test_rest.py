"""The resource API against a scripted server: what is sent, what is repeated, what is raised."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import parse_qsl

import pytest

from caisson import AsyncCaisson, errors
from fake_server import Answer, Drop, FakeServer, Request

pytestmark = pytest.mark.anyio

VOLUME = {
    "id": "vol_ord_0123456789abcdefghjk",
    "slug": "data",
    "region": "ord",
    "capacity": 1_000_000_000,
    "estimated_allocated_size": 5,
    "estimated_flattened_size": 7,
    "is_bootable": False,
    "base_snapshot": {"id": "snp_ord_0123456789abcdefghjk", "slug": "base"},
    "labels": {"myKey": "myValue"},
}
CREATE: dict[str, Any] = {"slug": "data", "region": "ord", "capacity": "1GB"}


@pytest.fixture
async def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces waiting between retries with a list of what would have been waited."""
    seconds: list[float] = []

    async def record(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr("caisson._async.http.sleep", record)
    return seconds


async def test_a_request_carries_the_token_the_organization_and_the_extended_form(fake: FakeServer) -> None:
    fake.rest["GET", "/api/v2/volumes/data"] = [Answer(200, VOLUME)]
    async with AsyncCaisson({"token": "ddp_x"}, endpoint=fake.endpoint, org="acme") as client:
        await client.volumes.get("data")
    headers = fake.requests[0].headers
    assert headers["authorization"] == "Bearer ddp_x"
    assert headers["x-deno-org"] == "acme"
    assert headers["accept"].startswith("application/vnd.caisson+json")
    assert headers["user-agent"].startswith("caisson-python/")


async def test_a_volume_reads_as_mapping_and_as_attributes(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    fake.rest["POST", "/api/v2/volumes"] = [Answer(200, VOLUME)]
    volume = await fake_client.volumes.create("data", "ord", "1GB", from_snapshot="base", labels={"myKey": "myValue"})
    assert fake.requests[0].body == {**CREATE, "from": "base", "labels": {"myKey": "myValue"}}
    assert volume["slug"] == volume.slug == "data"
    assert volume["used"] == volume.used == 7
    assert volume.base_snapshot is not None
    assert volume.base_snapshot.slug == "base"
    assert volume.labels == {"myKey": "myValue"}


async def test_get_gives_none_for_an_object_that_is_not_there(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    missing = Answer(404, {"code": "VOLUME_NOT_FOUND", "message": "no"})
    fake.rest["GET", "/api/v2/volumes/a%2Fb"] = [missing]
    fake.rest["GET", "/api/v2/snapshots/none"] = [missing]
    assert await fake_client.volumes.get("a/b") is None
    assert await fake_client.snapshots.get("none") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.PayloadTooLargeError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (501, errors.NotSupportedError),
        (507, errors.InsufficientStorageError),
    ],
)
async def test_each_status_has_a_class_with_all_that_the_server_said(
    fake: FakeServer, fake_client: AsyncCaisson, delays: list[float], status: int, kind: type[errors.ApiError]
) -> None:
    body = {"code": "SOME_CODE", "message": "It did not work", "hint": "Do this."}
    fake.rest["DELETE", "/api/v2/volumes/data"] = [Answer(status, body, {"x-deno-trace-id": "trace-9"})]
    with pytest.raises(kind) as caught:
        await fake_client.volumes.delete("data")
    error = caught.value
    assert (error.status, error.code, error.message) == (status, "SOME_CODE", "It did not work")
    assert (error.hint, error.request_id, error.trace_id) == ("Do this.", "trace-9", "trace-9")
    assert str(error) == f"It did not work ({status} SOME_CODE, request trace-9) Do this."


async def test_an_answer_that_is_not_json_is_an_error_with_its_text(
    fake: FakeServer, fake_client: AsyncCaisson
) -> None:
    fake.rest["GET", "/api/v2/volumes"] = [Answer(500, b"<html>oops</html>"), Answer(200, b"<html>hello</html>")]
    with pytest.raises(errors.InternalServerError, match="oops") as caught:
        await fake_client.volumes.list()
    assert caught.value.code == "INVALID_RESPONSE_BODY"
    with pytest.raises(errors.ApiError, match="not JSON"):
        await fake_client.volumes.list()


async def test_a_create_is_repeated_with_one_key_when_its_answer_is_lost(
    fake: FakeServer, fake_client: AsyncCaisson, delays: list[float]
) -> None:
    fake.rest["POST", "/api/v2/volumes"] = [Drop, Answer(503, {}), Answer(502, {}), Answer(200, VOLUME)]
    await fake_client.volumes.create(**CREATE)
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert len(fake.requests) == 4
    assert len(keys) == 1
    assert delays == sorted(delays)
    await fake_client.volumes.create(**CREATE, idempotency_key="mine")
    assert fake.requests[-1].headers["idempotency-key"] == "mine"
    assert "mine" not in keys


async def test_a_change_that_may_have_been_made_is_not_repeated(
    fake: FakeServer, fake_client: AsyncCaisson, delays: list[float]
) -> None:
    path = "/api/v2/volumes/data/restore"
    fake.rest["POST", path] = [Drop, Answer(200, VOLUME)]
    with pytest.raises(errors.ApiConnectionError, match="broke before the answer"):
        await fake_client.volumes.restore("data")
    fake.rest["POST", path] = [Answer(502, {}), Answer(200, VOLUME)]
    with pytest.raises(errors.BadGatewayError):
        await fake_client.volumes.restore("data")
    # Here the server says that it has done nothing.
    fake.rest["POST", path] = [Answer(503, {}), Answer(200, VOLUME)]
    await fake_client.volumes.restore("data", slug="again")
    assert fake.requests[-1].body == {"slug": "again"}


async def test_a_deletion_whose_answer_was_lost_counts_as_done(
    fake: FakeServer, fake_client: AsyncCaisson, delays: list[float]
) -> None:
    fake.rest["DELETE", "/api/v2/volumes/data"] = [Drop, Answer(404, {"code": "VOLUME_NOT_FOUND"})]
    await fake_client.volumes.delete("data")
    with pytest.raises(errors.NotFoundError):
        await fake_client.volumes.delete("data")


async def test_the_number_of_retries_and_the_advice_of_the_server_are_respected(
    fake: FakeServer, delays: list[float]
) -> None:
    fake.rest["GET", "/api/v2/volumes"] = [Answer(503, {}, {"Retry-After": "7"})]
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, max_retries=2) as client:
        with pytest.raises(errors.ServiceUnavailableError):
            await client.volumes.list()
    assert len(fake.requests) == 3
    assert delays == [7.0, 7.0]
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, max_retries=0) as client:
        with pytest.raises(errors.ServiceUnavailableError):
            await client.volumes.list()
    assert len(fake.requests) == 4


async def test_a_server_that_is_not_there_is_an_error_that_says_what_to_do(
    fake: FakeServer, delays: list[float]
) -> None:
    fake.stop()
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint) as client:
        with pytest.raises(errors.ApiConnectionError, match="caisson up"):
            await client.volumes.list()
        with pytest.raises(errors.ApiConnectionError, match="Cannot connect"):
            await client.sandbox.connect("sbx_ord_0123456789abcdefghjk")
    assert len(delays) == 3


async def test_a_server_that_does_not_answer_is_given_up_in_time(fake: FakeServer) -> None:
    gate = threading.Event()

    def wait(_: Request) -> Answer:
        gate.wait(20)
        return Answer(200, [])

    fake.rest["GET", "/api/v2/volumes"] = wait
    async with AsyncCaisson(token="ddo_t", endpoint=fake.endpoint, timeout=0.2, max_retries=0) as client:
        with pytest.raises(errors.ApiTimeoutError) as caught:
            await client.volumes.list()
    gate.set()
    assert isinstance(caught.value, TimeoutError)


async def test_a_listing_walks_the_items_of_all_pages(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    def page(request: Request) -> Answer:
        if "cursor=" not in request.path:
            link = f'<{fake.endpoint}/api/v2/volumes?limit=2&cursor=two%3D>; rel="next"'
            return Answer(200, [{**VOLUME, "slug": "a"}, {**VOLUME, "slug": "b"}], {"Link": link})
        return Answer(200, [{**VOLUME, "slug": "c"}])

    fake.rest["GET", "/api/v2/volumes"] = page
    first = await fake_client.volumes.list(search="data", limit=2, labels={"job": "a b"})
    assert [volume["slug"] for volume in first.items] == ["a", "b"]
    assert first.has_more
    assert first.next_cursor == "two="
    assert [volume.slug async for volume in first] == ["a", "b", "c"]
    second = await first.get_next_page()
    assert second is not None
    assert not second.has_more
    assert await second.get_next_page() is None
    queries = [parse_qsl(request.path.partition("?")[2]) for request in fake.requests]
    assert queries[0] == [("limit", "2"), ("search", "data"), ("labels[job]", "a b")]
    assert queries[1] == [*queries[0], ("cursor", "two=")]


async def test_the_additions_have_their_own_paths(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    path = "/api/v2/volumes/data"
    fake.rest["POST", f"{path}/grow"] = [Drop, Answer(200, {**VOLUME, "capacity": 2})]
    fake.rest["PATCH", path] = [Answer(200, VOLUME)]
    fake.rest["GET", f"{path}/descendants"] = [Answer(200, [{"kind": "snapshot", "slug": "s", "parent_id": "p"}])]
    fake.rest["GET", "/api/v2/volumes"] = [Answer(200, [{**VOLUME, "deleted_at": "2026-01-01T00:00:00Z"}])]
    assert (await fake_client.volumes.grow("data", capacity="2GB")).capacity == 2
    assert fake.requests[-1].body == {"capacity": "2GB"}
    await fake_client.volumes.update("data", labels={"MyKey": "x"})
    assert fake.requests[-1].body == {"labels": {"MyKey": "x"}}
    (descendant,) = await fake_client.volumes.descendants("data")
    assert (descendant.kind, descendant.parent_id) == ("snapshot", "p")
    (deleted,) = (await fake_client.volumes.list(deleted=True)).items
    assert deleted.deleted_at == "2026-01-01T00:00:00Z"
    assert fake.requests[-1].path.endswith("?deleted=true")


async def test_a_verification_tells_what_it_found(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    found = {"store": {"state": "damaged", "problem": "cut"}, "pool": {"state": "whole", "problem": None}, "read": 7}
    fake.rest["POST", "/api/v2/snapshots/s/verify"] = [Answer(200, {"id": "snp_1", "slug": "s", **found})]
    verification = await fake_client.snapshots.verify("s")
    assert (verification.store.state, verification.pool.problem, verification.read) == ("damaged", None, 7)


async def test_a_snapshot_is_replicated_by_a_call(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    replication = {"state": "uploading", "at": None, "retry_at": None}
    fake.rest["POST", "/api/v2/snapshots/s/replicate"] = [Drop, Answer(200, {"id": "snp_1", "replication": replication})]
    snapshot = await fake_client.snapshots.replicate("s")
    assert snapshot.replication is not None
    assert snapshot.replication.state == "uploading"


async def test_sandboxes_are_listed_with_labels_as_they_are(fake: FakeServer, fake_client: AsyncCaisson) -> None:
    wire = {"id": "sbx_ord_1", "createdAt": "t0", "stoppedAt": None, "status": "running", "labels": {"myLabel": "1"}}
    fake.rest["GET", "/api/v2/sandboxes"] = [Answer(200, [wire])]
    (meta,) = (await fake_client.sandbox.list(labels={"myLabel": "1"})).items
    assert meta["created_at"] == meta.created_at == "t0"
    assert meta.labels == {"myLabel": "1"}
    assert fake.requests[0].path == "/api/v2/sandboxes?labels%5BmyLabel%5D=1"
