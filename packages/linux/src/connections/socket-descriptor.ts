import type { Duplex } from "node:stream";
import type { HasDescriptor } from "../calls/descriptor.ts";

/** What Node has below a connection. It has no public name, but Node documents that a handle has a descriptor (`server.listen(handle)`). */
interface Handle extends HasDescriptor {
  reading: boolean;
  readStop(): number;
}

/** The descriptor of a connection; null when it is closed. */
export function descriptorOf(socket: Duplex): HasDescriptor | null {
  return handleOf(socket);
}

/**
 * Has Node read no more of a connection, for good, and returns what it has read and nobody has taken. `pause` alone lets it read on until its own buffer
 * is full. What comes is then for whoever reads from another descriptor of the connection; writing and ending it stay as they were.
 */
export function stopReading(socket: Duplex): Buffer {
  socket.pause();
  // This marks the stream as one that waits for the bytes it has just asked for, so it never asks again.
  const rest = socket.read() as Buffer | null;
  const handle = handleOf(socket);
  if (handle !== null) {
    handle.reading = false;
    handle.readStop();
  }
  return rest ?? Buffer.alloc(0);
}

function handleOf(socket: Duplex): Handle | null {
  const { _handle: handle } = socket as Duplex & { readonly _handle?: Handle | null };
  return handle !== undefined && handle !== null && handle.fd >= 0 ? handle : null;
}
