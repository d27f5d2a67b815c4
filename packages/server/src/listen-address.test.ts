import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { clearTextWarning, requireFreeAddress } from "./listen-address.ts";

suite("listen address", () => {
  const refusal = async (host: string, port: number): Promise<string> => {
    const error: unknown = await requireFreeAddress(host, port).catch((reason: unknown) => reason);
    assert.ok(error instanceof CaissonError && error.code === "INVALID_CONFIG", String(error));
    return error.message;
  };

  test("a taken port is told in one line: which, how to see by whom, and how to choose another", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    try {
      await once(other, "listening");
      const { port } = other.address() as AddressInfo;
      const message = await refusal("127.0.0.1", port);
      for (const part of [`127.0.0.1:${port}`, "another program listens", `ss -ltnp 'sport = :${port}'`, "--listen"]) {
        assert.ok(message.includes(part), `${part}: ${message}`);
      }
      assert.ok(!message.includes("\n"));
      other.close();
      await once(other, "close");
      await requireFreeAddress("127.0.0.1", port);
    } finally {
      other.close();
    }
  });

  test("an address that the machine does not have is told", async () => {
    assert.match(await refusal("192.0.2.1", 8484), /192\.0\.2\.1:8484: this machine has no such address/);
  });

  test("a server that others can reach without TLS warns of it, and says what to do", () => {
    const warning = (listenHost: string, values: object = {}) =>
      clearTextWarning({ listenHost, listenPort: 8484, tls: null, publicUrl: null, ...values });
    for (const host of ["127.0.0.1", "127.0.1.1", "::1", "localhost"]) assert.equal(warning(host), null);
    assert.match(warning("0.0.0.0") ?? "", /in the clear to 0\.0\.0\.0:8484.*Set tls\.cert and tls\.key/);
    assert.match(warning("10.0.0.1", { publicUrl: "https://a.test" }) ?? "", /nothing but the TLS proxy/);
    assert.equal(warning("0.0.0.0", { tls: { certPath: "/c", keyPath: "/k" } }), null);
  });
});
