import { OciRuntime, type OciRuntimeOptions } from "../src/oci/oci-runtime.ts";
import type { SandboxSpec } from "../src/runtime.ts";

/** Opens the runtime of the first argument, starts the sandbox of the second, and then waits to be killed. */
const [options = "", spec = ""] = process.argv.slice(2);
const runtime = await OciRuntime.open(JSON.parse(options) as OciRuntimeOptions);
await runtime.start(JSON.parse(spec) as SandboxSpec);
console.log("started");
setInterval(() => undefined, 60_000);
