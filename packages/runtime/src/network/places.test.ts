import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { overlaps, parseAddress, parseSubnet, type Subnet } from "./address.ts";
import {
  BLOCK_COUNT,
  type Block,
  blocksFor,
  firstHostIdOf,
  IDS_PER_SANDBOX,
  networksFor,
  PLACES_PER_BLOCK,
  parseSandboxSubnet,
  slotsOf,
} from "./places.ts";

const PLACES_MAX = BLOCK_COUNT * PLACES_PER_BLOCK;
/** What systemd gives away begins there: the ids of foreign images (its UIDS-GIDS.md). */
const FOREIGN_IDS = 0x7ffe0000;

const numbers = fc.uniqueArray(fc.nat(BLOCK_COUNT - 1), { minLength: 1, maxLength: BLOCK_COUNT });
/** Networks that a host may use: any, and many beside those that sandboxes get. */
const hostNetworks = fc.array(
  fc
    .tuple(
      fc.oneof(
        fc.constantFrom("10.213.0.0", "10.213.7.0", "172.30.208.0", "192.168.208.0", "10.0.0.0").map(parseAddress),
        fc.nat(2 ** 32 - 1),
      ),
      fc.integer({ min: 8, max: 32 }),
    )
    .map(([address, prefixLength]) => ({
      base: address - (address % 2 ** (32 - prefixLength)),
      prefixLength,
    })),
  { maxLength: 8 },
);
const subnets = fc
  .tuple(fc.nat(2 ** 32 - 1), fc.integer({ min: 16, max: 24 }))
  .map(([address, prefixLength]) => ({ base: address - (address % 2 ** (32 - prefixLength)), prefixLength }));

/** As one server would get them, where no other one is. */
function blocksOf(
  order: readonly number[],
  subnet: Subnet | null,
  used: readonly Subnet[] = [],
): readonly (Block & { readonly number: number })[] {
  const taken = new Set<number>();
  return order.flatMap((number) => {
    const network = networksFor(number, subnet, used).find(({ base }) => !taken.has(base));
    if (network === undefined) return [];
    taken.add(network.base);
    return [{ network, firstHostId: firstHostIdOf(number), number }];
  });
}

suite("places of sandboxes", () => {
  test("no two have an address or an id in common, whatever blocks a server has", () => {
    fc.assert(
      fc.property(numbers, fc.option(subnets), fc.integer({ min: 1, max: PLACES_MAX }), (order, subnet, count) => {
        const slots = slotsOf(blocksOf(order, subnet), count);
        assert.equal(new Set(slots.map(({ address }) => address)).size, slots.length);
        assert.equal(new Set(slots.map(({ index }) => index)).size, slots.length);
        const ids = slots.map((slot) => slot.ids).sort((one, other) => one.firstHostId - other.firstHostId);
        for (const [index, { firstHostId, count: idCount }] of ids.entries()) {
          assert.equal(idCount, IDS_PER_SANDBOX);
          const end = ids[index + 1]?.firstHostId ?? FOREIGN_IDS;
          assert.ok(firstHostId + idCount <= end, `${firstHostId}`);
        }
      }),
    );
  });

  test("each keeps its address and ids when there are more places and more blocks behind it", () => {
    fc.assert(
      fc.property(numbers, fc.nat(PLACES_MAX), fc.nat(PLACES_MAX), (order, one, other) => {
        const blocks = blocksOf(order, null);
        const [fewer, more] = [Math.min(one, other), Math.max(one, other)];
        assert.deepEqual(slotsOf(blocks.slice(0, blocksFor(fewer)), fewer), slotsOf(blocks, more).slice(0, fewer));
      }),
    );
  });

  test("the first 251 of a host are where they have always been", () => {
    const slots = slotsOf(blocksOf([0], null), PLACES_PER_BLOCK);
    assert.deepEqual(slots[0], { index: 0, ids: { firstHostId: 0x70000000, count: 65536 }, address: "10.213.0.4" });
    assert.equal(slots.at(-1)?.address, "10.213.0.254");
    assert.equal(slotsOf(blocksOf([0, 1], null), 252).at(-1)?.address, "10.213.1.4");
    assert.deepEqual(
      [1, 251, 252, 1000, 1004, 1005].map((count) => blocksFor(count)),
      [1, 1, 2, 4, 4, 5],
    );
  });

  test("none has an address of a network that the host uses, nor the first or last of its own, nor one of a name server", () => {
    fc.assert(
      fc.property(numbers, hostNetworks, (order, used) => {
        const blocks = blocksOf(order, null, used);
        for (const { address } of slotsOf(blocks, PLACES_MAX)) {
          assert.ok(!used.some((network) => overlaps(network, parseSubnet(address))), address);
          const last = parseAddress(address) % 256;
          assert.ok(last > 3 && last < 255, address);
        }
      }),
    );
  });

  test("a server gets the networks that it wants unless the host uses those of each kind", () => {
    const everything = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(parseSubnet);
    assert.deepEqual(blocksOf([0], null, everything), []);
    for (const free of everything) {
      const used = everything.filter((network) => network !== free);
      const blocks = blocksOf([0, 7, 14], null, used);
      assert.equal(blocks.length, 3);
      assert.ok(blocks.every(({ network }) => overlaps(network, free)));
    }
  });

  test("a network that the settings name is cut into blocks, and one that is none is refused with what to give", () => {
    const blocks = blocksOf([3, 4, 5, 6, 7], parseSandboxSubnet("10.99.0.0/22"));
    assert.deepEqual(
      slotsOf(blocks, PLACES_MAX)
        .filter((_, index) => index % PLACES_PER_BLOCK === 0)
        .map(({ address }) => address),
      ["10.99.0.4", "10.99.1.4", "10.99.2.4", "10.99.3.4"],
    );
    for (const text of ["10.99.0.0/25", "10.0.0.0/8", "10.99.1.0/22", "nonsense", ""]) {
      assert.throws(() => parseSandboxSubnet(text), {
        code: "INVALID_CONFIG",
        message: /network\.subnet.*10\.99\.0\.0\/22/,
      });
    }
  });
});
