import { constants } from "node:fs";
import { open } from "node:fs/promises";

/**
 * Opens a directory that becomes a layer of an overlay, and returns the name to give the kernel. It names the descriptor, because a sandbox
 * can read the names of its layers, and the host's paths are none of its business.
 */
export async function openLayer(path: string, owner: AsyncDisposableStack): Promise<string> {
  const handle = owner.use(await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW));
  return `/proc/self/fd/${handle.fd}`;
}
