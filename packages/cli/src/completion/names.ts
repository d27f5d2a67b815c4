import type { Context } from "../context.ts";
import type { Candidate } from "./candidates.ts";

/** What the first argument of a command names. */
export type NameKind = "volume" | "snapshot" | "sandbox" | "node";

/** Nobody waits longer than this for a completion. */
const TIMEOUT_MS = 2_000;
const LISTED = 100;

/** Commands whose first argument names something on the server. */
const KINDS: Readonly<Record<string, NameKind>> = {
  "volumes get": "volume",
  "volumes grow": "volume",
  "volumes delete": "volume",
  "volumes acknowledge": "volume",
  "volumes schedule": "volume",
  "volumes snapshot": "volume",
  "snapshots create": "volume",
  "snapshots get": "snapshot",
  "snapshots delete": "snapshot",
  "snapshots tree": "snapshot",
  "snapshots export": "snapshot",
  "snapshots replicate": "snapshot",
  "caisson verify": "snapshot",
  "nodes show": "node",
  "nodes drain": "node",
  "nodes undrain": "node",
  "nodes set-address": "node",
  "nodes forget": "node",
  "caisson exec": "sandbox",
  "caisson shell": "sandbox",
  "caisson extend": "sandbox",
  "caisson kill": "sandbox",
};

/** `parent` and `command` are their main names, not aliases. */
export function kindOfArgument(parent: string | undefined, command: string): NameKind | null {
  return KINDS[`${parent} ${command}`] ?? null;
}

/** Asks the server for names. Throws when it cannot be reached, or not with the settings at hand. */
export async function listNames(context: Context, kind: NameKind): Promise<Candidate[]> {
  const { client } = await context.connect();
  const once = { timeoutMs: TIMEOUT_MS, maxRetries: 0 };
  switch (kind) {
    case "volume": {
      const { items } = await client.volumes.list({ limit: LISTED }, once);
      return items.map(({ slug, id }) => ({ value: slug, description: id }));
    }
    case "snapshot": {
      const { items } = await client.snapshots.list({ limit: LISTED }, once);
      return items.map(({ slug, id }) => ({ value: slug, description: id }));
    }
    case "node": {
      const items = await client.nodes.list(once);
      return items.map(({ id, state, address }) => ({ value: id, description: `${state} ${address}` }));
    }
    case "sandbox": {
      const items = await client.sandboxes.list({}, once);
      return items.filter(({ status }) => status === "running").map(describeSandbox);
    }
  }
}

function describeSandbox({
  id,
  labels,
}: {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}): Candidate {
  const text = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return { value: id, description: text.join(" ") };
}
