import type { Duplex } from "node:stream";
import type { HasDescriptor } from "../calls/descriptor.ts";

/**
 * The descriptor of a connection; null when it is closed. Node has no public name for it, but documents that a handle has one
 * (`server.listen(handle)`).
 */
export function descriptorOf(socket: Duplex): HasDescriptor | null {
  const { _handle: handle } = socket as Duplex & { readonly _handle?: HasDescriptor | null };
  return handle !== undefined && handle !== null && handle.fd >= 0 ? handle : null;
}
