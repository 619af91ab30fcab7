import { beforeAll, expect, test } from "vitest";
import { frontDoor, type Json } from "./front-door.ts";

const door = frontDoor();
const SERVICES = 7;

beforeAll(async () => {
  for (let i = 0; i < SERVICES; i++) {
    await door.done("PUT", `/services/s${i}`, { kind: "http", route: `/s${i}/` });
    await door.done("PUT", `/services/s0/cards/c${i}`, { origin: "https://gpu.example.com" });
    const tenant = await door.done("POST", "/tenants", { name: `t${i}` });
    await door.done("POST", `/tenants/${tenant.id}/keys`, {});
  }
});

/** Fetches every page of a list. */
async function pages(path: string, limit: number): Promise<Json[][]> {
  const found: Json[][] = [];
  let cursor: string | null = null;
  do {
    const next: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await door.done("GET", `${path}${path.includes("?") ? "&" : "?"}limit=${limit}${next}`);
    found.push(page.data);
    cursor = page.next_cursor ?? null;
  } while (cursor !== null && found.length < 100);
  return found;
}

test("paging through a list returns each row exactly once", async () => {
  for (const path of ["/services", "/cards", "/tenants", "/keys", "/audit"]) {
    const whole = (await pages(path, 1000)).flat();
    expect(whole.length, path).toBeGreaterThanOrEqual(SERVICES);
    for (const limit of [1, 3, whole.length]) {
      const found = await pages(path, limit);
      expect(
        found.flat().map((row) => row.id),
        `${path} by ${limit}`,
      ).toEqual(whole.map((row) => row.id));
      expect(found.slice(0, -1).every((page) => page.length === limit)).toBe(true);
      expect(found.at(-1)?.length, `${path} by ${limit}`).toBeGreaterThan(0);
    }
  }
});

test("rows added or removed between two pages do not shift the next page", async () => {
  const first = await door.done("GET", "/services?limit=3");
  await door.done("PUT", "/services/a-new-one", { kind: "http", route: "/a-new-one/" });
  const second = await door.done("GET", `/services?limit=3&cursor=${first.next_cursor}`);
  expect(second.data?.map((row) => row.id)).toEqual(["s3", "s4", "s5"]);
  const log = await door.done("GET", "/audit?limit=2");
  await door.done("DELETE", "/services/a-new-one");
  const later = await door.done("GET", `/audit?limit=2&cursor=${log.next_cursor}`);
  expect(later.data?.[0]?.id).toBe(Number(log.data?.[1]?.id) - 1);
});

test("an invalid limit or cursor is refused", async () => {
  for (const limit of ["0", "1001", "-1", "1.5", "ten", "", "1e3x"]) {
    expect(await door.refusal("GET", `/services?limit=${limit}`), limit).toBe("400 invalid_field limit");
  }
  for (const cursor of ["x", "bm90", "WzFd", "eyJhIjoxfQ", "%00", "a".repeat(600)]) {
    expect(await door.refusal("GET", `/services?cursor=${cursor}`), cursor).toBe("400 invalid_field cursor");
  }
  expect(await door.refusal("GET", `/audit?cursor=${btoa('["1; DROP TABLE audit"]')}`)).toBe(
    "400 invalid_field cursor",
  );
});

test("the audit log records actor, action, before, after and request id of each change", async () => {
  const put = await door.admin("PUT", "/services/logged", { kind: "http", route: "/logged/" });
  const changed = await door.admin("PUT", "/services/logged", { queue: { max: 3 } });
  const removed = await door.admin("DELETE", "/services/logged");
  const { data } = await door.done("GET", "/audit?target=logged");
  expect(data).toMatchObject([
    {
      actor: "admin",
      action: "service.delete",
      before: { queue: { max: 3 } },
      after: null,
      request_id: removed.headers.get("x-request-id"),
    },
    {
      action: "service.put",
      before: { queue: { max: 200 } },
      after: { queue: { max: 3 } },
      request_id: changed.headers.get("x-request-id"),
    },
    {
      action: "service.put",
      target: "logged",
      before: null,
      after: { route: "/logged/" },
      request_id: put.headers.get("x-request-id"),
    },
  ]);
  expect(Math.abs(Date.parse(data[0]?.at ?? "") - Date.now())).toBeLessThan(60_000);
});

test("a refused change adds no row to the audit log", async () => {
  const before = await door.rows("SELECT count(*) AS n FROM audit");
  await door.refusal("PUT", "/services/refused", { kind: "http", route: "/s1/" });
  await door.refusal("PUT", "/services/s1/cards/c1", { origin: "http://gpu.example.com" });
  await door.refusal("PATCH", "/tenants/nobody", { weight: 2 });
  expect(await door.rows("SELECT count(*) AS n FROM audit")).toEqual(before);
});

test("keys can be filtered by tenant", async () => {
  const [tenant] = (await door.done("GET", "/tenants?limit=1")).data;
  const { data } = await door.done("GET", `/keys?tenant=${tenant?.id}`);
  expect(data).toMatchObject([{ tenant: tenant?.id }]);
  expect((await door.done("GET", "/keys?tenant=nobody")).data).toEqual([]);
});

test("HEAD of a list answers like GET, without the body", async () => {
  const { status, text } = await door.admin("HEAD", "/services");
  expect([status, text]).toEqual([200, ""]);
});
