import { request as httpRequest } from "node:http";
import type { Duplex } from "node:stream";
import { CaissonError } from "@caisson/model";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { AppContext } from "../app/context.ts";
import type { Preview, PreviewTarget } from "../app/previews/preview.ts";
import type { LiveSandbox } from "../app/sandboxes/live-sandboxes.ts";
import { connectInside, requireAgent } from "../app/sandboxes/sandbox-connect.ts";

const LOOK_TIMEOUT_MS = 2_000;
const ANSWER_BYTES_MAX = 1024;
const AddressSchema = Type.Object({
  transport: Type.Literal("tcp"),
  hostname: Type.String(),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
});

/** Connects to what a preview is bound to. `not-listening`: nothing listens there. `unreachable`: the sandbox's node cannot be reached. */
export async function openConnection(
  app: AppContext,
  { sandbox }: Preview,
  target: PreviewTarget,
): Promise<Duplex | "not-listening" | "unreachable"> {
  try {
    return (await connect(app, sandbox, target)) ?? "not-listening";
  } catch (error) {
    if (error instanceof CaissonError && error.code === "NODE_UNAVAILABLE") return "unreachable";
    throw error;
  }
}

/** Null: nothing listens there. */
async function connect(app: AppContext, sandbox: LiveSandbox, target: PreviewTarget): Promise<Duplex | null> {
  if ("port" in target) return connectInside(app, sandbox, target.port);
  const address = await findListener(requireAgent(app, sandbox), target.pid);
  return address === null ? null : connectInside(app, sandbox, address.port, address.hostname);
}

/** Where the process listens now, as the agent says: it can only name a port of its own sandbox. */
async function findListener(agent: Duplex, pid: number) {
  if (agent.destroyed) return null;
  const text = await new Promise<string>((resolve) => {
    let body = "";
    const outgoing = httpRequest({ createConnection: () => agent, path: `/listener?pid=${pid}` });
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
