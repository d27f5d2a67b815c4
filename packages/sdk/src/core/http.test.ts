import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeApi, WIRE_VOLUME } from "../../tests/fake-api.ts";
import { Client, ConflictError, NetworkError, NotFoundError, RequestTimeoutError } from "../index.ts";
import { toApiError } from "./http.ts";
import { isRetryableStatus, retryDelayMs } from "./retry.ts";

const conflict = { code: "SLUG_ALREADY_IN_USE", message: "taken", hint: "Choose another slug", request_id: "r" };

test("every request carries the credentials and asks for the extended form", async () => {
  await using api = await FakeApi.start(() => ({ body: WIRE_VOLUME }));
  await new Client({ ...api.options, org: "acme" }).volumes.get("a/b");
  const [request] = api.requests;
  assert.equal(request?.url.pathname, "/api/v2/volumes/a%2Fb");
  assert.equal(request?.headers.authorization, "Bearer ddo_secret");
  assert.equal(request?.headers["x-deno-org"], "acme");
  assert.equal(request?.headers.accept, "application/vnd.caisson+json");
});

test("a name that is none reaches no other path", async () => {
  await using api = await FakeApi.start(() => ({ body: [] }));
  const client = new Client(api.options);
  for (const name of ["", ".", ".."]) await assert.rejects(client.volumes.delete(name), TypeError);
  assert.deepEqual(api.requests, []);
});

test("reading is repeated after a broken connection and after answers that say not now", async () => {
  await using api = await FakeApi.start((_request, count) =>
    count === 1
      ? "cut"
      : count === 2
        ? { status: 503, body: { code: "SHUTTING_DOWN", message: "" } }
        : { body: WIRE_VOLUME },
  );
  const volume = await new Client(api.options).volumes.get("cache");
  assert.equal(volume?.slug, "cache");
  assert.equal(api.requests.length, 3);
});

test("repetition ends after maxRetries, and the last failure is thrown", async () => {
  await using api = await FakeApi.start(() => ({ status: 503, body: { code: "SHUTTING_DOWN", message: "later" } }));
  const client = new Client({ ...api.options, maxRetries: 1 });
  await assert.rejects(client.volumes.get("cache"), { name: "ServiceUnavailableError", code: "SHUTTING_DOWN" });
  assert.equal(api.requests.length, 2);
  await assert.rejects(client.volumes.get("cache", { maxRetries: 0 }), { code: "SHUTTING_DOWN" });
  assert.equal(api.requests.length, 3);
});

test("a creation is repeated with the same idempotency key, and each creation has its own", async () => {
  await using api = await FakeApi.start((_request, count) => (count === 1 ? "cut" : { body: WIRE_VOLUME }));
  const client = new Client(api.options);
  const init = { slug: "cache", region: "ord", capacity: "1GB" } as const;
  await client.volumes.create(init);
  await client.volumes.create(init);
  await client.volumes.create(init, { idempotencyKey: "mine" });
  const keys = api.requests.map((request) => request.headers["idempotency-key"]);
  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
  assert.equal(keys[3], "mine");
});

test("a call that must not be repeated is not, once it may have taken effect", async () => {
  await using api = await FakeApi.start(() => "cut");
  await assert.rejects(new Client(api.options).tokens.create({ name: "ci" }), NetworkError);
  assert.equal(api.requests.length, 1);
});

test("a refused connection is tried again for every call, because it reached nobody", async () => {
  // Nobody listens there, and `fetch` does not refuse the port by itself.
  const client = new Client({ token: "ddo_x", apiEndpoint: "http://127.0.0.1:2" });
  const start = performance.now();
  await assert.rejects(client.tokens.create({ name: "ci" }), /Cannot reach http:\/\/127\.0\.0\.1:2: .*ECONNREFUSED/);
  // A timer may come a millisecond early.
  assert.ok(performance.now() - start >= 145, "two pauses of at least 50 and 100 ms lie between three attempts");
});

test("a deletion whose answer was lost counts as done when the object is gone", async () => {
  const gone = { status: 404, body: { code: "VOLUME_NOT_FOUND", message: "gone" } };
  await using api = await FakeApi.start((_request, count) => (count === 1 ? "cut" : gone));
  const client = new Client(api.options);
  await client.volumes.delete("cache");
  await assert.rejects(client.volumes.delete("cache"), NotFoundError);
});

test("errors have a class by status and carry code, request id and hint", async () => {
  await using api = await FakeApi.start(() => ({ status: 409, body: conflict }));
  const error = await new Client(api.options).volumes
    .create({ slug: "a1", region: "ord", capacity: 1 })
    .catch((e) => e);
  assert.ok(error instanceof ConflictError);
  const { name, status, code, message, requestId, traceId, hint } = error;
  assert.deepEqual(
    { name, status, code, message, requestId, traceId, hint },
    {
      name: "ConflictError",
      status: 409,
      code: "SLUG_ALREADY_IN_USE",
      message: "taken",
      requestId: "trace-1",
      traceId: "trace-1",
      hint: "Choose another slug",
    },
  );
});

test("answers that are no error documents become errors too", () => {
  const headers = new Headers();
  assert.equal(toApiError({ status: 502, headers }, "<html>").code, "INVALID_RESPONSE_BODY");
  assert.equal(toApiError({ status: 400, headers }, '{"error":1}').code, "UNKNOWN_ERROR");
  assert.equal(
    toApiError({ status: 401, headers }, '{"code":"INVALID_TOKEN","message":"no"}').name,
    "InvalidTokenError",
  );
  assert.equal(toApiError({ status: 418, headers }, "{}").name, "ApiError");
  assert.equal(toApiError({ status: 599, headers }, "{}").name, "ServerError");
});

test("a success that is not JSON is reported, not returned", async () => {
  await using api = await FakeApi.start(() => ({ text: "<html>welcome</html>" }));
  await assert.rejects(new Client({ ...api.options, maxRetries: 0 }).volumes.list(), /is not JSON/);
});

test("a server that says nothing ends in a timeout, and an aborted call in the signal's reason", async () => {
  await using api = await FakeApi.start(() => "silence");
  const client = new Client({ ...api.options, maxRetries: 0, timeoutMs: 50 });
  await assert.rejects(client.volumes.get("cache"), RequestTimeoutError);
  const reason = new Error("enough");
  const call = client.volumes.get("cache", { signal: AbortSignal.abort(reason) });
  await assert.rejects(call, reason);
  const controller = new AbortController();
  const late = new Client({ ...api.options, timeoutMs: 10_000 }).volumes.get("cache", { signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(late, reason);
});

test("an abort ends the pause between attempts as well", async () => {
  await using api = await FakeApi.start(() => ({ status: 503, headers: { "retry-after": "30" }, body: {} }));
  const controller = new AbortController();
  const call = new Client(api.options).volumes.get("cache", { signal: controller.signal });
  while (api.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  controller.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  assert.equal(api.requests.length, 1);
});

test("pauses grow, keep a random part, stay below a cap and obey Retry-After", () => {
  assert.equal(
    retryDelayMs(1, null, () => 0),
    50,
  );
  assert.equal(
    retryDelayMs(1, null, () => 1),
    100,
  );
  assert.equal(
    retryDelayMs(3, null, () => 1),
    400,
  );
  assert.equal(
    retryDelayMs(20, null, () => 1),
    5_000,
  );
  assert.equal(
    retryDelayMs(1, "2", () => 1),
    2_000,
  );
  assert.equal(
    retryDelayMs(1, "3600", () => 1),
    60_000,
  );
  assert.equal(
    retryDelayMs(1, "Wed, 21 Oct 2026 07:28:00 GMT", () => 1),
    100,
  );
});

test("a limit on running sandboxes is not repeated, a limit on requests is", () => {
  assert.equal(isRetryableStatus(429, new Headers()), false);
  assert.equal(isRetryableStatus(429, new Headers({ "retry-after": "1" })), true);
  assert.equal(isRetryableStatus(500, new Headers()), false);
});
