import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { AcceptConnection, RejectConnection, ServerChannel, TcpipRequestInfo } from "ssh2";
import type { AppContext } from "../app/context.ts";
import type { LiveSandbox } from "../app/sandboxes/live-sandboxes.ts";
import { connectInside } from "../app/sandboxes/sandbox-connect.ts";
import { ChannelWriter } from "./channel-writer.ts";

const LOOPBACK = /^127\.(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){2}$/;

/**
 * Connects a client's channel with a port inside the sandbox, in the way that previews take: the socket is made in the sandbox's own network, so that
 * whatever is asked for, nothing else can be behind it. Names other than the sandbox's own are refused rather than looked up.
 */
export async function forwardPort(
  app: AppContext,
  sandbox: LiveSandbox,
  socket: Socket,
  { destIP, destPort }: TcpipRequestInfo,
  accept: AcceptConnection<ServerChannel>,
  reject: RejectConnection,
  onEnd: () => void,
): Promise<void> {
  const address = addressOf(sandbox, destIP);
  const inside =
    address === null || destPort < 1 || destPort > 65_535 ? null : await connectInside(app, sandbox, destPort, address);
  if (inside === null || socket.destroyed) {
    inside?.destroy();
    onEnd();
    return reject();
  }
  join(accept(), inside, socket, onEnd);
}

/** Undefined: whichever loopback address is listened on. Null: refused. */
function addressOf({ record }: LiveSandbox, asked: string): string | null | undefined {
  // The library hands on what it cannot read as undefined.
  const name = String(asked).toLowerCase();
  if (name === "localhost" || name === record.id || name === record.id.replaceAll("_", "-")) return undefined;
  return name === "::1" || LOOPBACK.test(name) ? name : null;
}

function join(channel: ServerChannel, inside: Duplex, client: Socket, onEnd: () => void): void {
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
