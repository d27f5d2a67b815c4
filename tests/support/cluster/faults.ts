import { rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runTool } from "@caisson/linux";
import { eventually } from "../eventually.ts";
import type { Fleet, NodeMachine, ServerMachine } from "./fleet.ts";
import type { Cut } from "./network.ts";
import { mainProcess, processTree, signalAll } from "./processes.ts";
import type { SeededRandom } from "./random.ts";

/** For a server that does not renew its lease of 15 s, and what comes after, on a machine that is busy. */
const TAKEOVER_MS = 90_000;
/** Longer than the lease of a node. */
const LEASE_OVER_MS = 17_000;
const HOUR_MS = 3_600_000;

export interface Fault {
  readonly name: string;
  /** Does it, and what it did is over when this resolves, or rejects. */
  run(fleet: Fleet, random: SeededRandom): Promise<void>;
}

/** What the rounds of a campaign choose from. */
export const FAULTS: readonly Fault[] = [
  { name: "kill a node", run: (fleet, random) => killFor([random.pick(fleet.nodes)], random) },
  { name: "kill the leader", run: async (fleet, random) => killFor([await fleet.leader()], random) },
  { name: "kill the standby", run: async (fleet, random) => killFor([await fleet.standby()], random) },
  { name: "kill both servers", run: (fleet, random) => killFor(fleet.servers, random) },
  {
    name: "kill the leader and a node",
    run: async (fleet, random) => killFor([await fleet.leader(), random.pick(fleet.nodes)], random),
  },
  { name: "freeze the leader until it is replaced", run: async (fleet) => freezeLeader(fleet) },
  {
    name: "freeze the standby",
    run: async (fleet, random) => {
      const { process } = await fleet.standby();
      process.signal("SIGSTOP");
      await delay(random.between(1_000, 20_000)).finally(() => process.signal("SIGCONT"));
    },
  },
  {
    name: "freeze a node's process",
    run: async (fleet, random) => {
      const { process } = random.pick(fleet.nodes);
      await freeze([await mainProcess(pidOf(process.pid))], random.pick([3_000, LEASE_OVER_MS]));
    },
  },
  {
    name: "freeze a node with its sandboxes",
    run: async (fleet, random) => {
      const { process } = random.pick(fleet.nodes);
      await freeze(await processTree(pidOf(process.pid)), random.pick([3_000, LEASE_OVER_MS]));
    },
  },
  {
    name: "cut the leader from the store",
    run: async (fleet, random) => cutFor(await fleet.leader(), cutOf(random), random.pick([3_000, 25_000])),
  },
  {
    name: "cut the standby from the store",
    run: async (fleet, random) => cutFor(await fleet.standby(), cutOf(random), random.pick([3_000, 25_000])),
  },
  {
    name: "cut a node from the servers",
    run: (fleet, random) =>
      cutFor(random.pick(fleet.nodes), cutOf(random), random.pick([3_000, LEASE_OVER_MS + 8_000])),
  },
  {
    name: "cut all nodes and kill the leader",
    run: async (fleet, random) => {
      const how = cutOf(random);
      for (const { network } of fleet.nodes) network.cut(how);
      try {
        await killFor([await fleet.leader()], random);
      } finally {
        for (const { network } of fleet.nodes) network.heal();
      }
    },
  },
  {
    name: "kill the database",
    run: async (fleet, random) => {
      await fleet.postgres.kill();
      await delay(random.between(0, 8_000));
      await fleet.postgres.start();
    },
  },
  {
    name: "fill a node's disk",
    run: (fleet, random) => fillDisk(random.pick(fleet.nodes), random.between(1_000, 6_000)),
  },
  {
    name: "move a node's clock by an hour",
    run: (fleet, random) => moveClock(fleet, random.pick(fleet.nodes), random),
  },
  {
    name: "move the leader's clock by an hour",
    run: async (fleet, random) => moveClock(fleet, await fleet.leader(), random),
  },
];

function cutOf(random: SeededRandom): Cut {
  return random.pick(["silent", "refusing"]);
}

function pidOf(pid: number | null): number {
  if (pid === null) throw new Error("The node does not run");
  return pid;
}

/** All at once; they come back after up to three seconds. */
async function killFor(machines: readonly (ServerMachine | NodeMachine)[], random: SeededRandom): Promise<void> {
  const pauseMs = random.between(0, 3_000);
  for (const machine of machines) machine.holdDown();
  try {
    await Promise.all(machines.map(({ process }) => process.kill()));
    await delay(pauseMs);
  } finally {
    for (const machine of machines) machine.release();
  }
}

/** It goes on when another one leads, and must find that out. */
async function freezeLeader(fleet: Fleet): Promise<void> {
  const frozen = await fleet.leader();
  const next = await fleet.standby();
  frozen.process.signal("SIGSTOP");
  try {
    await eventually(`that ${next.name} leads`, () => next.process.hasLed || null, TAKEOVER_MS);
  } finally {
    frozen.process.signal("SIGCONT");
  }
  await eventually(`the end of ${frozen.name}, which was replaced`, () => !frozen.process.hasLed || null, TAKEOVER_MS);
}

async function freeze(pids: readonly number[], forMs: number): Promise<void> {
  signalAll(pids, "SIGSTOP");
  await delay(forMs).finally(() => signalAll(pids, "SIGCONT"));
}

async function cutFor({ network }: ServerMachine | NodeMachine, how: Cut, forMs: number): Promise<void> {
  network.cut(how);
  await delay(forMs).finally(() => network.heal());
}

/** Takes all the room of the pool, also what is kept free of it for the node itself, without the node's knowledge. */
async function fillDisk({ process, region }: NodeMachine, forMs: number): Promise<void> {
  const main = await mainProcess(pidOf(process.pid));
  const pool = join(`/proc/${main}/root`, process.dataDirectory, "regions", region, "pool/mount");
  const ballast = [join(pool, "ballast-1"), join(pool, "ballast-2")];
  try {
    const { bavail, bsize } = await statfs(pool);
    for (const [index, path] of ballast.entries()) {
      // What the file system keeps for its own records cannot be told beforehand, so a little less is tried until it fits.
      let bytes = index === 0 ? bavail * bsize : 2 ** 20;
      while (bytes > 4096 && !(await canAllocate(path, bytes)))
        bytes = Math.floor(bytes - Math.max(2 ** 16, bytes / 64));
    }
    await delay(forMs);
  } finally {
    for (const path of ballast) await rm(path, { force: true });
  }
}

async function canAllocate(path: string, bytes: number): Promise<boolean> {
  return runTool("fallocate", ["-l", String(bytes), path]).then(
    () => true,
    () => false,
  );
}

/** While it runs, and again for a process that starts with that clock. */
async function moveClock(fleet: Fleet, machine: ServerMachine | NodeMachine, random: SeededRandom): Promise<void> {
  try {
    await machine.moveClock(random.pick([-HOUR_MS, HOUR_MS]));
    await delay(random.between(2_000, 6_000));
    if (random.next() < 0.5) {
      await machine.process.kill();
      await fleet.untilReady();
    }
  } finally {
    await machine.moveClock(0);
  }
}
