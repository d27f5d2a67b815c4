import { request as httpRequest } from "node:http";
import type { Socket } from "node:net";
import { hasErrorCode } from "@caisson/linux";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { Preview, PreviewTarget } from "../app/previews/preview.ts";

const LOOK_TIMEOUT_MS = 2_000;
const ANSWER_BYTES_MAX = 1024;
const AddressSchema = Type.Object({
  transport: Type.Literal("tcp"),
  hostname: Type.String(),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
});

/** Connects to what a preview is bound to; null when nothing listens there. */
export async function openConnection({ sandbox }: Preview, target: PreviewTarget): Promise<Socket | null> {
  const { running } = sandbox;
  try {
    if ("port" in target) return await running.connect(target.port);
    const address = await findListener(running.agentSocketPath, target.pid);
    return address === null ? null : await running.connect(address.port, address.hostname);
  } catch (error) {
    if (hasErrorCode(error, "ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT")) return null;
    throw error;
  }
}

/** Where the process listens now, as the agent says: it can only name a port of its own sandbox. */
async function findListener(socketPath: string, pid: number) {
  const text = await new Promise<string>((resolve) => {
    let body = "";
    const outgoing = httpRequest({ socketPath, path: `/listener?pid=${pid}`, agent: false });
    const timer = setTimeout(() => outgoing.destroy(), LOOK_TIMEOUT_MS);
    outgoing.on("response", (response) => {
      response.setEncoding("latin1").on("data", (chunk: string) => {
        body += chunk;
        if (body.length > ANSWER_BYTES_MAX) outgoing.destroy();
      });
    });
    outgoing.on("error", () => undefined);
    outgoing.on("close", () => {
      clearTimeout(timer);
      resolve(body);
    });
    outgoing.end();
  });
  try {
    const address: unknown = JSON.parse(text);
    return Value.Check(AddressSchema, address) ? address : null;
  } catch {
    return null;
  }
}
