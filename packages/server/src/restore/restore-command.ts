import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { CaissonError } from "@caisson/model";
import { parseInstallationKey } from "../snapshot-store/key-file.ts";
import { parseSnapshotStore } from "../snapshot-store/snapshot-store-config.ts";
import { drill } from "./drill.ts";
import { restore } from "./restore.ts";

/** Runs `restore` or `drill` as the command line gives it, and prints what came of it as JSON. Ctrl-C ends it; what a restore has begun is begun anew by the next. */
export async function runRestoreCommand(command: "restore" | "drill", args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      from: { type: "string" },
      key: { type: "string" },
      backup: { type: "string" },
      data: { type: "string" },
      endpoint: { type: "string" },
      "s3-region": { type: "string" },
      "path-style": { type: "boolean" },
      ca: { type: "string" },
      "nodes-lost": { type: "boolean", default: false },
      fetch: { type: "boolean", default: false },
      sample: { type: "string", default: "10" },
    },
  });
  const { from: url, endpoint, ca } = values;
  if (url === undefined || values.key === undefined) throw invalid("Give --from URL and --key FILE");
  const address = { url, endpoint, region: values["s3-region"], path_style: values["path-style"], ca };
  const given = Object.fromEntries(Object.entries(address).filter(([, value]) => value !== undefined));
  const store = parseSnapshotStore(given);
  if (store === null) throw invalid("Give --from URL");
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(name, () => interrupted.abort(new CaissonError("SHUTTING_DOWN", `The ${command} was interrupted`)));
  const common = {
    ...{ store, address, key: await readKey(values.key), backupId: values.backup ?? null },
    areNodesLost: values["nodes-lost"],
  };
  const { signal } = interrupted;
  if (command === "drill") {
    console.log(JSON.stringify(await drill({ ...common, sampleCount: parseSample(values.sample) }, signal)));
    return;
  }
  if (values.data === undefined) throw invalid("Give --data DIR: a new directory");
  const options = { ...common, dataDirectory: values.data, isFetched: values.fetch };
  console.log(JSON.stringify(await restore(options, signal)));
}

async function readKey(path: string): Promise<Buffer> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw invalid(`Cannot read the key in ${path}: ${cause instanceof Error ? cause.message : String(cause)}`);
  });
  const key = parseInstallationKey(text);
  if (key !== null) return key;
  throw invalid(`There is no key in ${path}: give the file that has what \`caisson keys export\` printed`);
}

/** Null: all. */
function parseSample(text: string): number | null {
  if (text === "all") return null;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw invalid(`--sample is ${JSON.stringify(text)}: give how many snapshots to fetch, or all`);
}

function invalid(message: string): CaissonError {
  return new CaissonError("INVALID_CONFIG", message);
}
