import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { type Fault, FaultProxy, objectStoreConformance, SeaweedServer } from "../testing/index.ts";
import { type ObjectStore, openObjectStore } from "./index.ts";

const open = (endpoint: string, bucket: string, prefix: string): Promise<ObjectStore> =>
  openObjectStore({ url: `s3://${bucket}/${prefix}`, endpoint, region: null, isPathStyle: true, authorityPath: null });

objectStoreConformance("an S3 service", async () => {
  const server = await SeaweedServer.start();
  Object.assign(process.env, server.env);
  return {
    open: () => open(server.endpoint, server.bucket, "conformance/here"),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
});

suite("a network between us and an S3 service", { timeout: testTimeoutMs(300_000) }, () => {
  let server: SeaweedServer;
  let proxy: FaultProxy;
  let objects: ObjectStore;
  before(async () => {
    server = await SeaweedServer.start();
    Object.assign(process.env, server.env);
    proxy = await FaultProxy.start(server.endpoint);
    objects = await open(proxy.endpoint, server.bucket, "");
  });
  after(async () => {
    await objects[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  const faults: readonly Fault[] = [
    { kind: "delay", ms: 300 },
    { kind: "cut" },
    { kind: "answer", status: 500, code: "InternalError" },
    { kind: "answer", status: 503, code: "SlowDown" },
    { kind: "answer", status: 429, code: "TooManyRequests" },
    { kind: "truncate", bytes: 40 },
    { kind: "repeat" },
    { kind: "lose-answer" },
  ];
  for (const fault of faults) {
    const name = fault.kind === "answer" ? `answer ${fault.status}` : fault.kind;
    // Answers to a put have no body that could be cut.
    const isHarmless = { put: ["delay", "repeat", "truncate"], get: ["delay", "repeat"] };
    test(`${name}: what passes by itself is not noticed`, async () => {
      const key = `faults/${name.replace(" ", "-")}`;
      const bytes = randomBytes(100_000);
      const once = () => proxy.set(({ count }) => (count === 1 ? fault : null));
      once();
      await objects.put(key, bytes);
      assert.equal(proxy.count > 1, !isHarmless.put.includes(fault.kind), `${proxy.count} requests for a put`);
      once();
      assert.ok((await objects.get(key, 1e6))?.equals(bytes));
      assert.equal(proxy.count > 1, !isHarmless.get.includes(fault.kind), `${proxy.count} requests for a get`);
      once();
      assert.deepEqual(
        await Array.fromAsync(objects.list("faults/"), (object) => object.key).then((keys) => keys.includes(key)),
        true,
      );
      once();
      await objects.delete(key);
      proxy.set(() => null);
      assert.equal(await objects.get(key, 1e6), null);
    });
  }

  for (const [status, code, advice] of [
    [403, "ExpiredToken", /credentials have expired/],
    [403, "AccessDenied", /credentials may not do this/],
    [507, "XMinioStorageFull", /it is full/],
    [404, "NoSuchBucket", /no such bucket/],
  ] as const)
    test(`${code} is an error that says what to do`, async () => {
      proxy.set(() => ({ kind: "answer", status, code }));
      const refusal = { code: "SNAPSHOT_STORE_UNAVAILABLE", message: advice };
      await assert.rejects(objects.put("refused/one", Buffer.of(1)), refusal);
      await assert.rejects(objects.get("refused/one", 1), (error: Error) => {
        assert.match(error.message, advice);
        assert.doesNotMatch(error.message, new RegExp(`s3://|injected|${code}`), "tenants read it");
        return String(error.cause).includes(`s3://${server.bucket}/: ${code}`);
      });
      proxy.set(() => null);
      assert.equal(await objects.get("refused/one", 1), null);
    });

  test("wrong credentials are refused by the service, and the error says what to do", async () => {
    proxy.set(() => null);
    process.env.AWS_SECRET_ACCESS_KEY = "wrong";
    try {
      await using other = await open(proxy.endpoint, server.bucket, "");
      await assert.rejects(other.put("refused/two", Buffer.of(1)), { message: /secret key is wrong/ });
    } finally {
      Object.assign(process.env, server.env);
    }
    assert.equal(await objects.get("refused/two", 1), null);
  });

  test("bytes that change on their way are refused by the service", async () => {
    proxy.set(({ method, count }) => (method === "PUT" && count === 1 ? { kind: "corrupt" } : null));
    await assert.rejects(objects.put("changed/one", Buffer.from("text")), { code: "SNAPSHOT_STORE_UNAVAILABLE" });
    assert.equal(await objects.get("changed/one", 10), null);
  });

  test("what is no object of ours, such as the mark of a folder, is in no list", async () => {
    const keys = ["here/a/", "here/a/b", "here/a/.mark", "here/a//c"];
    const contents = keys.map((key) => `<Contents><Key>${key}</Key><Size>3</Size></Contents>`).join("");
    const service = createServer((_request, response) => {
      response.setHeader("content-type", "application/xml");
      response.end(`<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`);
    }).listen(0, "127.0.0.1");
    await once(service, "listening");
    const { port } = service.address() as AddressInfo;
    const listed = await open(`http://127.0.0.1:${port}`, "bucket", "here");
    try {
      assert.deepEqual(await Array.fromAsync(listed.list("a/")), [{ key: "a/b", sizeBytes: 3 }]);
    } finally {
      await listed[Symbol.asyncDispose]();
      service.close();
    }
  });
});
