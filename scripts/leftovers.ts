import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { findLeaks } from "@caisson/linux";

/** Ends the suite: nothing that a test made may be on the host any more. Every test's directory begins with this. */
const TEST_DIRECTORY = "caisson-";

const names = (await readdir(tmpdir())).filter((name) => name.startsWith(TEST_DIRECTORY));
const leaks = [...names.map((name) => `directory: ${tmpdir()}/${name}`), ...(await findLeaks({ directory: `${tmpdir()}/${TEST_DIRECTORY}` }))];
for (const leak of leaks) console.error(`left behind: ${leak}`);
process.exitCode = leaks.length === 0 ? 0 : 1;
