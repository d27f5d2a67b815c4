import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import type { AppContext } from "./app/context.ts";
import { buildHttp } from "./http/server.ts";

/** Writes openapi/caisson.json from the routes' schemas; with `--check` only says whether the committed one is current. */
const path = join(import.meta.dirname, "../../../openapi/caisson.json");
// Routes are described, none is run, so nothing behind them is needed.
const http = await buildHttp({ logger: pino({ level: "silent" }) } as AppContext);
await http.ready();
const text = `${JSON.stringify(http.swagger(), null, 2)}\n`;
if (!process.argv.includes("--check")) {
  await writeFile(path, text);
} else if ((await readFile(path, "utf8")) !== text) {
  console.error("openapi/caisson.json is out of date: run npm run openapi");
  process.exitCode = 1;
}
