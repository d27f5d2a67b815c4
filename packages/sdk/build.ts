import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { rollup } from "rollup";
import { dts } from "rollup-plugin-dts";

const root = dirname(fileURLToPath(import.meta.url));
/**
 * What the package is called when it is published. In the workspace it is `@caisson/sdk`, as its siblings are; that name must not be
 * published or shown to users, because the scope on the registry is not ours (docs/adr/0002-names-on-the-registries.md).
 */
export const PUBLISHED_NAME = "caisson-sandbox";

/** Where the package is built unless told otherwise. */
const DEFAULT_DIRECTORY = join(root, "dist");

interface Manifest {
  readonly version: string;
  readonly description: string;
  readonly license: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

/**
 * Builds the package as it is published, into a directory: one module for `import`, one for `require`, one declaration file for each, and a
 * manifest of its own, because in the workspace the package stands for its sources.
 */
export async function buildSdk(directory: string = DEFAULT_DIRECTORY): Promise<string> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  await Promise.all([buildModules(directory), buildDeclarations(directory)]);
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;
  writeFileSync(join(directory, "package.json"), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`);
  cpSync(join(root, "README.md"), join(directory, "README.md"));
  cpSync(join(root, "../../LICENSE"), join(directory, "LICENSE"));
  return directory;
}

function publishedManifest({ version, description, license, dependencies }: Manifest): object {
  return {
    name: PUBLISHED_NAME,
    version,
    description,
    license,
    type: "module",
    sideEffects: false,
    engines: { node: ">=20" },
    main: "./index.cjs",
    module: "./index.js",
    types: "./index.d.ts",
    exports: {
      ".": {
        import: { types: "./index.d.ts", default: "./index.js" },
        require: { types: "./index.d.cts", default: "./index.cjs" },
      },
      "./package.json": "./package.json",
    },
    files: ["index.js", "index.cjs", "index.d.ts", "index.d.cts"],
    dependencies,
  };
}

async function buildModules(directory: string): Promise<void> {
  for (const [format, file] of [
    ["esm", "index.js"],
    ["cjs", "index.cjs"],
  ] as const) {
    await build({
      entryPoints: [join(root, "src/index.ts")],
      outfile: join(directory, file),
      bundle: true,
      format,
      platform: "node",
      target: "node20",
      external: ["ws"],
      // Error classes are recognised by their names.
      keepNames: true,
      legalComments: "none",
    });
  }
}

async function buildDeclarations(directory: string): Promise<void> {
  const types = join(directory, "types");
  const tsc = createRequire(import.meta.url).resolve("../../node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", types], {
    stdio: "inherit",
  });
  const bundle = await rollup({
    input: join(types, "sdk/src/index.d.ts"),
    plugins: [dts()],
    // Internal declarations refer to these; what is left after bundling must not, which is checked below.
    external: [/^node:/, /^@caisson\//, "ws"],
    onLog(_level, log) {
      throw new Error(`Cannot bundle the declarations: ${log.message}`);
    },
  });
  const { output } = await bundle.generate({ format: "es" });
  await bundle.close();
  const [{ code }] = output;
  if (/^import .* from/m.test(code)) throw new Error("The declarations refer to another package");
  writeFileSync(join(directory, "index.d.ts"), code);
  writeFileSync(join(directory, "index.d.cts"), code);
  rmSync(types, { recursive: true });
}

if (import.meta.main) console.log(await buildSdk());
