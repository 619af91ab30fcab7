/** `POST /v1/fingerprint` and `GET /v1/requests/<id>`. */
import { describe, expect, test } from "vitest";
import { doorway, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

const door = doorway({
  services: {
    plain: { kind: "image", route: "/plain/sdapi/v1/", cache: { enabled: false } },
    anything: { kind: "http", route: "/anything/" },
    filled: { kind: "image", route: "/filled/sdapi/v1/", defaults: { steps: 1 } },
  },
});

interface Print {
  cacheable: boolean;
  key: string | null;
  why_not: string | null;
}
interface Became {
  state: string;
  status: number | null;
  results: { id: string; url: string; content_type: string; bytes: number; sha256: string }[];
}

const askFilled = (json: object) => door.ask("/filled/sdapi/v1/txt2img", { json });
const pathOf = (url = "") => new URL(url).pathname;

async function print(input: unknown, service = "portrait", path = "txt2img", key?: string): Promise<Print> {
  const sent = { json: { service, path, input }, ...(key === undefined ? {} : { key }) };
  return JSON.parse(expectOk(await door.ask("/v1/fingerprint", sent)).text);
}

describe("POST /v1/fingerprint", () => {
  test("returns the key of a cacheable request, the same for the same input", async () => {
    const json = picture();
    const first = await print(json);
    expect(first.cacheable).toBe(true);
    expect(first.key).toBeTypeOf("string");
    expect(first.why_not).toBe(null);
    expect(await print(Object.fromEntries(Object.entries(json).toReversed()))).toEqual(first);
    expect((await print({ ...json, seed: 2 ** 31 + 7 })).key).not.toBe(first.key);
  });

  test("tells why a request is not cacheable", async () => {
    const cases: [Promise<Print>, string][] = [
      [print(picture({ seed: -1 })), "a random seed"],
      [print({ prompt: "x" }), "no seed"],
      [print(picture(), "plain"), "a cache that is off"],
      [print({}, "anything", "x"), "a service that is not cached"],
    ];
    for (const [asked, what] of cases) {
      const told = await asked;
      expect(told.cacheable, what).toBe(false);
      expect(told.key, what).toBe(null);
      expect(told.why_not, what).toMatch(/^\w{3,}/);
    }
    const reasons = await Promise.all(cases.map(async ([asked]) => (await asked).why_not));
    expect(reasons[0]).toBe(reasons[1]);
    expect(reasons[1]).not.toBe(reasons[2]);
  });

  test("agrees with the cache: equal keys hit, others do not", async () => {
    const json: Record<string, unknown> = picture();
    delete json["steps"];
    await askFilled(json);
    const { key } = await print(json, "filled");
    for (const other of [
      { ...json, steps: 1 },
      { ...json, steps: 2 },
      { ...json, seed: 3 },
    ]) {
      const same = (await print(other, "filled")).key === key;
      expect((await askFilled(other)).header("cache-status")?.includes("hit")).toBe(same);
    }
  });

  test("differs between tenants, services and paths", async () => {
    const json = picture();
    const keys = await Promise.all([
      print(json),
      print(json, "portrait", "txt2img", await door.key()),
      print(json, "filled"),
      print({ ...json, init_images: ["aGk="] }, "portrait", "img2img"),
    ]);
    expect(new Set(keys.map(({ key }) => key)).size).toBe(keys.length);
  });

  test("runs nothing", async () => {
    const before = door.starts();
    await print(picture());
    expect(door.starts()).toBe(before);
  });

  test("answers 404 to an unknown service or path", async () => {
    for (const [service, path] of [
      ["nobody", "txt2img"],
      ["portrait", "interrupt"],
      ["portrait", "options"],
    ]) {
      const answer = await door.ask("/v1/fingerprint", { json: { service, path, input: {} } });
      expect(refusalOf(answer), `${service} ${path}`).toMatch(/^404 not_found not_found/);
    }
    for (const path of ["../../admin", "a//b", "%2e%2e", "a\\b"]) {
      const answer = await door.ask("/v1/fingerprint", { json: { service: "portrait", path, input: {} } });
      expect([400, 404], path).toContain(answer.status);
    }
  });
});

const became = async (id: string | null, key = door.ownKey): Promise<Became> =>
  JSON.parse(expectOk(await door.ask(`/v1/requests/${id}`, { key })).text);

describe("GET /v1/requests/<id>", () => {
  test("reports the outcome of a request by our id", async () => {
    const answer = expectOk(await door.paint());
    const told = await became(answer.header("x-request-id"));
    expect(told).toMatchObject({ state: "succeeded", status: 200 });
    expect(told.results).toHaveLength(1);
    const [result] = told.results;
    expect(new URL(linksOf(answer)[0] ?? "").pathname).toBe(`/v1/results/${result?.id}`);
    const fetched = expectOk(await door.ask(targetOf(result?.url ?? ""), { key: null }));
    expect(fetched.body).toHaveLength(result?.bytes ?? -1);
    expect(fetched.header("content-type")).toBe(result?.content_type);
  });

  test("also finds the caller's own X-Request-Id, and the latest within the tenant wins", async () => {
    const headers = { "x-request-id": "own-id_1" };
    const first = expectOk(await door.paint({}, { headers }));
    const { results } = await became("own-id_1");
    expect(linksOf(first).map((url) => new URL(url).pathname)).toEqual(results.map(({ id }) => `/v1/results/${id}`));
    const second = expectOk(await door.paint({}, { headers }));
    const later = await became("own-id_1");
    expect(linksOf(second).map((url) => new URL(url).pathname)).toEqual(
      later.results.map(({ id }) => `/v1/results/${id}`),
    );
    expect((await became(first.header("x-request-id"))).results).toHaveLength(1);
  });

  test("reports a sound and a failed request", async () => {
    const sound = expectOk(await door.speak({ text: "told" }));
    expect((await became(sound.header("x-request-id"))).results).toHaveLength(1);
    const refused = await door.paint({ sampler_name: "no such sampler" });
    expect(refused.status).toBe(400);
    const told = await became(refused.header("x-request-id"));
    expect(told.status).toBe(400);
    expect(told.results).toEqual([]);
    expect(["succeeded", "failed"]).toContain(told.state);
  });

  test("reports a request that is still running", async () => {
    door.park.setService({ service_ms: 800 });
    const running = door.paint({}, { headers: { "x-request-id": "under-way" } });
    let state = "";
    for (let i = 0; i < 30 && state !== "running"; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const answer = await door.ask("/v1/requests/under-way");
      if (answer.status === 200) ({ state } = JSON.parse(answer.text) as Became);
    }
    expect(state).toBe("running");
    expectOk(await running);
    door.park.setService({ service_ms: null });
    expect((await became("under-way")).state).toBe("succeeded");
  });

  test("is 404 for another tenant, by either id, and for an unknown id", async () => {
    const other = await door.key();
    const answer = expectOk(await door.paint({}, { headers: { "x-request-id": "mine-alone" } }));
    for (const id of [answer.header("x-request-id"), "mine-alone", "never-was", "req_0", "a".repeat(500)]) {
      expect(refusalOf(await door.ask(`/v1/requests/${id}`, { key: other })), `${id}`).toMatch(
        /^404 not_found not_found/,
      );
    }
  });

  test("one tenant's own id does not hide another's", async () => {
    const other = await door.key();
    const headers = { "x-request-id": "same-name" };
    const mine = expectOk(await door.paint({}, { headers }));
    const theirs = expectOk(await door.paint({}, { key: other, headers }));
    expect((await became("same-name")).results.map(({ url }) => pathOf(url))).toEqual(linksOf(mine).map(pathOf));
    expect((await became("same-name", other)).results.map(({ url }) => pathOf(url))).toEqual(
      linksOf(theirs).map(pathOf),
    );
  });

  test("a caller's own id that looks like ours does not find another tenant's request", async () => {
    const other = await door.key();
    const mine = expectOk(await door.paint());
    const id = mine.header("x-request-id") ?? "";
    const theirs = expectOk(await door.paint({}, { key: other, headers: { "x-request-id": id } }));
    expect((await became(id)).results.map(({ url }) => pathOf(url))).toEqual(linksOf(mine).map(pathOf));
    expect((await became(id, other)).results.map(({ url }) => pathOf(url))).toEqual(linksOf(theirs).map(pathOf));
  });
});
