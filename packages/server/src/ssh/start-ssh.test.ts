import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import pino from "pino";
import type { AppContext } from "../app/context.ts";
import { SshAccesses } from "../app/ssh/ssh-accesses.ts";
import { loadConfig } from "../config.ts";
import { startSsh } from "./start-ssh.ts";

test("a port that was chosen because the default one was taken is kept, also when that one is free again", async (t) => {
  const dataDirectory = await mkdtemp(join(tmpdir(), "caisson-start-ssh-"));
  t.after(() => rm(dataDirectory, { recursive: true }));
  const config = loadConfig({ dataDirectory }, {});
  assert.equal(config.ssh?.isPortFree, true, "nobody has asked for the default port");
  const { ssh: settings } = config;
  /** The port that clients are told, of a server that has ended since. */
  const portOf = async (listenPort: number): Promise<number> => {
    const ssh = new SshAccesses(1);
    const store = { leadership: null };
    const logger = pino({ level: "silent" });
    const app = { config: { ...config, ssh: { ...settings, listenPort } }, store, ssh, logger };
    await using _started = await startSsh(app as unknown as AppContext);
    return ssh.requireEndpoint().port;
  };
  let taken: number;
  let chosen: number;
  {
    await using blocker = createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    taken = (blocker.address() as AddressInfo).port;
    chosen = await portOf(taken);
    assert.notEqual(chosen, taken);
  }
  assert.equal(await portOf(taken), chosen);
});
