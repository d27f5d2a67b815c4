import type { Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { hasErrorCode } from "@caisson/linux";

const ATTEMPTS = 16;

/** Listens on a free port of the address. */
export async function listenOn(server: Server, address: string, port = 0): Promise<number> {
  server.listen(port, address);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** Listens on one port for TCP and UDP: the one that TCP was given may be taken for UDP, so it is tried a few times. */
export async function listenOnBoth(udp: UdpSocket, tcp: Server, address: string): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const port = await listenOn(tcp, address);
    try {
      udp.bind(port, address);
      await once(udp, "listening");
      return port;
    } catch (error) {
      tcp.close();
      await once(tcp, "close");
      if (attempt === ATTEMPTS || !hasErrorCode(error, "EADDRINUSE")) {
        udp.close();
        throw error;
      }
    }
  }
}
