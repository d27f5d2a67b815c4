import assert from "node:assert/strict";
import { suite, test } from "node:test";
import fc from "fast-check";
import { hostPlaces, PROCESSES_EACH_MIN } from "./host-places.ts";
import { HostShares } from "./host-shares.ts";

const setting = "kernel.pid_max";

suite("places of a host", () => {
  test("are as many as are wanted where there are addresses and process ids for them", () => {
    assert.deepEqual(hostPlaces(1000, 1004, { total: 3_670_016, setting }), { count: 1000, bound: null });
  });

  test("are fewer where one of the two is missing, and it is named with its setting", () => {
    const fewProcesses = hostPlaces(1000, 1004, { total: 28_672, setting });
    assert.equal(fewProcesses.count, 448);
    assert.match(fewProcesses.bound ?? "", /process ids for 448 \(kernel\.pid_max\)/);
    const fewAddresses = hostPlaces(1000, 502, { total: 3_670_016, setting });
    assert.equal(fewAddresses.count, 502);
    assert.match(fewAddresses.bound ?? "", /addresses for 502; network\.subnet/);
  });

  test("guarantee each of them the processes that an agent needs", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3765 }), fc.integer({ min: 64, max: 2 ** 22 }), (wanted, total) => {
        const { count } = hostPlaces(wanted, wanted, { total, setting });
        assert.ok(count >= 1 && count <= wanted);
        assert.ok(new HostShares(total, count).guaranteed >= PROCESSES_EACH_MIN);
        if (count < wanted) assert.ok(new HostShares(total, count + 1).guaranteed < PROCESSES_EACH_MIN);
      }),
    );
  });
});
