import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, suite, test } from "node:test";
import { testTimeoutMs } from "@caisson/linux/testing";
import { FaultPlan } from "../../../../tests/support/fault-plan.ts";
import { PreviewAuthority } from "./preview-authority.ts";

const DOMAIN = "caisson.localhost";
const MODULE = join(import.meta.dirname, "preview-authority.ts");
const OPEN = `const { PreviewAuthority } = await import(${JSON.stringify(MODULE)}); await PreviewAuthority.open(process.argv[1], ${JSON.stringify(DOMAIN)});`;

suite("the authority of previews", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "caisson-authority-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  /** Opens it in a process of its own. */
  async function openElsewhere(place: string, plan: FaultPlan): Promise<NodeJS.Signals | null> {
    const child = spawn(process.execPath, ["--input-type=module", "--eval", OPEN, place], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, ...plan.env },
    });
    const [, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return signal;
  }

  /** What it signs is trusted by those who trust the certificate that lies there. */
  async function assertWhole(place: string): Promise<void> {
    const authority = await PreviewAuthority.open(place, DOMAIN);
    const { cert } = await authority.issue();
    const trusted = new X509Certificate(await readFile(join(place, "authority.pem"), "utf8"));
    assert.ok(new X509Certificate(cert).verify(trusted.publicKey));
    assert.ok((await readFile(join(place, "trust.pem"), "utf8")).includes(trusted.toString().trim()));
    assert.equal((await stat(join(place, "authority-key.pem"))).mode & 0o777, 0o600);
    await PreviewAuthority.open(place, DOMAIN);
    const kept = await readFile(join(place, "authority.pem"), "utf8");
    assert.equal(new X509Certificate(kept).fingerprint256, trusted.fingerprint256, "the next start keeps it");
  }

  test("killed anywhere in the making of it, the next start has a whole one", {
    timeout: testTimeoutMs(120_000),
  }, async () => {
    const plan = new FaultPlan(directory);
    await plan.reset();
    assert.equal(await openElsewhere(join(directory, "traced"), plan), null);
    const points = await plan.passed();
    assert.ok(points.length >= 8, "four files, each before and after it has its name");
    for (const [index, point] of points.entries()) {
      const place = join(directory, `killed-${index}`);
      await plan.at([point], "kill");
      assert.equal(await openElsewhere(place, plan), "SIGKILL", `${point.tag} ${point.occurrence}`);
      await assertWhole(place);
    }
  });

  test("a damaged key, or that of another certificate, is refused with what to do, and its removal is that", async () => {
    await PreviewAuthority.open(directory, DOMAIN);
    const path = join(directory, "authority-key.pem");
    const whole = await readFile(path, "utf8");
    const other = join(directory, "other");
    await PreviewAuthority.open(other, DOMAIN);
    const [, otherKey = ""] = (await readFile(join(other, "authority-key.pem"), "utf8")).split(
      /(?<=END CERTIFICATE-----\n)/,
    );
    const [cert = ""] = whole.split(/(?<=END CERTIFICATE-----\n)/);
    for (const text of [
      "",
      whole.slice(0, -40),
      cert,
      whole.replace("CERTIFICATE", "NONSENSE"),
      `${cert}${otherKey}`,
    ]) {
      await writeFile(path, text);
      await assert.rejects(PreviewAuthority.open(directory, DOMAIN), {
        code: "INVALID_CONFIG",
        message:
          /authority-key\.pem: it is damaged \(.*\)\. Remove that file, and the next start makes a new authority/s,
      });
    }
    await rm(path);
    await assertWhole(directory);
  });
});
