import { afterAll, beforeAll, expect, test } from "vitest";
import { type Portico, startPortico } from "../support/portico.ts";
import { raw } from "../support/raw.ts";
import { jsonOf, portico, rowsOf } from "./command.ts";

let front: Portico;
const ask = (...args: string[]) => portico(args, { url: front.url, token: front.adminToken });

beforeAll(async () => {
  front = await startPortico({ cards: [] });
});
afterAll(() => front.stop());

/** Status that the front door answers to this key. */
async function statusWith(key: string): Promise<number> {
  const answer = await raw(front.url, { target: "/v1/requests/none", headers: { authorization: `Bearer ${key}` } });
  return answer.status;
}

interface Made {
  id: string;
  key: string;
  name: string;
}

test("a tenant can be created, shown by name and id, edited, disabled, enabled and deleted", async () => {
  const made = await jsonOf<Made>(
    ask("tenants", "create", "studio", "--weight", "2", "--limit", "concurrent=12", "--limit", "burst=5", "--json"),
  );
  expect(made).toMatchObject({ name: "studio", weight: 2, limits: { concurrent: 12, burst: 5, waiting: 100 } });

  const shown = await ask("tenants", "show", "studio");
  expect(rowsOf(shown)).toContainEqual(["limits.concurrent", "12"]);
  expect(rowsOf(shown)).toEqual(
    expect.arrayContaining([
      ["limits.services", "-"],
      ["origins", "-"],
    ]),
  );
  expect(await jsonOf(ask("tenants", "show", made.id, "--json"))).toEqual(
    await front.admin("GET", `/tenants/${made.id}`),
  );

  const edited = await ask(
    "tenants",
    "edit",
    "studio",
    "--name",
    "atelier",
    "--limit",
    "results_per_month=null",
    "--json",
  );
  expect(await jsonOf(edited)).toMatchObject({
    name: "atelier",
    weight: 2,
    limits: { burst: 5, results_per_month: null },
  });

  expect(await jsonOf(ask("tenants", "disable", "atelier", "--yes", "--json"))).toMatchObject({ state: "disabled" });
  expect(await jsonOf(ask("tenants", "enable", "atelier", "--json"))).toMatchObject({ state: "active" });

  expect(await ask("tenants", "delete", "atelier", "--yes")).toEqual({
    code: 0,
    out: "Tenant atelier is deleted.\n",
    err: "",
  });
  expect((await ask("tenants", "show", made.id)).code).toBe(1);
});

test("a list is an aligned table, also with wide characters, and --json prints the API's own answer", async () => {
  await ask("tenants", "create", "工作室");
  await ask("tenants", "create", "plain");
  const list = await ask("tenants", "list");
  expect(list.err).toBe("");
  const lines = list.out.trimEnd().split("\n");
  expect(lines[0]).toMatch(/^ID +NAME +STATE +WEIGHT/);
  const [wide = "", plain = ""] = lines.slice(-2);
  // Each of the three characters takes two columns.
  expect(wide.indexOf("active") + 3).toBe(plain.indexOf("active"));
  expect(await jsonOf(ask("tenants", "list", "--json"))).toEqual(await front.admin("GET", "/tenants?limit=1000"));
});

test("a list that --rows cuts off says so on standard error", async () => {
  await front.tenant();
  await front.tenant();
  const cut = await ask("tenants", "list", "--rows", "1", "--json");
  expect(await jsonOf<{ data: unknown[]; next_cursor: string }>(cut)).toMatchObject({
    data: [{}],
    next_cursor: expect.any(String),
  });
  expect(cut.err).toBe("Only the first 1 rows are shown; for more, add --rows N.\n");
});

test("a name shared by two tenants is refused, with their ids", async () => {
  const [one, other] = [
    await jsonOf<Made>(ask("tenants", "create", "twin", "--json")),
    await jsonOf<Made>(ask("tenants", "create", "twin", "--json")),
  ];
  const { code, err } = await ask("tenants", "delete", "twin", "--yes");
  expect(code).toBe(2);
  expect(err).toBe(`portico: More than one is named twin. Choose by id: ${one.id}, ${other.id}.\n`);
  expect((await ask("tenants", "delete", one.id, "--yes")).code).toBe(0);
});

test("a key can be created, listed without its secret, renamed, disabled, enabled, rotated and revoked", async () => {
  const tenant = await front.tenant();
  const made = await ask("keys", "create", tenant, "--name", "web", "--scopes", "infer,results", "--expires", "30d");
  const rows = new Map(rowsOf(made).map(([name = "", value = ""]) => [name, value]));
  const [id = "", key = ""] = [rows.get("id"), rows.get("key")];
  expect(made.err).toBe("Keep it now: it is not shown again.\n");
  expect(rows.get("scopes")).toBe("infer, results");
  expect(Date.parse(rows.get("expires_at") ?? "") - Date.now()).toBeGreaterThan(29 * 86_400_000);
  expect(await statusWith(key)).toBe(404);

  const free = rowsOf(await ask("keys", "create", tenant));
  expect(free).toEqual(
    expect.arrayContaining([
      ["scopes", "all"],
      ["services", "all"],
    ]),
  );
  const list = await ask("keys", "list", "--tenant", tenant);
  expect(list.out).not.toContain(key);
  expect(rowsOf(list)[1]?.slice(0, 7)).toEqual([id, "web", tenant, key.slice(-4), "active", "infer, results", "all"]);

  expect(await jsonOf(ask("keys", "rename", id, "shop", "--json"))).toMatchObject({ id, name: "shop" });
  expect(await jsonOf(ask("keys", "disable", id, "--yes", "--json"))).toMatchObject({ state: "disabled" });
  expect(await jsonOf(ask("keys", "enable", id, "--json"))).toMatchObject({ state: "active" });
  expect(await jsonOf(ask("keys", "expire", id, "2099-01-31", "--json"))).toMatchObject({
    expires_at: "2099-01-31T00:00:00.000Z",
  });
  expect(await jsonOf(ask("keys", "expire", id, "never", "--json"))).toMatchObject({ expires_at: null });

  const other = await jsonOf<Made>(ask("keys", "rotate", id, "--overlap", "1h", "--json"));
  expect(other).toMatchObject({ scopes: ["infer", "results"], services: null });
  expect(other).toMatchObject({ name: "shop", rotated_from: id });
  expect([await statusWith(key), await statusWith(other.key)]).toEqual([404, 404]);

  expect((await ask("keys", "revoke", other.id, "--yes")).out).toBe(`Key ${other.id} is revoked.\n`);
  expect(await statusWith(other.key)).toBe(401);
});

test("commands that lock callers out ask for confirmation; without a terminal or --yes they do nothing", async () => {
  const tenant = await front.tenant();
  const { id, key } = await front.admin<Made>("POST", `/tenants/${tenant}/keys`, {});
  for (const args of [
    ["keys", "revoke", id],
    ["keys", "disable", id],
    ["keys", "rotate", id],
    ["keys", "expire", id, "2020-01-01"],
    ["tenants", "disable", tenant],
    ["tenants", "delete", tenant],
  ]) {
    const { code, out, err } = await ask(...args);
    expect([code, out], args.join(" ")).toEqual([2, ""]);
    expect(err).toMatch(
      /^portico: .* There is no terminal to confirm on, so nothing was done\. Add --yes to skip the confirmation\.\n$/,
    );
  }
  expect(await statusWith(key)).toBe(404);
});

test("the audit log shows actor, action, target and the changed values", async () => {
  const tenant = await front.tenant({ burst: 60 });
  await ask("tenants", "edit", tenant, "--limit", "burst=80");
  const audit = await ask("audit", "--target", tenant);
  expect(rowsOf(audit)[0]).toEqual(["AT", "ACTOR", "ACTION", "TARGET", "CHANGE"]);
  expect(rowsOf(audit)[1]?.slice(1)).toEqual(["admin", "tenant.patch", tenant, "limits.burst: 60 > 80"]);
  expect(await jsonOf(ask("audit", "--target", tenant, "--json"))).toMatchObject({
    data: [{ action: "tenant.patch" }, { action: "tenant.create" }],
    next_cursor: null,
  });
});

test("an API error is one line with message, field, request id and advice", async () => {
  const { code, out, err } = await ask("tenants", "create", "x", "--weight", "0");
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(
    /^portico: weight: .+ \(invalid_field, field weight, request req_\w+\)\. Run the command with --help to see what it accepts\.\n$/,
  );
  const unknown = await portico(["keys", "list"], { url: front.url, token: "guess" });
  expect(unknown).toMatchObject({ code: 1, out: "" });
  expect(unknown.err).toMatch(/\(unknown, request req_\w+\)\. Check the token, which came from PORTICO_TOKEN\.\n$/);
  expect(unknown.err).not.toContain("guess");
});

test("an id is always one path segment", async () => {
  for (const id of ["..", ".", ""]) expect((await ask("keys", "enable", id)).code, id).toBe(2);
  expect((await ask("keys", "enable", "x/../../tenants")).code).toBe(1);
});
