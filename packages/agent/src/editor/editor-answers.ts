import { startTimer } from "../host/timers.ts";
import { closeQuietly } from "../network/close-quietly.ts";

const ANSWER_TIMEOUT_MS = 2_000;
/** `HTTP/1.1 200` */
const STATUS = /^HTTP\/1\.\d [23]\d\d/;
const STATUS_BYTES = 12;

/** Whether a server on the loopback interface answers the path, with success. Never rejects. */
export async function editorAnswers(port: number, path: string): Promise<boolean> {
  try {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    const stopTimer = startTimer(ANSWER_TIMEOUT_MS, () => closeQuietly(connection));
    try {
      const request = `GET ${path} HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: close\r\n\r\n`;
      await connection.write(new TextEncoder().encode(request));
      return STATUS.test(await readStart(connection));
    } finally {
      stopTimer();
      closeQuietly(connection);
    }
  } catch {
    // Nobody listens yet, or whoever does is not ready to answer.
    return false;
  }
}

async function readStart(connection: Deno.Conn): Promise<string> {
  const bytes = new Uint8Array(STATUS_BYTES);
  let length = 0;
  while (length < bytes.length) {
    const count = await connection.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
  }
  return new TextDecoder("latin1").decode(bytes.subarray(0, length));
}
