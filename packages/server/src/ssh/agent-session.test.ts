import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { encodeFrame, FRAME, type SessionEnd, WINDOW_BYTES } from "@caisson/protocol/session-frames";
import { AgentSession } from "./agent-session.ts";

const HEAD = "HTTP/1.1 200 OK\r\n\r\n";
/** A connection that is given up may be reset, which is no failure here. */
const closing = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()));
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

suite("a session with an agent that may be anybody's program", () => {
  let directory: string;
  let agent: Server;
  let accepted: Promise<[Socket]>;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-session-"));
    agent = createServer();
    agent.listen(join(directory, "agent.sock"));
    accepted = once(agent, "connection") as Promise<[Socket]>;
  });
  afterEach(async () => {
    agent.close();
    await rm(directory, { recursive: true });
  });

  /** Opens a session whose client takes output when `taken` says so, and answers with what the agent writes. */
  const open = async (bytes: readonly (string | Uint8Array)[], taken: Promise<void> = Promise.resolve()) => {
    const received: Buffer[] = [];
    const ended = Promise.withResolvers<SessionEnd | null>();
    const session = new AgentSession(
      connect(join(directory, "agent.sock")),
      { kind: "files" },
      {
        async onOutput(output) {
          await taken;
          received.push(Buffer.from(output));
        },
        onInputTaken() {},
        onEnd: ended.resolve,
      },
    );
    const [socket] = await accepted;
    socket.on("error", () => {}).resume();
    for (const piece of bytes) socket.write(piece);
    return { session, socket, received, end: ended.promise };
  };

  test("its output is passed on, and then its end", async () => {
    const end = { code: 0, signal: "TERM" };
    const { received, end: told } = await open([
      HEAD.slice(0, 7),
      HEAD.slice(7),
      encodeFrame(FRAME.output, Buffer.from("out")),
      encodeFrame(FRAME.errorOutput, Buffer.from("err")),
      encodeFrame(FRAME.end, json(end)),
    ]);
    assert.deepEqual(await told, end);
    assert.deepEqual(received.map(String), ["out", "err"]);
  });

  test("what is none of its answers ends the session", async () => {
    const tooLong = new Uint8Array(5).fill(0xff);
    const answers: readonly (readonly (string | Uint8Array)[])[] = [
      ["HTTP/1.1 503 Service Unavailable\r\n\r\n"],
      ["x".repeat(10_000)],
      [`HTTP/1.1 200 ${"x".repeat(10_000)}`],
      [HEAD, tooLong],
      [HEAD, encodeFrame(99, json({}))],
      [HEAD, encodeFrame(FRAME.open, json({}))],
      [HEAD, encodeFrame(FRAME.end, Buffer.from("nonsense"))],
      [HEAD, encodeFrame(FRAME.end, json({ code: 256, signal: null }))],
      [HEAD, encodeFrame(FRAME.end, json({ code: 0, signal: "TERM\r\n" }))],
    ];
    for (const answer of answers) {
      accepted = once(agent, "connection") as Promise<[Socket]>;
      const { end, socket } = await open(answer);
      const closed = closing(socket);
      assert.equal(await end, null, String(answer[0]));
      await closed;
    }
  });

  test("more output than may be under way ends it, whoever does not read", async () => {
    const never = Promise.withResolvers<void>();
    const piece = encodeFrame(FRAME.output, new Uint8Array(64 * 1024));
    const pieces = Array.from({ length: WINDOW_BYTES / (64 * 1024) + 4 }, () => piece);
    const { socket, end } = await open([HEAD, ...pieces], never.promise);
    await closing(socket);
    never.resolve();
    assert.equal(await end, null);
  });

  test("an agent that reads nothing is given up before much has gathered for it", async () => {
    const { session, socket } = await open([HEAD]);
    socket.pause();
    const closed = closing(socket);
    for (let count = 0; count < 100_000; count += 1)
      session.resize({ columns: 1, rows: 1, widthPixels: 0, heightPixels: 0 });
    socket.resume();
    await closed;
  });
});
