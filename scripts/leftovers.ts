import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findLeaks } from "@caisson/linux/testing";

/** Ends the suite, which had a directory for temporary files to itself: nothing that a test made there may be left on the host. */
const names = await readdir(tmpdir());
const leaks = (await Promise.all(names.map((name) => findLeaks({ directory: join(tmpdir(), name) })))).flat();
for (const leak of leaks) console.error(`left behind: ${leak}`);
process.exitCode = leaks.length === 0 ? 0 : 1;
