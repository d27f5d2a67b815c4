import type { ServerResponse } from "node:http";

export { passBodyOn } from "@caisson/linux";

/** How long a client may take nothing of an answer that is made as it takes it. */
const STALL_MS = 300_000;

/** Ends the connection of a client that takes nothing of a long answer for five to ten minutes. */
export function endWhenStalled(response: ServerResponse): void {
  if (response.closed) return;
  const { socket } = response;
  let before = -1;
  const look = setInterval(() => {
    if (socket === null) return;
    // The sum of what was sent and what waits to be: it stands still while something waits.
    if (socket.writableLength > 0 && socket.bytesWritten === before) socket.destroy();
    before = socket.bytesWritten;
  }, STALL_MS);
  response.once("close", () => clearInterval(look));
}
