import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatAddress, formatSubnet, overlaps, parseAddress, parseSubnet } from "./address.ts";

suite("IPv4 addresses", () => {
  test("addresses and networks are read and printed", () => {
    assert.equal(parseAddress("10.213.0.1"), 0x0ad50001);
    assert.equal(formatAddress(0xffffff00), "255.255.255.0");
    assert.equal(formatSubnet(parseSubnet("203.0.113.0/24")), "203.0.113.0/24");
    assert.equal(formatSubnet(parseSubnet("192.0.2.7")), "192.0.2.7/32");
  });

  test("what is no address or no first address of a network is refused", () => {
    for (const text of ["10.0.0.256", "10.0.0", "a.b.c.d", "1.2.3.4.5", ""]) {
      assert.throws(() => parseAddress(text), { code: "INVALID_REQUEST" }, text);
    }
    for (const text of ["10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/x", "128.0.0.0/0"]) {
      assert.throws(() => parseSubnet(text), { code: "INVALID_REQUEST" }, text);
    }
  });

  test("networks overlap when one contains the other", () => {
    const cases: readonly (readonly [string, string, boolean])[] = [
      ["10.0.0.0/8", "10.213.2.0/23", true],
      ["10.213.2.0/23", "10.213.3.0/24", true],
      ["10.213.0.0/23", "10.213.2.0/23", false],
      ["192.168.0.0/16", "192.0.2.2", false],
      ["0.0.0.0/0", "203.0.113.0/24", true],
    ];
    for (const [one, other, expected] of cases) {
      assert.equal(overlaps(parseSubnet(one), parseSubnet(other)), expected, `${one} ${other}`);
      assert.equal(overlaps(parseSubnet(other), parseSubnet(one)), expected, `${other} ${one}`);
    }
  });
});
