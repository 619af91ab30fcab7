/** Operator calls on stored results: purge and verify. */
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { frontDoor } from "./front-door.ts";

const door = frontDoor();
const Page = z.object({
  orphans: z.int(),
  missing: z.int(),
  removed_rows: z.int(),
  next_cursor: z.string().nullable(),
});

/** Stores rows and objects: two tenants, two services, two model versions, and an answer beside each result. */
async function fill(): Promise<void> {
  const bucket = await door.runtime.mf.getR2Bucket("RESULTS");
  await door.rows("DELETE FROM results RETURNING id");
  await door.rows("DELETE FROM answers RETURNING key");
  for (const tenant of ["ten_a", "ten_b"]) {
    for (const service of ["portrait", "speech"]) {
      for (const model of ["v1", "v2"]) {
        const [id, key] = [`${tenant.slice(4)}${service}${model}`, `${tenant}/answers/${service}${model}`];
        const result = "INSERT INTO results VALUES (?, ?, ?, 'r', ?, 'image/png', 10, 'x', 'signed', ?, 1, 9e12)";
        await door.rows(`${result} RETURNING id`, id, tenant, service, model, key);
        await door.rows(
          "INSERT INTO answers VALUES (?, ?, ?, ?, 100, 1, 9e12) RETURNING key",
          key,
          tenant,
          service,
          model,
        );
        await Promise.all([bucket.put(`results/${id}`, "x"), bucket.put(key, "x")]);
      }
    }
  }
}

const left = async () => {
  const { objects } = await (await door.runtime.mf.getR2Bucket("RESULTS")).list();
  const [{ n: rows } = {}] = await door.rows(
    "SELECT (SELECT count(*) FROM results) + (SELECT count(*) FROM answers) AS n",
  );
  return { objects: objects.length, rows };
};
const purge = async (body: object) => {
  const { status, json } = await door.admin("POST", "/purge", body);
  return { status, ...json };
};

describe("POST /admin/v1/purge", () => {
  beforeAll(fill);

  test("requires a filter and rejects unknown fields", async () => {
    expect(await door.refusal("POST", "/purge", { what: "all" })).toBe("400 invalid_field tenant");
    expect(await door.refusal("POST", "/purge", { tenant: "ten_a" })).toBe("400 invalid_field what");
    expect(await door.refusal("POST", "/purge", { tenant: "", what: "all" })).toBe("400 invalid_field tenant");
    expect(await door.refusal("POST", "/purge", { tenant: "ten_a", what: "everything" })).toBe(
      "400 invalid_field what",
    );
    expect(await door.refusal("POST", "/purge", { tenants: "ten_a", what: "all" })).toBe("400 invalid_field tenants");
    expect((await door.admin("POST", "/purge", { tenant: "ten_a", what: "all" }, { token: null })).status).toBe(401);
    expect(await left()).toEqual({ objects: 16, rows: 16 });
  });

  test("with dry_run reports what would be removed and removes nothing", async () => {
    const dry_run = true;
    const told = { status: 200, done: false };
    expect(await purge({ tenant: "ten_a", what: "all", dry_run })).toEqual({
      ...told,
      results: 4,
      answers: 4,
      bytes: 440,
    });
    expect(await purge({ model_version: "v1", what: "results", dry_run })).toEqual({
      ...told,
      results: 4,
      answers: 4,
      bytes: 440,
    });
    expect(await purge({ service: "speech", what: "answers", dry_run })).toEqual({
      ...told,
      results: 0,
      answers: 4,
      bytes: 400,
    });
    expect(await purge({ tenant: "ten_c", what: "all", dry_run })).toEqual({
      status: 200,
      results: 0,
      answers: 0,
      bytes: 0,
      done: true,
    });
    expect(await left()).toEqual({ objects: 16, rows: 16 });
    expect((await door.done("GET", "/audit")).data).toEqual([]);
  });

  test("removes what matches all filters and reports it; repeating the call removes nothing", async () => {
    const body = { tenant: "ten_a", service: "portrait", model_version: "v1", what: "all" };
    expect(await purge(body)).toEqual({ status: 200, results: 1, answers: 1, bytes: 110, done: true });
    expect(await left()).toEqual({ objects: 14, rows: 14 });
    expect(await purge(body)).toEqual({ status: 200, results: 0, answers: 0, bytes: 0, done: true });
  });

  test("with what=answers removes answers and keeps results", async () => {
    expect(await purge({ service: "speech", what: "answers" })).toMatchObject({ results: 0, answers: 4 });
    expect(await door.rows("SELECT count(*) AS n FROM results WHERE service_id = 'speech'")).toEqual([{ n: 4 }]);
  });

  test("with what=results also removes the answers that contain those results", async () => {
    expect(await purge({ tenant: "ten_b", what: "results" })).toMatchObject({ results: 4, answers: 2 });
    expect(await door.rows("SELECT DISTINCT tenant_id FROM answers")).toEqual([{ tenant_id: "ten_a" }]);
  });

  test("writes the actor, the action and the filters to the audit log", async () => {
    const { data } = await door.done("GET", "/audit?target=ten_b");
    expect(data).toMatchObject([{ actor: "admin", action: "purge", after: { tenant: "ten_b", what: "results" } }]);
  });
});

test("a purge that takes several calls answers 202 until it is done, and repeating the call continues it", async () => {
  const many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20500)";
  const values = "'m' || i, 'ten_m', 's', 'r', NULL, 'image/png', 5, 'x', 'signed', NULL, 1, 9e12";
  await door.rows(`${many} INSERT INTO results SELECT ${values} FROM n RETURNING 1`);
  expect(await purge({ tenant: "ten_m", what: "all" })).toMatchObject({ status: 202, results: 20_000, done: false });
  expect(await purge({ tenant: "ten_m", what: "all" })).toMatchObject({ status: 200, results: 500, done: true });
});

/** Runs verify page by page and adds up the counts. */
async function verify(body: object): Promise<{ orphans: number; missing: number; removed_rows: number }> {
  const whole = { orphans: 0, missing: 0, removed_rows: 0 };
  for (let cursor: string | null = ""; cursor !== null;) {
    const page = Page.parse(await door.done("POST", "/results/verify", { ...body, ...(cursor && { cursor }) }));
    whole.orphans += page.orphans;
    whole.missing += page.missing;
    whole.removed_rows += page.removed_rows;
    cursor = page.next_cursor;
  }
  return whole;
}

describe("POST /admin/v1/results/verify", () => {
  beforeAll(fill);

  test("reports rows without an object, removes them only with mend, and logs that to the audit log", async () => {
    expect(await verify({})).toEqual({ orphans: 0, missing: 0, removed_rows: 0 });
    const bucket = await door.runtime.mf.getR2Bucket("RESULTS");
    await bucket.delete(["results/aportraitv1", "ten_b/answers/speechv2"]);
    expect(await verify({})).toEqual({ orphans: 0, missing: 2, removed_rows: 0 });
    expect(await verify({ mend: true })).toEqual({ orphans: 0, missing: 2, removed_rows: 2 });
    expect(await verify({})).toEqual({ orphans: 0, missing: 0, removed_rows: 0 });
    const { data } = await door.done("GET", "/audit?target=results");
    expect(data).toMatchObject([{ action: "results.mend" }]);
  });

  test("rejects foreign cursors and unknown fields", async () => {
    for (const cursor of ["x", btoa('["a"]'), btoa("[-1,''].")])
      expect(await door.refusal("POST", "/results/verify", { cursor }), cursor).toBe("400 invalid_field cursor");
    expect(await door.refusal("POST", "/results/verify", { repair: true })).toBe("400 invalid_field repair");
  });
});

test("verify accepts only POST", async () => {
  const answer = await door.admin("GET", "/results/verify");
  expect([answer.status, answer.headers.get("allow")]).toEqual([405, "POST"]);
});
