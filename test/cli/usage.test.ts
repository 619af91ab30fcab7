import { afterEach, expect, test } from "vitest";
import { jsonOf, portico, rowsOf } from "./command.ts";
import { type Scripted, scripted } from "./scripted.ts";

const TENANT = { id: "ten_1", name: "studio" };
const AMOUNTS = { requests: 12, hits: 3, results: 9, bytes: 123, gpu_seconds: 4.5, cost: 9, refusals: { quota: 2 } };
const rows = (day: string) => [{ day, service: "portrait", key: "k1", ...AMOUNTS }];
const HEADING = "day,service,key,requests\r\n";

let api: Scripted;
const ask = (...args: string[]) => portico(["usage", ...args], { url: api.url, token: "t" });
afterEach(() => api.stop());

async function start(): Promise<void> {
  api = await scripted(({ call, accept }) => {
    if (!call.includes("/usage")) return { body: TENANT };
    const second = call.includes("cursor=two");
    const day = second ? "2027-01-02" : "2027-01-01";
    if (accept !== "text/csv") {
      const body = { tenant: "ten_1", from: "2027-01-01", to: "2027-01-02", data: rows(day), totals: AMOUNTS };
      return { body: { ...body, next_cursor: second ? null : "two" } };
    }
    const link: Record<string, string> = second ? {} : { link: '<?from=2027-01-01&cursor=two>; rel="next"' };
    return {
      headers: { "content-type": "text/csv; charset=utf-8", ...link },
      body: `${HEADING}${day},portrait,k1,12\r\n`,
    };
  });
}

test("usage is a table of the rows of all pages, with totals", async () => {
  await start();
  const { code, out } = await ask("studio", "--from", "2027-01-01", "--to", "2027-01-02", "--group", "day,key");
  expect(code).toBe(0);
  expect(out).toMatch(/^2027-01-01 to 2027-01-02, UTC\n\nDAY +SERVICE +KEY +REQUESTS +HITS/);
  expect(out).toMatch(/^2027-01-02 +portrait +k1 +12 +3 +9 +123 +4.5 +9 +quota 2$/m);
  expect(rowsOf({ code, out, err: "" }).at(-1)?.slice(0, 4)).toEqual(["total", "-", "-", "12"]);
  expect(api.heard[1]?.call).toBe(
    "GET /admin/v1/tenants/ten_1/usage?from=2027-01-01&to=2027-01-02&group=day%2Ckey&limit=200",
  );
});

test("--json prints the API's answer with the rows of all pages", async () => {
  await start();
  expect(await jsonOf(ask("studio", "--json"))).toEqual({
    tenant: "ten_1",
    from: "2027-01-01",
    to: "2027-01-02",
    data: [...rows("2027-01-01"), ...rows("2027-01-02")],
    totals: AMOUNTS,
    next_cursor: null,
  });
});

test("--csv prints one table with one heading", async () => {
  await start();
  expect(await ask("studio", "--csv")).toEqual({
    code: 0,
    out: `${HEADING}2027-01-01,portrait,k1,12\r\n2027-01-02,portrait,k1,12\r\n`,
    err: "",
  });
  const cut = await ask("studio", "--csv", "--rows", "1");
  expect(cut.out).toBe(`${HEADING}2027-01-01,portrait,k1,12\r\n`);
  expect(cut.err).toContain("Only the first 1 rows");
});
