/** Runs one scenario against the sandbox server at an address: `run-scenario.ts NAME ENDPOINT PAGE_URL`. Made for Deno; Node runs it too. */
import process from "node:process";
import { Sandbox } from "@deno/sandbox";
import { scenarios } from "./scenarios.ts";

const [name = "", endpoint = "", pageUrl = ""] = process.argv.slice(2);
const scenario = scenarios[name];
if (scenario === undefined) throw new Error(`There is no scenario ${JSON.stringify(name)}`);
await using sandbox = await Sandbox.create({ token: "ddo_test", sandboxEndpoint: endpoint, apiEndpoint: endpoint });
await scenario(sandbox, { pageUrl });
