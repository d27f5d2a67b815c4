import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { testTimeoutMs } from "@caisson/linux/testing";
import pino from "pino";
import { readTls, reloadTls, type TlsMaterial } from "./tls.ts";

suite("the files of a certificate", { timeout: testTimeoutMs(60_000) }, () => {
  let directory: string;
  const path = (name: string) => join(directory, name);
  const files = (name: string) => ({ certPath: path(`${name}.cert`), keyPath: path(`${name}.key`) });

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-cert-"));
    const options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost".split(
      " ",
    );
    for (const name of ["first", "renewed"]) {
      const { certPath, keyPath } = files(name);
      await promisify(execFile)("openssl", [...options, "-keyout", keyPath, "-out", certPath]);
    }
  });
  after(() => rm(directory, { recursive: true }));

  test("that are not there, are none, or do not belong together are refused with their names", async () => {
    await writeFile(path("none"), "nothing");
    await writeFile(path("empty"), "");
    const { certPath, keyPath } = files("first");
    for (const [config, name] of [
      [{ certPath: path("absent"), keyPath }, "absent"],
      [{ certPath: path("none"), keyPath }, "none"],
      [{ certPath: path("empty"), keyPath }, "empty"],
      [{ certPath, keyPath: files("renewed").keyPath }, "renewed.key"],
    ] as const)
      await assert.rejects(readTls(config), (error: Error & { code?: string }) => {
        assert.ok(error.message.includes(path(name)), error.message);
        return error.code === "INVALID_CONFIG";
      });
  });

  test("are used when they are renewed, and not while one of them is missing or old, which the log tells with the setting's name", async () => {
    const current = files("current");
    const copy = (name: string, part: "certPath" | "keyPath") => copyFile(files(name)[part], current[part]);
    await copy("first", "certPath");
    await copy("first", "keyPath");
    const first = await readTls(current);
    const used = Promise.withResolvers<TlsMaterial>();
    const missing = Promise.withResolvers<void>();
    const halfRenewed = Promise.withResolvers<void>();
    const write = (line: string) => {
      if (line.includes("(expose.cert)")) missing.resolve();
      if (line.includes("belong together")) halfRenewed.resolve();
    };
    const logger = pino({ level: "error" }, { write });
    const server = { setSecureContext: (material: object) => used.resolve(material as TlsMaterial) };
    const stop = reloadTls(current, first, server, logger, { section: "expose", intervalMs: 20 });
    try {
      await rm(current.certPath);
      await missing.promise;
      await copy("renewed", "certPath");
      await halfRenewed.promise;
      await copy("renewed", "keyPath");
      assert.deepEqual(await used.promise, await readTls(files("renewed")));
    } finally {
      stop();
    }
  });
});
