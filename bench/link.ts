import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import type { Duplex } from "node:stream";
import { openLink, partialNode } from "@caisson/node-link/testing";
import { median, printTable, timed, writeResults } from "./support/report.ts";

/**
 * A connection to an agent on another machine, over loopback, beside the direct one in the same run, in turns: bytes there and back, and the time of
 * one small message and its answer. Both ends of the link and the agent are in one process, so the link's figures are those of one processor that does it all. Run it with: scripts/isolate.sh node bench/link.ts
 */
const ROUNDS = 5;
const MIB = 2 ** 20;
const TOTAL_BYTES = 128 * MIB;
const MESSAGES = 2000;

const agents = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => socket.pipe(socket));
agents.listen(0, "127.0.0.1");
await once(agents, "listening");
const { port } = agents.address() as AddressInfo;
const openDirectly = () => connect({ port, host: "127.0.0.1", noDelay: true });
const opened = await openLink(partialNode({ openAgent: openDirectly, ownEnd: async () => null }));
const ways: Readonly<Record<string, () => Duplex>> = {
  direct: openDirectly,
  linked: () => opened.link.openAgent("sbx_ord_a"),
};

async function stream(connection: Duplex): Promise<void> {
  let readBytes = 0;
  const chunk = Buffer.alloc(65_536);
  connection.on("data", (bytes: Buffer) => {
    readBytes += bytes.length;
  });
  for (let sent = 0; sent < TOTAL_BYTES; sent += chunk.length)
    if (!connection.write(chunk)) await once(connection, "drain");
  connection.end();
  await once(connection, "end");
  if (readBytes !== TOTAL_BYTES) throw new Error(`${readBytes} bytes came back`);
}

async function pingPong(connection: Duplex): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < MESSAGES; index += 1)
    times.push(
      await timed(async () => {
        connection.write("ping");
        await once(connection, "data");
      }),
    );
  connection.destroy();
  return median(times);
}

const samples = new Map<string, number[]>();
const record = (name: string, value: number) => samples.set(name, [...(samples.get(name) ?? []), value]);
for (let round = 0; round < ROUNDS; round += 1)
  for (const [way, open] of Object.entries(ways)) {
    record(`${way}, MiB/s`, TOTAL_BYTES / MIB / ((await timed(() => stream(open()))) / 1000));
    record(`${way}, message and answer, µs`, 1000 * (await pingPong(open())));
    if (way === "linked") {
      const times: number[] = [];
      for (let index = 0; index < MESSAGES; index += 1) times.push(await timed(() => opened.link.ownEnd("sbx_ord_a")));
      record("a call, µs", 1000 * median(times));
    }
  }
const medians = Object.fromEntries([...samples].map(([name, values]) => [name, median(values)]));
printTable(`A connection to an agent, medians of ${ROUNDS}`, ["", "median"], Object.entries(medians));
await writeResults("link", { medians });
await opened[Symbol.asyncDispose]();
agents.close();
