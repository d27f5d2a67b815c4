import { callSync } from "../calls/ffi.ts";

const HEADER_BYTES = 8;
const CAPABILITY_VERSION_3 = 0x20080522;
/** Twice effective, permitted and inheritable, of 32 capabilities each. */
const DATA_BYTES = 24;
const HALF_BYTES = 12;
const KEEP = 0xffff_ffff;

/**
 * Runs the work, which must be synchronous, with the ids of somebody else as the owner of what is made, and with all capabilities that this thread is
 * permitted. The kernel takes those over files from the effective ones when the id for files is no longer root's, so they are put back.
 */
export function withFileSystemIdsSync<T>(id: number, work: () => T): T {
  const data = Buffer.alloc(DATA_BYTES);
  callSync("capget", [header(), data], { name: "capget", detail: "" });
  const raised = Buffer.from(data);
  for (const half of [0, HALF_BYTES]) data.copy(raised, half, half + 4, half + 8);
  setIds(id);
  try {
    callSync("capset", [header(), raised], { name: "capset", detail: "the permitted capabilities" });
    return work();
  } finally {
    setIds(0);
    callSync("capset", [header(), data], { name: "capset", detail: "the former capabilities" });
  }
}

/** The kernel says nothing of a failure, but of what the ids are. */
function setIds(id: number): void {
  for (const name of ["setfsgid", "setfsuid"] as const) {
    callSync(name, [id], { name, detail: String(id) });
    if (callSync(name, [KEEP], { name, detail: "none" }) !== id) throw new Error(`Cannot take the id ${id} for files`);
  }
}

function header(): Buffer {
  const buffer = Buffer.alloc(HEADER_BYTES);
  buffer.writeUInt32LE(CAPABILITY_VERSION_3, 0);
  return buffer;
}
