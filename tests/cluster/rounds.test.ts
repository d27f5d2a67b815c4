import { suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { runCampaign } from "../support/cluster/campaign.ts";
import { FAULTS } from "../support/cluster/faults.ts";

/** For `npm test`: what takes a leader and a node by force. All faults come with CLUSTER_ROUNDS, as `npm run test:cluster` sets it. */
const SAMPLE = ["kill the leader and a node", "freeze the leader until it is replaced"];
const ROUND_MS = 300_000;

const wanted = process.env.CLUSTER_ROUNDS;
const rounds = wanted === undefined ? SAMPLE.length : Number(wanted);
if (!Number.isInteger(rounds) || rounds < 1)
  throw new Error(`CLUSTER_ROUNDS is ${JSON.stringify(wanted)}: use a whole number from 1`);
const seedText = process.env.CLUSTER_SEED;
const seed = seedText === undefined ? undefined : Number(seedText);
if (seed !== undefined && !Number.isInteger(seed))
  throw new Error(`CLUSTER_SEED is ${JSON.stringify(seedText)}: use a whole number`);

suite("three nodes and two servers under load", { timeout: testTimeoutMs(ROUND_MS * (rounds + 1)) }, () => {
  test(
    "lose nothing that was acknowledged, have no two writers and leave nothing behind, whatever is killed, frozen, cut off or full",
    {
      timeout: testTimeoutMs(ROUND_MS * (rounds + 1)),
    },
    () =>
      runCampaign({
        rounds,
        ...(seed === undefined ? {} : { seed }),
        faults: wanted === undefined ? FAULTS.filter(({ name }) => SAMPLE.includes(name)) : FAULTS,
        print: (line) => console.log(line),
      }),
  );
});
