import { afterAll, expect, test } from "vitest";
import { AUDIENCE, startTeam } from "./access-team.ts";
import { frontDoor, SECRETS } from "./front-door.ts";

const team = await startTeam();
afterAll(() => team.close());
const door = frontDoor({
  without: ["ADMIN_TOKEN"],
  vars: { ACCESS_TEAM_DOMAIN: team.issuer, ACCESS_AUD: AUDIENCE },
});

test("without ADMIN_TOKEN the admin API rejects every token and every Access assertion", async () => {
  for (const token of [SECRETS.ADMIN_TOKEN, "x", "undefined", "null"]) {
    expect(await door.refusal("GET", "/services", undefined, { token }), token).toBe("401 unknown");
  }
  expect(await door.refusal("GET", "/services", undefined, { token: null })).toBe("401 missing");
  await door.rows(
    "INSERT INTO operators (id, name, email, role, created_at, created_by) VALUES ('o', 'day-shift', 'day-shift@example.com', 'admin', 1, 'admin') RETURNING id",
  );
  const headers = { "cf-access-jwt-assertion": await team.assertion({ email: "day-shift@example.com" }) };
  expect(await door.refusal("GET", "/services", undefined, { token: null, headers })).toBe("401 unknown");
});
