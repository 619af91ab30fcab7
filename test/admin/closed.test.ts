import { expect, test } from "vitest";
import { frontDoor, SECRETS } from "./front-door.ts";

const door = frontDoor({ without: ["ADMIN_TOKEN"] });

test("without an admin token the admin API is closed to everybody", async () => {
  for (const token of [SECRETS.ADMIN_TOKEN, "x", "undefined", "null"]) {
    expect(await door.refusal("GET", "/services", undefined, { token }), token).toBe("401 unknown");
  }
  expect(await door.refusal("GET", "/services", undefined, { token: null })).toBe("401 missing");
});
