import assert from "node:assert/strict";
import { test } from "node:test";
import { hasRoom } from "./egress-proxy.ts";

test("eight sandboxes with all the connections that each may have leave half of the proxy's to others", () => {
  const own = Array.from({ length: 8 }, () => 0);
  const connect = (index: number): boolean => {
    const sockets = own[index] ?? 0;
    const connections = own.reduce((sum, count) => sum + count / 2, 0);
    if (sockets >= 512 || !hasRoom(connections + 1, sockets)) return false;
    own[index] = sockets + 2;
    return true;
  };
  for (let round = 0; round < 256; round += 1) for (let index = 0; index < 8; index += 1) connect(index);
  const taken = own.reduce((sum, count) => sum + count / 2, 0);
  assert.equal(taken, 2048);
  own.push(0);
  for (let count = 0; count < 32; count += 1) assert.ok(connect(8), "one that has few gets some");
  assert.equal(connect(8), false, "and no more than that while there are so many");
  assert.equal(connect(0), false);
});
