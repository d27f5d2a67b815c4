import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** Bundles that are kept: a command that runs may still load parts of the one that was current when it started. */
const KEPT = 3;

const root = fileURLToPath(new URL("../../", import.meta.url));
const dist = fileURLToPath(new URL("dist/", import.meta.url));

/**
 * Bundles the command line into `dist/<time>` and makes `dist/current` lead there: a few files instead of some two hundred to find, strip of types
 * and compile, which is most of what a short command costs. Parts that are imported when they are needed stay files of their own.
 *
 * `sources` are the paths that the launcher watches, from the root of the project; the bundle is made anew when one of them changed. A file that
 * is bundled and not watched is an error.
 */
async function bundle(sources: readonly string[]): Promise<void> {
  const startedAt = new Date();
  const name = `${startedAt.getTime()}-${process.pid}`;
  const directory = join(dist, name);
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["packages/cli/src/start.ts"],
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    metafile: true,
    // Libraries in the older module format ask for Node's own modules this way.
    banner: {
      js: 'import{createRequire as __createRequire}from"node:module";const require=__createRequire(import.meta.url);',
    },
  });
  for (const path of Object.keys(metafile.inputs)) {
    const isWatched = path.includes("node_modules/") || sources.some((source) => path.startsWith(source));
    if (!isWatched) throw new Error(`${path} is part of the bundle: add it to the sources in the launcher`);
  }
  const link = join(dist, `${name}.link`);
  symlinkSync(name, link);
  renameSync(link, join(dist, "current"));
  // What is changed from the start of the build on counts as newer than the bundle.
  const stamp = join(directory, "built");
  writeFileSync(stamp, "");
  utimesSync(stamp, startedAt, startedAt);
  renameSync(stamp, join(dist, "built"));
  removeOld();
}

function removeOld(): void {
  const names = readdirSync(dist).filter((name) => /^\d+-\d+$/.test(name));
  for (const name of names.sort().slice(0, -KEPT)) rmSync(join(dist, name), { recursive: true, force: true });
}

mkdirSync(dist, { recursive: true });
await bundle(process.argv.slice(2));
