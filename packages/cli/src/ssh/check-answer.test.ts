import assert from "node:assert/strict";
import { test } from "node:test";
import { checkEndpoint } from "./check-answer.ts";
import { hostText } from "./ssh-files.ts";

const GOOD = {
  hostname: "sandboxes.example.com",
  port: 2222,
  hostKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzUhsuTwrNdULVDEFTqstSYQQmA1LH5FNfmQzR4k8u0",
  fingerprint: "SHA256:tAGXoSG43l03+z3BE5WhKTnOKt9p94i/PY4w8oqkkZQ",
};

test("what a server says about SSH adds no lines to OpenSSH's files and leaves their directory never", () => {
  for (const hostname of ["127.0.0.1", "::1", "2001:db8::1", "host"]) checkEndpoint({ ...GOOD, hostname });
  const bad = [
    { hostname: "x\n  ProxyCommand touch /tmp/owned" },
    { hostname: "../../../.ssh/authorized_keys" },
    { hostname: "-oProxyCommand=x" },
    { hostname: "" },
    { port: Number.NaN },
    { port: 65_536 },
    { hostKey: `${GOOD.hostKey}\n* ${GOOD.hostKey}` },
    { fingerprint: "SHA256:x\nProxyCommand x" },
  ];
  for (const change of bad)
    assert.throws(() => checkEndpoint({ ...GOOD, ...change }), { code: "INVALID_ANSWER" }, JSON.stringify(change));
});

test("a user name or an id with a line break becomes no option", () => {
  assert.throws(() => hostText(["caisson"], { User: "a\n  ProxyCommand x" }), { code: "INVALID_ANSWER" });
  assert.throws(() => hostText(["a\nHost *"], { User: "a" }), { code: "INVALID_ANSWER" });
});
