import { randomInt } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { hasErrorCode } from "@caisson/linux";

/** Ports below those that the kernel gives out. */
const COUNT = 10_000;

/**
 * A port of 127.0.0.1 that nobody listens on, for a server whose settings must name it. The kernel gives it to nobody who asks for any port, or connects, so that it is free still when the server
 * starts, and when it starts again.
 */
export async function freePort(): Promise<number> {
  const [first = 0] = (await readFile("/proc/sys/net/ipv4/ip_local_port_range", "utf8")).split(/\s+/).map(Number);
  if (first <= 1024 + COUNT)
    throw new Error(`There are not ${COUNT} ports below net.ipv4.ip_local_port_range: ${first}`);
  for (;;) {
    const port = randomInt(first - COUNT, first);
    const server = createServer().listen(port, "127.0.0.1");
    try {
      await once(server, "listening");
    } catch (error) {
      if (hasErrorCode(error, "EADDRINUSE")) continue;
      throw error;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
