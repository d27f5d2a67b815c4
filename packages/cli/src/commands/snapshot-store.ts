import type { Client, KeyRotationStatus, SnapshotStoreStatus } from "@caisson/sdk";
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import { addCommonOptions, addExamples, run } from "../define.ts";
import { EXIT } from "../exit-codes.ts";
import { formatCount, formatSpan, formatTime } from "../output/format.ts";
import type { Output } from "../output/output.ts";

/** `caisson store ...`. */
export function addStoreCommands(program: Command): void {
  const store = program
    .command("store")
    .description("The server's snapshot store (needs a token of the server's first organization)");
  addGet(store);
  addAccept(store);
}

function addGet(store: Command): void {
  const command = store
    .command("get")
    .description("Ask the snapshot store whether the server can use it")
    .action(
      run(async (context) => {
        const { client } = await context.connect();
        const status = await client.snapshotStore.get();
        const { url, id, problem, replicas, lastUploadAt } = status;
        const state = problem === null ? "usable" : "not usable";
        const fields = [
          ["URL", url],
          ["ID", id ?? "-"],
          ["REPLICAS", String(replicas)],
          ["STATE", state],
          ["WAITING", describeWaiting(status)],
          ["LAST UPLOAD", lastUploadAt === null ? "-" : formatTime(lastUploadAt)],
          ...(status.lastError === null ? [] : [["LAST ERROR", status.lastError] as const]),
          ...(status.keyRotation === null ? [] : [["KEY ROTATION", stageOf(status.keyRotation)] as const]),
        ] as const;
        context.output.fields(fields, id ?? "", status);
        warnOfRotation(status, context.output);
        if (problem !== null) throw new CliError("SNAPSHOT_STORE_UNAVAILABLE", EXIT.backend, problem);
      }),
    );
  addCommonOptions(command);
  addExamples(command, [["caisson store get", "The exit code says whether it can be used"]]);
}

/** For example `3 snapshots, the oldest of 2m 5s ago; 1 has failed`. */
function describeWaiting({ waiting, failing, oldestWaitingAt }: SnapshotStoreStatus): string {
  if (oldestWaitingAt === null) return "none";
  const age = formatSpan(Date.now() - oldestWaitingAt.getTime());
  const failed = failing === 0 ? "" : `; ${failing} ${failing === 1 ? "has" : "have"} failed`;
  return `${formatCount(waiting, "snapshot")}, the oldest of ${age} ago${failed}`;
}

/** For example `waiting for 2m 5s`. */
function stageOf({ stage, since }: KeyRotationStatus): string {
  return `${stage} for ${formatSpan(Date.now() - since.getTime())}`;
}

/** What is to be done for a rotation of the installation's key that is not at its end. */
function warnOfRotation({ keyRotation }: SnapshotStoreStatus, output: Output): void {
  if (keyRotation === null) return;
  const { stage, problem } = keyRotation;
  const reason = problem === null ? "" : ` ${problem}.`;
  output.warn(
    stage === "waiting"
      ? `a rotation of the installation key waits to be finished, and both keys open everything: keep what \`caisson keys export --new\` prints on the server elsewhere, then run \`caisson keys finish --key FILE\` with it.${reason}`
      : `a rotation of the installation key is not at its end, and another key than the one in use opens the snapshot store as well: run \`caisson keys finish --key FILE\` with what \`caisson keys export\` printed, from where you keep it.${reason}`,
  );
}

/** Says beside other figures of the server what is wrong with its snapshot store, if it has one. */
export async function warnOfStore(client: Client, output: Output): Promise<void> {
  const { NotSupportedError } = await import("@caisson/sdk");
  try {
    const status = await client.snapshotStore.get();
    const { problem, failing, lastError } = status;
    warnOfRotation(status, output);
    if (problem !== null) output.warn(`the snapshot store cannot be used: ${problem}`);
    else if (failing > 0)
      output.warn(
        `uploads to the snapshot store fail: ${describeWaiting(status)}${lastError === null ? "" : `: ${lastError}`}`,
      );
  } catch (error) {
    if (error instanceof NotSupportedError) return;
    output.warn(`nobody knows how the snapshot store is: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function addAccept(store: Command): void {
  const command = store
    .command("accept")
    .description(
      "Take the snapshot store of the settings, as it is, for this server's from now on: what is replicated is uploaded again, and no other server may use it",
    )
    .option("--new-key", "make a new installation key in place of one that is lost for good, with what it encrypted")
    .action(
      run(async (context, { newKey = false }: { readonly newKey?: boolean }) => {
        const { client } = await context.connect();
        const waiting = await client.snapshotStore.accept({ newKey });
        const text = `Accepted the snapshot store: ${waiting} ${waiting === 1 ? "snapshot is" : "snapshots are"} looked for there, and uploaded where missing`;
        context.output.confirm(text, { waiting });
      }),
    );
  addCommonOptions(command);
  addExamples(command, [
    ["caisson store accept", "After snapshot_store.url was changed on purpose"],
    ["caisson store accept --new-key", "When the key is lost, and its store given up"],
  ]);
}
