import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import net, { type AddressInfo } from "node:net";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { PostgresServer } from "../../testing/postgres-server.ts";
import { parseConnectionUrl } from "./connection-options.ts";
import { checkPostgres } from "./postgres-store.ts";

suite("the URL of a database", () => {
  test("names a server or a socket, and is described without its password", () => {
    const { config, description } = parseConnectionUrl("postgres://me:s%2Fecret@127.0.0.1:6543/rows");
    assert.deepEqual(
      [config.host, config.port, config.user, config.password, config.database],
      ["127.0.0.1", 6543, "me", "s/ecret", "rows"],
    );
    assert.equal(description, "postgres://me@127.0.0.1:6543/rows");
    const socket = parseConnectionUrl("postgresql:///rows?host=/run/postgresql&user=me");
    assert.equal(socket.config.host, "/run/postgresql");
    assert.equal(socket.description, "postgres://me@/rows?host=/run/postgresql");
  });

  for (const [url, pattern] of [
    ["mysql://me@127.0.0.1/rows", /give postgres:\/\/USER/],
    ["postgres://me:secret@127.0.0.1", /give postgres:\/\/USER/],
    ["postgres://me:secret@127.0.0.1:port/rows", /cannot be used/],
    ["postgres://me:1/secret@127.0.0.1/rows", /write \/ as %2F/],
    ["postgres://me:1?secret@127.0.0.1/rows", /\? as %3F/],
    ["postgres://me:1#secret@127.0.0.1/rows", /# as %23/],
    ["postgres://me:1%secret@127.0.0.1/rows", /% as %25/],
    ["postgres:///rows", /names no host/],
    ["postgres://me:secret@db.example.com/rows", /leaves this machine: add \?sslmode=verify-full/],
    ["postgres://me:secret@127.0.0.1/rows?sslmode=prefer", /choose one of disable, require/],
    ["postgres://me:secret@127.0.0.1/rows?pool=5", /parameter "pool" is not known/],
    ["postgres://me:secret@db.example.com/rows?sslmode=verify-full&sslrootcert=/no/file", /no such file/],
  ] as const) {
    test(`${url.replace("secret", "…")} is refused`, () => {
      assert.throws(
        () => parseConnectionUrl(url),
        (error) => {
          assert.ok(error instanceof CaissonError && error.code === "INVALID_CONFIG", String(error));
          assert.match(error.message, pattern);
          assert.doesNotMatch(error.message, /secret/);
          return true;
        },
      );
    });
  }

  test("its parameters for TLS decide what is encrypted, and who is trusted", async () => {
    const probe = net.createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as AddressInfo;
    probe.close();
    await once(probe, "close");
    await using server = await PostgresServer.start({ tlsPort: port });
    await writeFile(
      join(server.directory, "data/pg_hba.conf"),
      "local all all trust\nhostssl all all 127.0.0.1/32 trust\n",
    );
    await server.query("SELECT pg_reload_conf()");
    const connect = (host: string, parameters: string) =>
      checkPostgres(`postgres://postgres@${host}:${port}/postgres?${parameters}`);
    assert.match((await connect("127.0.0.1", "sslmode=require")).version, /^\d+/);
    await connect("localhost", `sslmode=verify-full&sslrootcert=${server.certPath}`);
    await connect("127.0.0.1", `sslmode=verify-ca&sslrootcert=${server.certPath}`);
    await assert.rejects(
      connect("127.0.0.1", `sslmode=verify-full&sslrootcert=${server.certPath}`),
      /does not match certificate/,
    );
    await assert.rejects(connect("localhost", "sslmode=verify-full"), /self-signed certificate/);
    await assert.rejects(connect("127.0.0.1", "sslmode=disable"), /refuses the login .*no encryption/);
  });
});
