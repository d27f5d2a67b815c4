import assert from "node:assert/strict";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { findViolations, type ImportRules, type Manifest, type Repository } from "./support/import-rules.ts";

/** ARCHITECTURE.md explains them. */
const RULES: ImportRules = {
  allowed: {
    model: [],
    certificates: [],
    protocol: ["model"],
    linux: ["model"],
    storage: ["model", "linux"],
    runtime: ["model", "linux", "certificates"],
    node: ["model", "linux", "storage", "runtime"],
    "node-link": ["model", "node", "certificates"],
    database: ["model"],
    agent: ["model", "protocol"],
    objects: ["model", "linux"],
    "snapshot-store": ["model", "linux", "objects"],
    sdk: ["model", "protocol"],
    cli: ["sdk", "model"],
    server: [
      "model",
      "protocol",
      "certificates",
      "linux",
      "storage",
      "runtime",
      "node",
      "node-link",
      "database",
      "objects",
      "snapshot-store",
    ],
  },
  drivers: {
    names: {
      OciRuntime: "runtime",
      LocalStorage: "storage",
      SpreadStorage: "storage",
      openSqliteStore: "database",
      openPostgresStore: "database",
      openObjectStore: "objects",
    },
    composition: [
      "packages/node/src/open-node.ts",
      "packages/node/src/pools/open-pool.ts",
      "packages/node/src/pools/open-replicated-pool.ts",
      "packages/server/src/database/open-store.ts",
      "packages/server/src/database/database-commands.ts",
      "packages/server/src/snapshot-store/open-snapshot-store.ts",
    ],
  },
  edges: {
    folders: ["packages/server/src/http", "packages/server/src/gateway"],
    siblings: ["linux", "storage", "runtime", "node", "database", "objects", "snapshot-store"],
    context: {
      path: "packages/server/src/app/context.ts",
      variable: "app",
      members: ["store", "nodes", "locks", "live", "snapshotStore"],
    },
  },
  control: {
    folders: ["app", "http", "gateway", "reconcilers", "ssh", "previews"].map((name) => `packages/server/src/${name}`),
    siblings: ["storage", "runtime"],
  },
};

const root = join(import.meta.dirname, "..");

async function readRepository(): Promise<Repository> {
  const read = async (pattern: string): Promise<(readonly [string, string])[]> => {
    const paths = await Array.fromAsync(glob(pattern, { cwd: root, exclude: ["**/node_modules/**", "**/dist/**"] }));
    return Promise.all(paths.map(async (path) => [path, await readFile(join(root, path), "utf8")] as const));
  };
  const all = (await Promise.all(["packages/**/*.ts", "{tests,bench,scripts}/**/*.ts"].map(read))).flat();
  // This file's own examples are not imports.
  const sources = all.filter(([path]) => path !== "tests/import-rules.test.ts");
  const manifests = (await read("packages/*/package.json")).map(
    ([path, text]) => [path, JSON.parse(text) as Manifest] as const,
  );
  return { sources: new Map(sources), manifests: new Map(manifests) };
}

test("every import keeps to the rules, and every rule is about something that exists", async () => {
  const repository = await readRepository();
  assert.ok(repository.sources.size > 300 && repository.manifests.size > 5, "the sources were found");
  assert.deepEqual(findViolations(repository, RULES), []);
});

suite("the check of imports", () => {
  const rules: ImportRules = {
    allowed: { lower: [], upper: ["lower"] },
    drivers: { names: { Driver: "lower" }, composition: ["packages/upper/src/main.ts"] },
    edges: {
      folders: ["packages/upper/src/http"],
      siblings: ["lower"],
      context: { path: "packages/upper/src/context.ts", variable: "app", members: ["store"] },
    },
    control: { folders: ["packages/upper/src/app"], siblings: ["lower"] },
  };
  let sources: Map<string, string>;
  let manifests: Map<string, Manifest>;

  before(() => {
    sources = new Map([
      ["packages/lower/src/index.ts", "export { Driver } from './driver.ts';"],
      ["packages/lower/testing/index.ts", 'import { Driver } from "../src/index.ts";'],
      ["packages/upper/src/main.ts", 'import { Driver } from "@caisson/lower";'],
      ["packages/upper/src/context.ts", "export interface Context {\n  readonly store: Store;\n}"],
      ["packages/upper/src/app/use.ts", "export const use = 1;"],
      ["packages/upper/src/http/routes.ts", 'import { main } from "../main.ts";'],
      ["packages/upper/src/main.test.ts", 'import { Fake } from "@caisson/lower/testing";'],
    ]);
    manifests = new Map<string, Manifest>([
      ["packages/lower/package.json", { exports: { ".": "./src/index.ts", "./testing": "./testing/index.ts" } }],
      ["packages/upper/package.json", { dependencies: { "@caisson/lower": "*" } }],
    ]);
  });

  const violations = (added: Readonly<Record<string, string>> = {}, changed: Partial<ImportRules> = {}) =>
    findViolations({ sources: new Map([...sources, ...Object.entries(added)]), manifests }, { ...rules, ...changed });

  test("finds nothing where all is well", () => {
    assert.deepEqual(violations(), []);
  });

  for (const [form, text] of Object.entries({
    "an import": 'import { a } from "@caisson/upper";',
    "an import of types": 'import type { A } from "@caisson/upper";',
    "an import over several lines": 'import {\n  a,\n  b,\n} from "@caisson/upper";',
    "an import for its effects": 'import "@caisson/upper";',
    "a dynamic import": 'const { a } = await import("@caisson/upper");',
    "a type named by an import": 'type A = import("@caisson/upper").A;',
    "an export": 'export * from "@caisson/upper";',
  })) {
    test(`sees ${form}`, () => {
      const found = violations({ "packages/lower/src/a.ts": text });
      assert.ok(found.includes("packages/lower/src/a.ts may not import @caisson/upper"), found.join("\n"));
    });
  }

  for (const [name, { path, text, problem }] of Object.entries({
    "a sibling that is not declared": {
      path: "packages/lower/src/a.test.ts",
      text: 'import { a } from "@caisson/upper";',
      problem: /packages\/lower\/package.json does not declare/,
    },
    "an entry point that does not exist": {
      path: "packages/upper/src/a.ts",
      text: 'import { a } from "@caisson/lower/src/a.ts";',
      problem: /does not exist/,
    },
    "a test's helper in production": {
      path: "packages/upper/src/a.ts",
      text: 'import { Fake } from "@caisson/lower/testing";',
      problem: /is no test and imports @caisson\/lower\/testing/,
    },
    "a test's helper in production, by its path": {
      path: "packages/lower/src/a.ts",
      text: 'import { Fake } from "../testing/index.ts";',
      problem: /is no test and imports/,
    },
    "a relative path into another package": {
      path: "packages/upper/src/a.test.ts",
      text: 'const a = await import("../../lower/src/a.ts");',
      problem: /reaches into another package/,
    },
    "a relative path into a package from outside": {
      path: "tests/a.test.ts",
      text: 'import type { A } from "../packages/lower/src/a.ts";',
      problem: /reaches into another package/,
    },
    "a path to the repository's tests in production": {
      path: "packages/upper/src/a.ts",
      text: 'import { a } from "../../../tests/support/a.ts";',
      problem: /reaches out of its package/,
    },
    "a path from a test to what is neither its package nor shared support": {
      path: "packages/upper/src/a.test.ts",
      text: 'import { a } from "../../../bench/a.ts";',
      problem: /reaches out of its package/,
    },
    "a package that imports itself by name": {
      path: "packages/lower/src/a.ts",
      text: 'import { a } from "@caisson/lower";',
      problem: /imports its own package by name/,
    },
    "a concrete driver outside the composition": {
      path: "packages/upper/src/a.ts",
      text: "export const a = new Driver();",
      problem: /names the concrete driver Driver/,
    },
    "an edge that imports a seam": {
      path: "packages/upper/src/http/a.ts",
      text: 'import type { A } from "@caisson/lower";',
      problem: /packages\/upper\/src\/http\/a.ts reaches into a seam by @caisson\/lower/,
    },
    "a use case that goes past the node": {
      path: "packages/upper/src/app/a.ts",
      text: 'import type { A } from "@caisson/lower";',
      problem: /packages\/upper\/src\/app\/a.ts goes past the node by @caisson\/lower/,
    },
    "an edge that goes to a seam through the context": {
      path: "packages/upper/src/http/a.ts",
      text: "export const find = (app: Context) => app.store.find();",
      problem: /reaches into a seam by app\.store/,
    },
  })) {
    test(`finds ${name}`, () => {
      const found = violations({ [path]: text });
      assert.equal(found.length > 0, true);
      assert.match(found.join("\n"), problem);
    });
  }

  for (const [name, { changed, problem }] of Object.entries({
    "a package without a rule": { changed: { allowed: { lower: [] } }, problem: /no rule for package upper/ },
    "a package that is gone": {
      changed: { allowed: { ...rules.allowed, gone: [] } },
      problem: /names package gone, which does not exist/,
    },
    "an allowed sibling that is gone": {
      changed: { allowed: { ...rules.allowed, upper: ["lower", "gone"] } },
      problem: /names package gone, which does not exist/,
    },
    "a driver that is gone": {
      changed: { drivers: { ...rules.drivers, names: { Driver: "lower", Gone: "lower" } } },
      problem: /names driver Gone, which package lower does not export/,
    },
    "a composing file that is gone": {
      changed: { drivers: { ...rules.drivers, composition: ["packages/upper/src/gone.ts"] } },
      problem: /names packages\/upper\/src\/gone.ts, which does not exist/,
    },
    "an edge that is gone": {
      changed: { edges: { ...rules.edges, folders: ["packages/upper/src/gone"] } },
      problem: /names folder packages\/upper\/src\/gone, which does not exist/,
    },
    "a part that decides and is gone": {
      changed: { control: { ...rules.control, folders: ["packages/upper/src/gone"] } },
      problem: /names folder packages\/upper\/src\/gone, which does not exist/,
    },
    "a member of the context that is gone": {
      changed: { edges: { ...rules.edges, context: { ...rules.edges.context, members: ["store", "gone"] } } },
      problem: /names gone, which packages\/upper\/src\/context.ts does not have/,
    },
  } satisfies Record<string, { changed: Partial<ImportRules>; problem: RegExp }>)) {
    test(`finds a rule about ${name}`, () => {
      assert.match(violations({}, changed).join("\n"), problem);
    });
  }
});
