import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, suite, test } from "node:test";
import { certificateBundle } from "./certificate-bundle.ts";

suite("bundle of certificates", () => {
  let base: string;
  let root: string;
  let count = 0;
  before(async () => {
    base = await mkdtemp(join(tmpdir(), "caisson-bundle-"));
    await writeFile(join(base, "host-secret"), "a file of the host");
    await mkdir(join(base, "certs"));
    await writeFile(join(base, "certs/ca-certificates.crt"), "a file of the host");
  });
  after(() => rm(base, { recursive: true }));
  beforeEach(async () => {
    count += 1;
    root = join(base, `root-${count}`);
    await mkdir(join(root, "etc/ssl"), { recursive: true });
  });

  test("the root's own certificates come first, the authority last", async () => {
    await mkdir(join(root, "etc/ssl/certs"));
    await writeFile(join(root, "etc/ssl/certs/ca-certificates.crt"), "own\n\n");
    assert.equal(await certificateBundle(root, "authority\n"), "own\nauthority\n");
  });

  test("a root without a bundle gets the host's", async () => {
    const bundle = await certificateBundle(root, "authority\n");
    assert.match(bundle, /BEGIN CERTIFICATE[\s\S]*authority\n$/);
  });

  test("a root with something else in the place of its bundle gets the host's", async () => {
    await mkdir(join(root, "etc/ssl/certs"), { recursive: true });
    const path = join(root, "etc/ssl/certs/ca-certificates.crt");
    const server = createServer().listen(path);
    await once(server, "listening");
    assert.match(await certificateBundle(root, "authority"), /BEGIN CERTIFICATE/);
    server.close();
    await mkdir(path);
    assert.match(await certificateBundle(root, "authority"), /BEGIN CERTIFICATE/);
  });

  test("links do not lead the server to its own files, at the end of the path or on the way", async () => {
    await symlink(join(base, "certs"), join(root, "etc/ssl/certs"));
    assert.doesNotMatch(await certificateBundle(root, "authority"), /a file of the host/);
    await rm(join(root, "etc/ssl/certs"));
    await mkdir(join(root, "etc/ssl/certs"));
    await symlink(join(base, "host-secret"), join(root, "etc/ssl/certs/ca-certificates.crt"));
    assert.doesNotMatch(await certificateBundle(root, "authority"), /a file of the host/);
  });
});
