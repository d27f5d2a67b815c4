import { enableCompileCache } from "node:module";
import { fileURLToPath } from "node:url";

// Entry of the bundle (build.ts). What was compiled once is kept beside it; where that cannot be written, nothing is lost but time.
enableCompileCache(fileURLToPath(new URL("compiled/", import.meta.url)));
await import("./main.ts");
