import assert from "node:assert/strict";
import { test } from "node:test";
import { bodyEncoder, revealBody, revealHeaders, revealPath } from "./reveal.ts";

const secrets = [{ placeholder: "caisson-secret-x", value: 'é"/&$&', hosts: ["a.test"] }];
const latin1 = Buffer.from('é"/&$&').toString("latin1");

test("header values are revealed, names and the host are not", () => {
  assert.deepEqual(
    revealHeaders(["Host", "caisson-secret-x", "caisson-secret-x", "Bearer caisson-secret-x"], secrets),
    ["Host", "caisson-secret-x", "caisson-secret-x", `Bearer ${latin1}`],
  );
});

test("values are written as the place needs them, and bytes around them stay as they are", () => {
  assert.equal(revealPath("/?k=caisson-secret-x&l=1", secrets), `/?k=${encodeURIComponent('é"/&$&')}&l=1`);
  const json = bodyEncoder("application/json; charset=utf-8");
  assert.ok(json !== null);
  const body = Buffer.concat([Buffer.from('{"k":"caisson-secret-x","r":"'), Buffer.from([0xff]), Buffer.from('"}')]);
  const revealed = revealBody(body, secrets, json);
  assert.deepEqual(
    revealed,
    Buffer.concat([Buffer.from('{"k":"é\\"/&$&","r":"'), Buffer.from([0xff]), Buffer.from('"}')]),
  );
  assert.equal(bodyEncoder("application/octet-stream"), null);
  assert.equal(bodyEncoder(""), null);
});
