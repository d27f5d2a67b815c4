import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { Environment } from "./environment.ts";

test("as many small variables as are possible still leave room for a program and its arguments", () => {
  const environment = new Environment({ PATH: "/usr/bin:/bin" });
  const setAll = (): void => {
    for (let index = 0; index < 200_000; index += 1) environment.set(`V${index}`, "");
  };
  assert.throws(setAll, { code: "E2BIG" });
  const variables = environment.toObject();
  const count = Object.keys(variables).length;
  assert.ok(count > 60_000, `${count}`);
  execFileSync("true", ["x".repeat(100_000), ...Array<string>(50_000).fill("y")], { env: variables });
});

test("variables of the start that are too large together can be made smaller, and not larger", () => {
  const value = "x".repeat(120_000);
  const initial = Object.fromEntries(Array.from({ length: 9 }, (_, index) => [`LARGE_${index}`, value]));
  const environment = new Environment(initial);
  assert.throws(() => environment.set("MORE", ""), { code: "E2BIG" });
  environment.set("LARGE_0", "x".repeat(110_000));
  assert.throws(() => environment.set("MORE", ""), { code: "E2BIG" });
  environment.delete("LARGE_0");
  environment.set("MORE", "");
});
