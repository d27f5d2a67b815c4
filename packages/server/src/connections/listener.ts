import type { AddressInfo, Server } from "node:net";

/** Listens, and resolves with the port. */
export async function listen(server: Server, host: string, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return (server.address() as AddressInfo).port;
}

/** Takes no more connections, and resolves when all have ended. One that does not listen is closed already. */
export async function closeListener(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    if (server.listening) server.close(() => resolve());
    else resolve();
  });
}
