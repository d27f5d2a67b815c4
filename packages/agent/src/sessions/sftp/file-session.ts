import type { Sandbox } from "../../host/sandbox.ts";
import type { Session } from "../session.ts";
import type { SessionLink } from "../session-link.ts";
import { FileRequests } from "./file-requests.ts";
import { PacketSplitter } from "./packets.ts";

/** Below the most that a frame holds. */
const OUTPUT_BYTES = 64 * 1024;
const BAD_PACKET_CODE = 11;

/**
 * SFTP, spoken by the agent itself: a root need not have a program for it, it takes no start, and the server reads nothing of what a client sends
 * or a sandbox answers. Requests are done one after the other, as OpenSSH's server does them.
 */
export function openFileSession(sandbox: Sandbox, link: SessionLink): Session {
  const requests = new FileRequests(sandbox.settings.defaultDirectory);
  const splitter = new PacketSplitter();
  let isOver = false;
  const end = async (code: number): Promise<void> => {
    if (isOver) return;
    isOver = true;
    requests.close();
    await link.end({ code, signal: null }).catch(() => {});
  };
  return {
    async input(bytes) {
      if (isOver) return;
      try {
        for (const packet of splitter.split(bytes)) await send(link, await requests.answer(packet));
      } catch (error) {
        await link.errorOutput(new TextEncoder().encode(`sftp: ${String(error)}\n`)).catch(() => {});
        await end(BAD_PACKET_CODE);
      }
    },
    inputEnd: () => end(0),
    resize() {},
    signal() {},
    close() {
      isOver = true;
      requests.close();
    },
  };
}

async function send(link: SessionLink, answer: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let start = 0; start < answer.length; start += OUTPUT_BYTES)
    await link.output(answer.subarray(start, start + OUTPUT_BYTES));
}
