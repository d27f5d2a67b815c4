import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { suite, test } from "node:test";
import { DIFFERENCES, readSeccompProfile } from "./seccomp.ts";

/** Where Debian's golang-github-containers-common has the profile that ours derives from. */
const PROFILE_PATH = "/usr/share/containers/seccomp.json";

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[];
  readonly includes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] };
  readonly excludes?: { readonly caps?: readonly string[] };
}

const HELD = ["CAP_SYS_CHROOT"];

/** Names that the profile gives an action without a look at arguments, for our capabilities and 64-bit architectures. */
function namesWith(rules: readonly Rule[], action: string): ReadonlySet<string> {
  const applying = rules.filter(
    ({ includes, excludes, args }) =>
      (args?.length ?? 0) === 0 &&
      (includes?.arches?.some((name) => name === "amd64" || name === "arm64") ?? true) &&
      (includes?.caps?.every((name) => HELD.includes(name)) ?? true) &&
      !(excludes?.caps?.some((name) => HELD.includes(name)) ?? false),
  );
  return new Set(applying.filter((rule) => rule.action === action).flatMap(({ names }) => names));
}

const named = (texts: Readonly<Record<string, string>>): readonly string[] =>
  Object.values(texts).flatMap((text) => (text.split(":")[0] ?? "").split(" "));
const allowedHere = named(DIFFERENCES.allowed);
const refusedHere = named(DIFFERENCES.refused);

suite("seccomp profile", async () => {
  const profile = await readSeccompProfile();
  const base = await readFile(PROFILE_PATH, "utf8").then(
    (text) => JSON.parse(text) as { readonly syscalls: readonly Rule[] },
    () => null,
  );
  // The profile is among the tools of tests, so where the suite installs them nothing is skipped, and with CI=true a skip fails. Elsewhere there
  // is nothing to compare with.
  const reason = base === null ? `${PROFILE_PATH} is not installed (Debian: golang-github-containers-common)` : false;
  const allowed = namesWith(profile.syscalls, "SCMP_ACT_ALLOW");
  const refused = namesWith(profile.syscalls, "SCMP_ACT_ERRNO");

  test("what it allows, the profile of containers-common allows, but for what is documented", { skip: reason }, () => {
    const theirs = namesWith(base?.syscalls ?? [], "SCMP_ACT_ALLOW");
    assert.deepEqual([...allowed].filter((name) => !theirs.has(name)).sort(), [...allowedHere].sort());
  });

  test("what the profile refuses stays refused, but for what is documented", { skip: reason }, () => {
    const theirs = namesWith(base?.syscalls ?? [], "SCMP_ACT_ERRNO");
    assert.deepEqual(
      [...theirs].filter((name) => allowed.has(name) && !allowedHere.includes(name)),
      [],
    );
  });

  test("what it refuses beyond the profile is documented, and the other way round", { skip: reason }, () => {
    const theirs = namesWith(base?.syscalls ?? [], "SCMP_ACT_ERRNO");
    const more = [...refused].filter((name) => !theirs.has(name)).sort();
    assert.deepEqual(more, [...refusedHere].sort());
  });

  test("a call that is refused whatever its arguments answers EPERM, as with Docker's profile", () => {
    const rules = profile.syscalls.filter(({ action, args }) => action === "SCMP_ACT_ERRNO" && args === undefined);
    assert.deepEqual(new Set(rules.flatMap(({ names }) => names)), refused);
    assert.ok(rules.every(({ errnoRet }) => errnoRet === 1));
  });

  test("calls that are documented as unknown or conditional are not simply allowed or refused", () => {
    for (const name of [...Object.keys(DIFFERENCES.unknown), ...Object.keys(DIFFERENCES.conditional)]) {
      assert.ok(!allowed.has(name) && !refused.has(name), name);
    }
    const conditional = profile.syscalls.filter(({ args }) => args !== undefined).flatMap(({ names }) => names);
    assert.deepEqual([...new Set(conditional)].sort(), Object.keys(DIFFERENCES.conditional).sort());
  });

  test("no rule allows a call for what an argument is not, or for more than its lower half: the kernel does not look at the upper one", () => {
    const comparisons = profile.syscalls
      .filter(({ action }) => action === "SCMP_ACT_ALLOW")
      .flatMap(({ names, args = [] }) => args.map(({ op, value }) => ({ names, op, value })));
    assert.ok(comparisons.length > 10);
    for (const { names, op, value } of comparisons) {
      assert.ok(op === "SCMP_CMP_EQ" || op === "SCMP_CMP_MASKED_EQ", `${names} ${op}`);
      assert.ok(value <= 0xffff_ffff, `${names} ${value}`);
    }
  });

  test("only the native architecture may make system calls", () => {
    assert.equal(profile.architectures.length, 1);
    assert.equal(profile.defaultAction, "SCMP_ACT_ERRNO");
  });
});
