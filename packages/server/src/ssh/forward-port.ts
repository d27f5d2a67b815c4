import type { Socket } from "node:net";
import { hasErrorCode } from "@caisson/linux";
import type { AcceptConnection, RejectConnection, ServerChannel, TcpipRequestInfo } from "ssh2";
import type { LiveSandbox } from "../app/sandboxes/live-sandboxes.ts";
import { ChannelWriter } from "./channel-writer.ts";

const LOOPBACK = /^127\.(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){2}$/;
const REFUSALS = ["ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT"];

/**
 * Connects a client's channel with a port inside the sandbox, in the way that previews take: the socket is made in the sandbox's own network, so that
 * whatever is asked for, nothing else can be behind it. Names other than the sandbox's own are refused rather than looked up.
 */
export async function forwardPort(
  sandbox: LiveSandbox,
  socket: Socket,
  { destIP, destPort }: TcpipRequestInfo,
  accept: AcceptConnection<ServerChannel>,
  reject: RejectConnection,
  onEnd: () => void,
): Promise<void> {
  const address = addressOf(sandbox, destIP);
  const inside =
    address === undefined || destPort < 1 || destPort > 65_535 ? null : await connect(sandbox, destPort, address);
  if (inside === null || socket.destroyed) {
    inside?.destroy();
    onEnd();
    return reject();
  }
  join(accept(), inside, socket, onEnd);
}

/** Null: whichever loopback address is listened on. Undefined: refused. */
function addressOf({ record }: LiveSandbox, asked: string): string | null | undefined {
  const name = asked.toLowerCase();
  if (name === "localhost" || name === record.id || name === record.id.replaceAll("_", "-")) return null;
  return name === "::1" || LOOPBACK.test(name) ? name : undefined;
}

async function connect({ running }: LiveSandbox, port: number, address: string | null): Promise<Socket | null> {
  try {
    return address === null ? await running.connect(port) : await running.connect(port, address);
  } catch (error) {
    if (hasErrorCode(error, ...REFUSALS)) return null;
    throw error;
  }
}

function join(channel: ServerChannel, inside: Socket, client: Socket, onEnd: () => void): void {
  const writer = new ChannelWriter(channel, client);
  const end = (): void => {
    writer.close();
    inside.destroy();
    client.off("close", end);
    onEnd();
  };
  client.once("close", end);
  channel.once("close", end);
  channel.on("error", () => undefined);
  inside.on("error", () => undefined);
  // Ends the half towards the inside when the client ends its own.
  channel.pipe(inside);
  void (async () => {
    try {
      for await (const bytes of inside) await writer.write(bytes as Buffer);
      channel.eof();
    } catch {
      // It was reset: a proper end would say that all had come.
    }
    if (inside.writable && !inside.destroyed) await new Promise((resolve) => inside.once("close", resolve));
    channel.end();
  })();
}
