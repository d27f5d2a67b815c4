import assert from "node:assert/strict";
import { test } from "node:test";
import { TransferPlaces } from "./transfer-places.ts";

test("an organization has so many transfers, all together have so many, and each place is given back once", () => {
  const places = new TransferPlaces({ max: 3, maxPerOrganization: 2 });
  const first = places.take("a");
  places.take("a");
  assert.throws(() => places.take("a"), {
    code: "TOO_MANY_TRANSFERS",
    message: /of the organization are under way, and 2/,
  });
  places.take("b");
  assert.throws(() => places.take("c"), { code: "TOO_MANY_TRANSFERS", message: /3 exports and imports are under way/ });
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  places.take("c");
  assert.throws(() => places.take("b"), { code: "TOO_MANY_TRANSFERS" });
});
