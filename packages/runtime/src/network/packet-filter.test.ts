import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { CaissonError } from "@caisson/model";
import { changePacketFilter } from "./packet-filter.ts";

suite("packet filter", () => {
  const withNft = async (script: string, run: () => Promise<void>): Promise<void> => {
    const directory = await mkdtemp(join(tmpdir(), "caisson-nft-"));
    const path = process.env.PATH;
    await writeFile(join(directory, "nft"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    process.env.PATH = `${directory}:${path}`;
    try {
      await run();
    } finally {
      process.env.PATH = path;
      await rm(directory, { recursive: true });
    }
  };

  test("an nft that crashes on rules of a newer one is an error that says what to do", async () => {
    await withNft("kill -SEGV $$", async () => {
      await assert.rejects(changePacketFilter("table inet x"), (error) => {
        assert.ok(error instanceof CaissonError);
        assert.match(error.message, /killed by SIGSEGV.*newer nft.*Install the newer nftables/);
        return true;
      });
    });
  });

  test("an error that nft reports itself stays as it is", async () => {
    await withNft("echo no such table >&2; exit 1", async () => {
      await assert.rejects(changePacketFilter("table inet x"), /nft ended with code 1: no such table/);
    });
  });
});
