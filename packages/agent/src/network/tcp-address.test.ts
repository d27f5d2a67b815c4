import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTcpAddress } from "./tcp-address.ts";

test("an address of /proc/net/tcp becomes one to connect to", () => {
  const cases: readonly (readonly [text: string, hostname: string, port: number])[] = [
    ["0100007F:1F90", "127.0.0.1", 8080],
    ["00000000:0050", "127.0.0.1", 80],
    ["0A01A8C0:FFFF", "192.168.1.10", 65535],
    ["00000000000000000000000000000000:0BB8", "127.0.0.1", 3000],
    ["00000000000000000000000001000000:0BB8", "0:0:0:0:0:0:0:1", 3000],
    ["0000000000000000FFFF00000100007F:1F90", "127.0.0.1", 8080],
    ["B80D01200000000067452301EFCDAB89:1F90", "2001:db8:0:0:123:4567:89ab:cdef", 8080],
  ];
  for (const [text, hostname, port] of cases) {
    assert.deepEqual(parseTcpAddress(text), { transport: "tcp", hostname, port }, text);
  }
});
