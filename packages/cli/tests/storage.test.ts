import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { formatSize } from "@caisson/model";
import { normalize } from "./support/normalize.ts";
import { runCaisson } from "./support/run-caisson.ts";
import { TestServer } from "./support/test-server.ts";

let server: TestServer;
before(async () => {
  server = await TestServer.start();
});
after(() => server[Symbol.asyncDispose]());

/** What a command printed, with ids and times made the same. */
async function output(...words: readonly string[]) {
  const { stdout, stderr, code } = await server.run(words);
  return { stdout: normalize(stdout), stderr: normalize(stderr), code };
}

test("an empty listing is its titles, and a note on what to do next", async () => {
  assert.deepEqual(await output("volumes", "list"), {
    stdout: "ID  SLUG  REGION  USED  TOTAL  BASE\n",
    stderr: "No volumes. Create one: caisson volumes create NAME --capacity 10GB --region ord\n",
    code: 0,
  });
  assert.deepEqual(await output("snapshots", "ls", "--quiet"), { stdout: "", stderr: "", code: 0 });
  assert.deepEqual(await output("snapshots", "ls", "--json"), {
    stdout: '{"items":[],"org":null}\n',
    stderr: "",
    code: 0,
  });
});

test("the inodes of a volume can be chosen; nonsense is a usage error, too many are told what is possible", async () => {
  const create = ["volumes", "create", "many", "--capacity", "300MB", "--region", "ord", "--inodes"] as const;
  assert.equal((await server.run([...create, "lots"])).code, 2);
  const { code, stderr } = await server.run([...create, "1000000"]);
  assert.equal(code, 2);
  assert.match(stderr, /give a whole number from 1024 to 73242/);
  await server.succeed(...create, "60000");
  const { inodes, usedInodes } = JSON.parse(await server.succeed("volumes", "get", "many", "--json"));
  assert.ok(inodes >= 60_000, `${inodes}`);
  // One more where mkfs makes a file for orphans.
  assert.ok(usedInodes === 11 || usedInodes === 12, `${usedInodes}`);
  await server.succeed("volumes", "delete", "many", "--now");
});

test("the class of a volume is chosen, and refused where there is no pool of it", async () => {
  const create = (slug: string, wanted: string) =>
    output("volumes", "create", slug, "--capacity", "1GB", "--region", "ord", "--class", wanted);
  const refused = await create("far", "replicated");
  assert.equal(refused.stdout, "");
  assert.match(refused.stderr, /has no replicated pool: create the volume with the class "local"/);
  assert.equal((await create("far", "near")).code, 2);
  assert.equal((await create("classed", "local")).code, 0);
  await server.succeed("volumes", "delete", "classed", "--now");
});

test("a volume lives: created, listed, shown, grown, deleted, listed as deleted, restored", async () => {
  const id = await server.succeed(
    "volumes",
    "create",
    "dataset",
    "--capacity",
    "1GB",
    "--region",
    "ord",
    "--label",
    "team=blue",
  );
  assert.match(id, /^vol_ord_[0-9a-hjkmnp-z]{20}$/);
  const made = JSON.parse(await server.succeed("volumes", "get", "dataset", "--json"));
  const { used, allocated, exclusive, usedInodes } = made;
  const size = formatSize(used);
  assert.deepEqual(await output("volumes", "list"), {
    stdout:
      `ID                            SLUG     REGION  ${"USED".padStart(size.length)}       TOTAL  BASE\n` +
      `vol_ord_xxxxxxxxxxxxxxxxxxxx  dataset  ord     ${size}  953.67 MiB  -\n`,
    stderr: "",
    code: 0,
  });
  assert.ok(exclusive > 0 && exclusive <= used, `${exclusive} of ${used}`);
  const shown = await output("volumes", "get", id);
  const measured = /^MEASURED {5}(not yet|2000-01-01 00:00:00\.00, \S+( \S+)? ago)$/m.exec(shown.stdout)?.[1];
  assert.ok(measured !== undefined, shown.stdout);
  assert.deepEqual(shown, {
    stdout: `ID           vol_ord_xxxxxxxxxxxxxxxxxxxx
SLUG         dataset
REGION       ord
CLASS        local
USED         ${size}
ALLOCATED    ${formatSize(allocated)}
EXCLUSIVE    ${formatSize(exclusive)}
MEASURED     ${measured}
TOTAL        953.67 MiB
INODES       ${usedInodes} of 97664 in use
BOOTABLE     FALSE
BASE         -
ATTACHED TO  -
LABELS       team=blue
CREATED      2000-01-01 00:00:00.00
SCHEDULE     -
REPLICATED   -
`,
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("volumes", "grow", "dataset", "2GB"), {
    stdout: "Volume dataset has 1.86 GiB\n",
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("volumes", "rm", "dataset"), {
    stdout: "Deleted volume dataset. To restore it: caisson volumes restore vol_ord_xxxxxxxxxxxxxxxxxxxx\n",
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("volumes", "deleted"), {
    stdout:
      "ID                            SLUG     REGION     TOTAL  RESTORABLE UNTIL\n" +
      "vol_ord_xxxxxxxxxxxxxxxxxxxx  dataset  ord     1.86 GiB  2000-01-01 00:00:00.00\n",
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("volumes", "restore", id, "--slug", "dataset-2"), {
    stdout: "Restored volume dataset-2 (vol_ord_xxxxxxxxxxxxxxxxxxxx)\n",
    stderr: "",
    code: 0,
  });
  assert.equal(await server.succeed("volumes", "list", "--quiet"), id);
  assert.equal(JSON.parse(await server.succeed("volumes", "delete", id, "--json")).id, id);
});

test("what is deleted for good is gone, and what is deleted is purged one by one or together", async () => {
  const create = (slug: string) => server.succeed("volumes", "create", slug, "--capacity", "300MB", "--region", "ord");
  await create("gone");
  assert.deepEqual(await output("volumes", "delete", "gone", "--now"), {
    stdout: "Deleted volume gone for good\n",
    stderr: "",
    code: 0,
  });
  const one = await create("one");
  assert.deepEqual(await output("volumes", "purge", one), {
    stdout: "",
    stderr:
      'error: Cannot purge volume "vol_ord_xxxxxxxxxxxxxxxxxxxx": it is not deleted. Delete it first, or delete it with now=true\n' +
      "hint: List volumes; a deleted one can be restored until its retention is over.\n",
    code: 4,
  });
  await server.succeed("snapshots", "create", "one", "one-v1");
  await server.succeed("volumes", "delete", "one");
  await server.succeed("snapshots", "delete", "one-v1", "--now");
  assert.equal(await server.succeed("volumes", "purge", one), `Purged volume ${one}`);
  await create("two");
  const snapshot = await server.succeed("snapshots", "create", "two", "two-v1");
  const two = await server.succeed("volumes", "delete", "two", "--json");
  await server.succeed("snapshots", "delete", "two-v1");
  const { stderr, code } = await server.run(["purge"]);
  assert.equal(code, 2);
  for (const name of [JSON.parse(two).id, snapshot, "--yes"]) assert.ok(stderr.includes(name), stderr);
  assert.match(await server.succeed("purge", "--yes"), /^Purged \d+ volumes and snapshots$/);
  assert.equal(await server.succeed("purge", "--yes"), "Purged 0 volumes and snapshots");
  assert.equal(await server.succeed("volumes", "deleted", "--quiet"), "");
  assert.equal(await server.succeed("snapshots", "deleted", "--quiet"), "");
});

test("the pool shows what it holds, in a table and in bytes, and says why it does not grow", async () => {
  const table = await server.succeed("df");
  for (const what of ["volumes", "deleted", "built-in images", "scratch disks", "available", "headroom", "total"])
    assert.match(table, new RegExp(`^ord +${what} +[\\d.]+ \\w+`, "m"));
  const [pool] = JSON.parse(await server.succeed("df", "--json")).items;
  assert.equal(pool.retentionFloorHours, 1);
  assert.ok(pool.available > 0 && pool.used + pool.free === pool.total, JSON.stringify(pool));
  const { stderr, code } = await server.run(["pool", "grow"]);
  assert.deepEqual([code, /name no size for it\. Set "size" under \[pool\]/.test(stderr)], [2, true], stderr);
  assert.match(stderr, /^hint: Correct the option or setting that the message names\.$/m);
});

test("a capacity without a unit is in bytes", async () => {
  await server.succeed("volumes", "create", "bytes", "--capacity", "300000000", "--region", "ord");
  const { capacity } = JSON.parse(await server.succeed("volumes", "get", "bytes", "--json"));
  assert.equal(capacity, 300_000_000);
  await server.succeed("volumes", "delete", "bytes");
});

test("snapshots and volumes made from them form a tree", async () => {
  await server.succeed("volumes", "new", "root", "--capacity", "2GB", "--region", "ord", "--from", "builtin:debian-13");
  const snapshot = await server.succeed("volumes", "snapshot", "root", "root-v1");
  assert.match(snapshot, /^snp_ord_/);
  await server.succeed("snapshots", "create", "root", "root-v2");
  await server.succeed("volumes", "create", "clone", "--capacity", "2GB", "--region", "ord", "--from", "root-v1");
  assert.deepEqual(await output("snapshots", "tree"), {
    stdout: `builtin:debian-13  image
└── root  volume vol_ord_xxxxxxxxxxxxxxxxxxxx
    ├── root-v1  snapshot snp_ord_xxxxxxxxxxxxxxxxxxxx
    │   └── clone  volume vol_ord_xxxxxxxxxxxxxxxxxxxx
    └── root-v2  snapshot snp_ord_xxxxxxxxxxxxxxxxxxxx
`,
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("snapshots", "tree", "root-v1"), {
    stdout: `root-v1  snapshot snp_ord_xxxxxxxxxxxxxxxxxxxx
└── clone  volume vol_ord_xxxxxxxxxxxxxxxxxxxx
`,
    stderr: "",
    code: 0,
  });
  const { used, allocated } = JSON.parse(await server.succeed("snapshots", "get", "root-v1", "--json"));
  const [owned, all] = [formatSize(allocated), formatSize(used)];
  const flattened = Math.max("FLATTENED".length, all.length);
  assert.deepEqual(await output("snapshots", "list", "v1"), {
    stdout:
      `ID                            SLUG     REGION  ALLOCATED  BOOTABLE  ${"FLATTENED".padStart(flattened)}  BASE\n` +
      `snp_ord_xxxxxxxxxxxxxxxxxxxx  root-v1  ord     ${owned.padStart(9)}  TRUE      ${all.padStart(flattened)}  root\n`,
    stderr: "",
    code: 0,
  });
  assert.deepEqual(await output("snapshots", "delete", "root-v2"), {
    stdout: "Deleted snapshot root-v2. To restore it: caisson snapshots restore snp_ord_xxxxxxxxxxxxxxxxxxxx\n",
    stderr: "",
    code: 0,
  });
  const deleted = await server.succeed("snapshots", "deleted", "--quiet");
  assert.equal(
    normalize(await server.succeed("snapshots", "restore", deleted)),
    "Restored snapshot root-v2 (snp_ord_xxxxxxxxxxxxxxxxxxxx)",
  );
});

test("errors say what to do next, and their exit codes tell their kinds", async () => {
  await server.succeed("volumes", "create", "errors", "--capacity", "300MB", "--region", "ord");
  const notFound = { stdout: "", code: 4 };
  assert.deepEqual(await output("volumes", "get", "erorrs"), {
    ...notFound,
    stderr: 'error: There is no volume "erorrs"\nhint: Did you mean errors?\n',
  });
  assert.deepEqual(await output("volumes", "snapshot", "errrors", "x1"), {
    ...notFound,
    stderr: 'error: There is no volume "errrors"\nhint: Did you mean errors?\n',
  });
  assert.deepEqual(await output("snapshots", "delete", "unlike-any"), {
    ...notFound,
    stderr:
      'error: There is no snapshot "unlike-any"\n' +
      "hint: List them: caisson snapshots list; deleted ones: caisson snapshots deleted.\n",
  });
  // Near enough to `errors` to be suggested, which would be deleted by whoever follows that.
  await server.succeed("volumes", "snapshot", "errors", "errors-1");
  const isSnapshot = 'error: "errors-1" is a snapshot, not a volume\n';
  const isVolume = 'error: "errors" is a volume, not a snapshot\n';
  const seeSnapshot =
    "hint: See it: caisson snapshots get errors-1; what can be done with it: caisson snapshots --help.\n";
  const seeVolume = "hint: See it: caisson volumes get errors; what can be done with it: caisson volumes --help.\n";
  const crossed: readonly (readonly [stderr: string, ...words: string[]])[] = [
    [isSnapshot + seeSnapshot, "volumes", "delete", "errors-1"],
    [isSnapshot + seeSnapshot, "volumes", "get", "errors-1"],
    [isSnapshot + seeSnapshot, "volumes", "grow", "errors-1", "1GB"],
    [isSnapshot + seeSnapshot, "volumes", "snapshot", "errors-1", "x1"],
    [isVolume + seeVolume, "snapshots", "delete", "errors"],
    [isVolume + seeVolume, "snapshots", "export", "errors", "-"],
    [
      `${isVolume}hint: Make a snapshot of it first: caisson volumes snapshot errors NAME\n`,
      ...["volumes", "create", "y1", "--capacity", "300MB", "--region", "ord", "--from", "errors"],
    ],
  ];
  for (const [stderr, ...words] of crossed) assert.deepEqual(await output(...words), { ...notFound, stderr });
  const taken = await output("volumes", "create", "errors", "--capacity", "300MB", "--region", "ord", "--json");
  assert.equal(taken.code, 5);
  const { code, hint, traceId } = JSON.parse(taken.stderr).error;
  assert.deepEqual(
    { code, hint },
    { code: "SLUG_ALREADY_IN_USE", hint: "Choose another slug, or delete the object that has it." },
  );
  assert.match(traceId, /^[0-9a-f-]{36}$/);
  assert.equal((await output("volumes", "create", "small", "--capacity", "1MB", "--region", "ord")).code, 2);
});

test("the options stand before or after the command's name, and the innermost wins", async () => {
  const before = await output("--json", "orgs", "list");
  const behind = await output("orgs", "list", "--json");
  assert.deepEqual(before, behind);
  const { items } = JSON.parse(before.stdout);
  assert.deepEqual(
    items.map(({ slug }: { slug: string }) => slug),
    ["default"],
  );
  assert.equal((await output("--org", "nobody", "orgs", "list")).code, 3);
  assert.equal((await output("--org", "nobody", "orgs", "list", "--org", "default")).code, 0);
  assert.deepEqual(await output("--token", "x", "doctor"), {
    stdout: "",
    stderr: "error: Option '--token' has no meaning for 'caisson doctor'\n",
    code: 2,
  });
});

test("a node is listed, shown and drained, and gets sandboxes again", async () => {
  const listed = await server.run(["nodes", "list"]);
  assert.match(
    normalize(listed.stdout),
    /^ID +STATE +SANDBOXES +MEMORY +REGIONS +ADDRESS +SEEN\nnod_x{20} +live +0 of \d+ +0 MiB +ord +\S+ +\S+ ago\n$/,
  );
  const id = await server.succeed("nodes", "list", "--quiet");
  const shown = await server.succeed("nodes", "show", id);
  assert.match(
    shown,
    new RegExp(
      `^ID +${id}\\nSTATE +live\\nDRAINING +no\\nCONNECTED +yes\\n[\\s\\S]*FREE +ord [\\d.]+ \\w+\\n[\\s\\S]*GENERATION +1\\n`,
    ),
  );
  const { id: found, draining, memoryMib } = JSON.parse(await server.succeed("nodes", "get", id, "--json"));
  assert.deepEqual([found, draining, memoryMib], [id, false, null]);
  assert.deepEqual(await server.run(["nodes", "drain", id]), {
    stdout: `Node ${id} takes no new sandboxes; it has 0\n`,
    stderr: `Wait for their end: caisson nodes show ${id}\n`,
    code: 0,
  });
  const refused = await server.run(["create", "--timeout", "5m"]);
  assert.equal(refused.stdout, "");
  assert.match(refused.stderr, new RegExp(`it is being drained.*caisson nodes undrain ${id}`));
  assert.equal((await server.run(["nodes", "undrain", id])).stdout, `Node ${id} takes new sandboxes\n`);
  const sandbox = await server.succeed("create", "--timeout", "5m");
  assert.match(await server.succeed("list", "--nodes"), new RegExp(`^ID .*NODE\\n${sandbox} .*${id}$`, "m"));
  assert.doesNotMatch(await server.succeed("list"), /NODE/);
  await server.succeed("kill", sandbox);
  const moved = await server.run(["nodes", "set-address", id, "10.0.0.9:8485"]);
  assert.match(moved.stderr, /^error: Node nod_\w+ is in the process of a server/);
  const forget = await server.run(["nodes", "forget", id]);
  assert.deepEqual([forget.stdout, forget.code], ["", 5]);
  assert.match(forget.stderr, /^error: Cannot forget node nod_\w+: this server is that node\./);
  await server.succeed("volumes", "create", "on-node", "--capacity", "300MB", "--region", "ord");
  const asked = await server.run(["nodes", "forget", id, "--lost"]);
  assert.deepEqual([asked.stdout, asked.code], ["", 2]);
  assert.match(
    asked.stderr,
    new RegExp(
      `This would forget node ${id} with \\d+ volumes? \\(.*default/on-node.*not replicated, and 0 sandboxes .*Add --yes`,
      "s",
    ),
  );
  const given = await server.run(["nodes", "forget", id, "--lost", "--yes"]);
  assert.deepEqual([given.stdout, given.code], ["", 5]);
  assert.match(given.stderr, /this server is that node/);
  assert.equal((await server.run(["nodes", "forget", id, "--yes"])).code, 2);
  await server.succeed("volumes", "delete", "on-node", "--now");
  assert.equal((await server.run(["nodes", "show", "nod_absent"])).code, 4);
});

test("the authority of nodes is shown, renewed and retired, and what would lock nodes out changes nothing", async () => {
  const authority = (...words: string[]) => server.run(["nodes", "authority", ...words]);
  await server.succeed("nodes", "tokens", "create");
  assert.match(
    await server.succeed("nodes", "authority", "show"),
    /^AUTHORITY +1, until .*\nFINGERPRINT +[0-9a-f]{64}\nLOCKED OUT +-$/,
  );
  const early = await authority("retire");
  assert.deepEqual([early.code, early.stdout], [2, ""]);
  assert.match(early.stderr, /no two authorities.*caisson nodes authority renew/);
  const renewed = await authority("renew");
  assert.equal(renewed.stdout, "Made authority 2, which each node gets a certificate of\n");
  assert.match(renewed.stderr, /back the database up now.*\n.*caisson nodes authority show/);
  const shown = await authority("show");
  assert.match(shown.stdout, /^OLD AUTHORITY +1, until .*\nNEW AUTHORITY +2, until .*WAITS FOR +-\n$/s);
  assert.match(shown.stderr, /Each node has a certificate.*caisson nodes authority retire/);
  assert.equal((await authority("renew")).code, 2);
  assert.equal((await authority("retire")).stdout, "Retired authority 1\n");
  assert.deepEqual(JSON.parse(await server.succeed("nodes", "tokens", "list", "--json")).items, []);

  const fingerprint = "ab".repeat(32);
  const one = { number: 1, fingerprint, expires_at: "2036-01-30T18:33:40.790Z" };
  const answer = { authorities: [one, { ...one, number: 2 }], waiting_nodes: ["nod_a", "nod_b"] };
  const asked: string[] = [];
  const api = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.setHeader("content-type", "application/json").end(JSON.stringify(answer));
  });
  await once(api.listen(0, "127.0.0.1"), "listening");
  const environment = {
    ...server.environment,
    CAISSON_ENDPOINT: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
  };
  const refused = await runCaisson(["nodes", "authority", "retire"], environment);
  assert.deepEqual([refused.code, refused.stdout], [2, ""]);
  assert.match(refused.stderr, /would lock out 2 nodes \(nod_a, nod_b\) until they join again.*or add --yes/s);
  assert.deepEqual(asked, ["GET /api/v1/nodes/authority"]);
  assert.equal((await runCaisson(["nodes", "authority", "retire", "--yes"], environment)).code, 0);
  assert.equal(asked.at(-1), "POST /api/v1/nodes/authority/retire");
  api.closeAllConnections();
  api.close();
});

test("a token for joining that is sent in the clear is warned of, and one for this machine is not", async () => {
  const joining = ["nodes", "tokens", "create", "--expires", "15m"];
  const local = await server.run(joining);
  assert.match(local.stdout, /^cjt_\S+\n$/);
  assert.equal(local.stderr, "On the machine that joins, as root: caisson up --role node --join TOKEN\n");
  for (const [url, isWarned] of [
    ["http://10.0.0.1:8484", true],
    ["http://127.example.com", true],
    ["http://localhost.example.com", true],
    ["https://10.0.0.1:8484", false],
    ["http://127.0.0.2:8484", false],
    ["http://[::1]:8484", false],
    ["http://caisson.localhost", false],
  ] as const) {
    const answer = { id: "jtk_a", token: "cjt_x", server_url: url, region: null, node_id: null };
    const api = createServer((_request, response) => {
      response.setHeader("content-type", "application/json").end(JSON.stringify(answer));
    });
    await once(api.listen(0, "127.0.0.1"), "listening");
    const { port } = api.address() as AddressInfo;
    const environment = { ...server.environment, CAISSON_ENDPOINT: `http://127.0.0.1:${port}` };
    const { stdout, stderr } = await runCaisson(joining, environment);
    api.closeAllConnections();
    api.close();
    assert.equal(stdout, "cjt_x\n");
    assert.equal(stderr.includes(`warning: the machine sends this token to ${url} in the clear`), isWarned, url);
  }
});

test("organizations have tokens of their own, and a revoked one is refused", async () => {
  assert.equal(normalize(await server.succeed("orgs", "create", "acme")), "org_xxxxxxxxxxxxxxxxxxxx");
  const created = JSON.parse(await server.succeed("tokens", "create", "ci", "--for", "acme", "--json"));
  assert.match(created.token, /^ddo_/);
  const asAcme = (...words: readonly string[]) => server.run([...words, "--token", created.token]);
  assert.equal(
    normalize((await asAcme("tokens", "list")).stdout),
    `ID                        NAME  CREATED
tok_xxxxxxxxxxxxxxxxxxxx  ci    2000-01-01 00:00:00.00
`,
  );
  assert.equal((await asAcme("volumes", "list", "--quiet")).stdout, "");
  assert.deepEqual(await asAcme("tokens", "revoke", "ci"), {
    stdout: "",
    stderr: `error: There is no token "ci"\nhint: Did you mean ${created.id}?\n`,
    code: 4,
  });
  const spare = JSON.parse((await asAcme("tokens", "create", "spare", "--json")).stdout);
  const rotated = JSON.parse((await asAcme("tokens", "rotate", spare.id, "--json")).stdout);
  assert.deepEqual([rotated.name, rotated.id === spare.id, rotated.token === spare.token], ["spare", false, false]);
  assert.equal((await asAcme("tokens", "revoke", created.id)).stdout, `Revoked token ${created.id}\n`);
  assert.deepEqual(await asAcme("volumes", "list"), {
    stdout: "",
    stderr:
      "error: The token is not valid, or it was revoked\n" +
      "hint: Pass a token that `caisson tokens create` or `caisson env` printed.\n",
    code: 3,
  });
});
