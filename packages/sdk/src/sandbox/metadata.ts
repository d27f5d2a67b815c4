import { NotFoundError } from "../core/errors.ts";
import type { HttpClient, RequestOptions } from "../core/http.ts";
import { path, requireRecord } from "../core/http.ts";

/** A sandbox as lists show it. */
export interface SandboxMetadata {
  /** The id, `sbx_<region>_<20 characters>`. */
  id: string;
  /** When it was created. */
  createdAt: Date;
  /** When it ended; `null` while it runs. */
  stoppedAt: Date | null;
  /** Where it runs. */
  region: string;
  /** Lists show a sandbox that starts or stops as running. `"stopping"`: its volumes are being written out and released. */
  status: "starting" | "running" | "stopping" | "stopped";
  /** Its labels. */
  labels: Record<string, string>;
  /** When it will end at the latest; `null` when its connection decides. */
  stopAt: Date | null;
  /** The id of the node that runs it, or ran it, if the server says so. */
  node: string | null;
}

/** A sandbox with everything that the server knows about it. */
export interface SandboxDetails extends SandboxMetadata {
  /** Why it ended; `null` while it runs. */
  stopReason: string | null;
  /** Its memory in MiB, if the server says so. */
  memoryMib: number | null;
  /** What went wrong with its volumes, such as writes that were lost: known when it has ended, and for people. */
  damages: string[];
}

/** Reads the form of the wire (protocol.md 2.4). */
export function toSandboxMetadata(value: unknown): SandboxMetadata {
  const { id, createdAt, stoppedAt, region, status, labels, stopAt, node } = requireRecord(value);
  return {
    id: String(id),
    createdAt: new Date(String(createdAt)),
    stoppedAt: typeof stoppedAt === "string" ? new Date(stoppedAt) : null,
    region: String(region),
    status: status as SandboxMetadata["status"],
    labels: (labels ?? {}) as Record<string, string>,
    stopAt: typeof stopAt === "string" ? new Date(stopAt) : null,
    node: typeof node === "string" ? node : null,
  };
}

function toSandboxDetails(value: unknown): SandboxDetails {
  const { stopReason, memoryMib, damages } = requireRecord(value);
  return {
    ...toSandboxMetadata(value),
    stopReason: typeof stopReason === "string" ? stopReason : null,
    memoryMib: typeof memoryMib === "number" ? memoryMib : null,
    damages: Array.isArray(damages) ? damages.map(String) : [],
  };
}

/** Gets a sandbox, or `null` when it is unknown. With `isWaiting` the server answers when it has stopped, or after 30 seconds. */
export async function getSandbox(
  http: HttpClient,
  origin: string,
  id: string,
  isWaiting: boolean,
  options?: RequestOptions,
): Promise<SandboxDetails | null> {
  try {
    const response = await http.send({
      method: "GET",
      origin,
      path: path`/api/v3/sandbox/${id}`,
      query: { wait: isWaiting ? "stopped" : undefined },
      options: isWaiting ? { timeoutMs: 45_000, ...options } : options,
    });
    return toSandboxDetails(response.body);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}
