import { expect, test } from "vitest";
import { clientOf, keyedAddress } from "../../../worker/caller/address.ts";

const SECRET = "s".repeat(32);

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:0DB8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2"],
  ["2001:db8:1:2::", "2001:db8:1:2"],
  ["2001:db8::1", "2001:db8:0:0"],
  ["::1", "0:0:0:0"],
  ["::", "0:0:0:0"],
  ["2001:db8::2:3:4:5:6", "2001:db8:0:2"],
])("%s counts as %s", (address, client) => {
  expect(clientOf(address)).toBe(client);
});

test("the stored form of an address hides it, and is the same only for the same client and secret", async () => {
  const kept = await keyedAddress(SECRET, "2001:db8:1:2::7");
  expect(kept).toMatch(/^[0-9a-f]{32}$/);
  expect(await keyedAddress(SECRET, "2001:DB8:1:2::8")).toBe(kept);
  for (const [secret, address] of [
    [SECRET, "2001:db8:1:3::7"],
    ["t".repeat(32), "2001:db8:1:2::7"],
  ] as const)
    expect(await keyedAddress(secret, address)).not.toBe(kept);
});
