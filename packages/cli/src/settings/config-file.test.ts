import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { configPath, readConfigFile, writeConfigFile } from "./config-file.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "caisson-config-"));
});
after(() => rm(directory, { recursive: true, force: true }));

const CONFIG = { current: "a", profiles: { a: { endpoint: "http://a", token: "ddo_a" } } };
const never = (): never => assert.fail("the file was said to be exposed");

test("the file is found by option, environment and the user's configuration directory, in this order", () => {
  assert.equal(configPath("given", { CAISSON_CONFIG: "env" }), "given");
  assert.equal(configPath(undefined, { CAISSON_CONFIG: "env", XDG_CONFIG_HOME: "/x" }), "env");
  assert.equal(configPath(undefined, { XDG_CONFIG_HOME: "/x" }), "/x/caisson/config.json");
});

test("what was written is read again, and only its owner can read it", async () => {
  const path = join(directory, "new", "config.json");
  assert.deepEqual(await readConfigFile(path, never), { current: null, profiles: {} });
  await writeConfigFile(path, CONFIG);
  assert.deepEqual(await readConfigFile(path, never), CONFIG);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal((await stat(dirname(path))).mode & 0o777, 0o700);
  assert.deepEqual(await readdir(dirname(path)), ["config.json"]);
  const modes: string[] = [];
  await chmod(path, 0o640);
  await readConfigFile(path, (mode) => modes.push(mode));
  assert.deepEqual(modes, ["640"]);
});

test("a file that is damaged is refused with its name", async () => {
  const path = join(directory, "damaged.json");
  for (const text of ["{", "[]", '{"current":null}', '{"current":null,"profiles":{"a":{"endpoint":1,"token":"t"}}}']) {
    await writeFile(path, text, { mode: 0o600 });
    await assert.rejects(readConfigFile(path, never), (error: Error) => error.message.includes(path));
  }
});
