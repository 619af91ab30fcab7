import { afterEach, expect, test } from "vitest";
import { jsonOf, portico, rowsOf } from "./command.ts";
import { refusal, type Scripted, scripted } from "./scripted.ts";

const OPERATOR = {
  id: "E4dgaUqyAu0O",
  name: "night-shift",
  role: "ops",
  email: null,
  state: "active",
  expires_at: null,
  last_used_at: "2027-01-31T10:00:00.000Z",
};
const TOKEN = "pto_live_made_now";

let api: Scripted;
const ask = (...args: string[]) => portico(args, { url: api.url, token: "t" });
const writes = () => api.heard.filter(({ call }) => !call.startsWith("GET")).map(({ call, body }) => [call, body]);

async function start(): Promise<void> {
  api = await scripted(({ call, body }) => {
    if (call === "GET /admin/v1/operators/night-shift") return refusal(404, { message: "No.", code: "not_found" });
    if (call.startsWith("GET /admin/v1/operators?")) return { body: { data: [OPERATOR], next_cursor: null } };
    if (call === "POST /admin/v1/operators")
      return { status: 201, body: { ...OPERATOR, ...(body as object), token: TOKEN } };
    if (call === `POST /admin/v1/operators/${OPERATOR.id}/rotate`)
      return { status: 201, body: { ...OPERATOR, token: TOKEN } };
    if (call === `PATCH /admin/v1/operators/${OPERATOR.id}`) return { body: { ...OPERATOR, ...(body as object) } };
    if (call === `DELETE /admin/v1/operators/${OPERATOR.id}`) return { status: 204 };
    return refusal(404, { message: "No.", code: "not_found" });
  });
}
afterEach(() => api.stop());

test("operators are listed, created, given a role, rotated and revoked by name", async () => {
  await start();
  expect(rowsOf(await ask("operators", "list"))).toEqual([
    ["ID", "NAME", "ROLE", "EMAIL", "STATE", "EXPIRES", "LAST USED"],
    [OPERATOR.id, "night-shift", "ops", "-", "active", "-", "2027-01-31 10:00:00Z"],
  ]);
  const made = await ask(
    "operators",
    "create",
    "night-shift",
    "--role",
    "ops",
    "--email",
    "ops@example.com",
    "--expires",
    "2099-01-31",
  );
  expect(rowsOf(made)).toContainEqual(["token", TOKEN]);
  expect(made.err).toContain("not shown again");
  expect(await jsonOf(ask("operators", "role", "night-shift", "read", "--json"))).toMatchObject({ role: "read" });
  expect(await jsonOf(ask("operators", "rotate", "night-shift", "--overlap", "2h", "--json"))).toMatchObject({
    token: TOKEN,
  });
  expect((await ask("operators", "revoke", "night-shift", "--yes")).out).toBe("Operator night-shift is revoked.\n");
  const email = "ops@example.com";
  expect(new Set(api.heard.map(({ token }) => token))).toEqual(new Set(["Bearer t"]));
  expect(writes()).toEqual([
    ["POST /admin/v1/operators", { name: "night-shift", role: "ops", email, expires_at: "2099-01-31T00:00:00.000Z" }],
    [`PATCH /admin/v1/operators/${OPERATOR.id}`, { role: "read" }],
    [`POST /admin/v1/operators/${OPERATOR.id}/rotate`, { overlap_s: 7200 }],
    [`DELETE /admin/v1/operators/${OPERATOR.id}`, null],
  ]);
});

test("--access-only creates an operator without a token", async () => {
  await start();
  await ask("operators", "create", "ci", "--role", "read", "--email", "ci@example.com", "--access-only");
  expect(writes()).toEqual([
    ["POST /admin/v1/operators", { name: "ci", role: "read", email: "ci@example.com", token: false }],
  ]);
});

test("revoking, and rotating without an overlap, ask for confirmation", async () => {
  await start();
  expect((await ask("operators", "revoke", "night-shift")).code).toBe(2);
  expect((await ask("operators", "rotate", "night-shift")).code).toBe(2);
  expect(writes()).toEqual([]);
});
