import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import type { RunningSandbox } from "../src/runtime.ts";
import type { Harness } from "./harness.ts";
import { WORLD } from "./test-internet.ts";
import { readScript, runScript } from "./test-sandbox.ts";

const fetchUrl = (url: string): string => `curl -sS --max-time 60 ${url}`;
/** Waits two seconds for a connection: curl's code 28 says that there was none in time, and 7 that it was refused. */
const tryUrl = (url: string): string => `curl -sS --connect-timeout 2 --max-time 60 ${url}`;

/** What a sandbox reaches, in the world of `test-internet.ts`. */
export function describeNetworkConformance(harness: () => Harness): void {
  describe("network", () => {
    let sandbox: RunningSandbox;
    let neighbour: RunningSandbox;

    before(async () => {
      // One after the other, because one container waits at a time.
      sandbox = await harness().start();
      neighbour = await harness().start();
    });

    after(async () => {
      await Promise.all([sandbox, neighbour].map(({ id }) => harness().runtime.release(id)));
    });

    const assertUnreachable = async (from: RunningSandbox, ...urls: readonly string[]): Promise<void> => {
      const answers = await Promise.all(urls.map((url) => runScript(from, tryUrl(url))));
      for (const [index, { code, stdout }] of answers.entries())
        assert.ok([7, 28].includes(code), `${urls[index]} gives code ${code}: ${stdout}`);
    };

    test("the internet answers, and sees the host's address", async () => {
      assert.equal(await readScript(sandbox, fetchUrl(`http://${WORLD.web}/`)), WORLD.host);
    });

    test("names resolve though the host's first name server is silent, over UDP and over TCP", async () => {
      assert.equal(await readScript(sandbox, fetchUrl("http://example.com/")), WORLD.host);
      assert.match(await readScript(sandbox, "getent ahostsv4 example.com"), new RegExp(`^${WORLD.web}`));
      assert.match(
        await readScript(sandbox, "RES_OPTIONS=use-vc getent ahostsv4 example.org"),
        new RegExp(`^${WORLD.web}`),
      );
    });

    test("the sandbox's own name and localhost resolve without asking anybody", async () => {
      assert.equal(await readScript(sandbox, "getent hosts $(hostname) | cut -d' ' -f1"), await addressOf(sandbox));
      assert.equal(await readScript(sandbox, "getent ahostsv4 localhost | head -1 | cut -d' ' -f1"), "127.0.0.1");
    });

    test("a sandbox cannot reach another one", async () => {
      await readScript(
        neighbour,
        "(python3 -m http.server 8000 >/dev/null 2>&1 &) ; for i in $(seq 600); do curl -s localhost:8000 >/dev/null && exit; sleep 0.05; done; exit 1",
      );
      await assertUnreachable(sandbox, `http://${await addressOf(neighbour)}:8000/`);
    });

    test("a sandbox cannot reach the host, under any of its addresses", async () => {
      const server = createServer((socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nthe host"));
      server.listen(0, "0.0.0.0");
      await once(server, "listening");
      const address = server.address();
      assert.ok(typeof address === "object" && address !== null);
      try {
        const gateway = await readScript(sandbox, "ip route show default | cut -d' ' -f3");
        const targets = [WORLD.host, WORLD.metadata, gateway];
        await assertUnreachable(sandbox, ...targets.map((target) => `http://${target}:${address.port}/`));
      } finally {
        server.close();
      }
    });

    test("a sandbox cannot reach link-local addresses or private networks beyond the host", async () => {
      await assertUnreachable(sandbox, `http://${WORLD.distantMetadata}/`, `http://${WORLD.privateWeb}/`);
    });

    test("nothing but name queries reaches the name server's gateway", async () => {
      const gateway = await readScript(sandbox, "ip route show default | cut -d' ' -f3");
      await assertUnreachable(sandbox, `http://${gateway}/`);
    });

    test("there is no IPv6 way out, and localhost has IPv6", async () => {
      assert.equal(await readScript(sandbox, "ip -6 route show default; ip -6 addr show dev eth0"), "");
      await readScript(sandbox, "ping -c1 ::1");
    });

    test("low ports can be bound, by root and by others", async () => {
      const bind = 'import socket; socket.socket().bind(("0.0.0.0", 80))';
      await readScript(sandbox, `python3 -c '${bind}' && sudo -u nobody python3 -c '${bind}'`);
    });
  });
}

async function addressOf(sandbox: RunningSandbox): Promise<string> {
  return readScript(sandbox, "ip -4 -o addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'");
}
