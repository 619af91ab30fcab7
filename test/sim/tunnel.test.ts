import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { HEADS_KEPT_MAX } from "../../sim/heads.ts";
import { startPark } from "../../sim/park.ts";
import type { Park } from "../../sim/park.ts";
import { ask, header, must } from "./wire.ts";

const TOKEN = { client_id: "id.access", client_secret: "secret" };
const PATH = "/sdapi/v1/txt2img";
const SMALL = { width: 8, height: 8, steps: 1, seed: 1 };

let park: Park;
let origin: string;
beforeAll(async () => {
  park = await startPark({ servers: 1, gpus: 2, service: { speed: 0 } });
  origin = must(park.cards[0]).origin;
});
beforeEach(() => {
  park.setToken(null);
  park.reset();
});
afterAll(() => park.close());

describe("a card behind a service token", () => {
  it.each([
    ["none", {}],
    ["only the id", { "cf-access-client-id": "id.access" }],
    ["a wrong secret", { "cf-access-client-id": "id.access", "cf-access-client-secret": "secre7" }],
    ["a longer secret", { "cf-access-client-id": "id.access", "cf-access-client-secret": "secret7" }],
  ])("refuses a request and starts no run: %s", async (_, headers) => {
    park.setToken(TOKEN);
    const reply = await ask(origin, { path: PATH, headers, json: SMALL });
    expect([reply.status, header(reply, "content-type")]).toEqual([403, "text/html; charset=utf-8"]);
    expect(park.counts()).toMatchObject({ starts: 0, refused: 1 });
  });

  it("accepts the right token, and requires it only on the cards where it was set", async () => {
    park.setToken(TOKEN, "gpu-01-0");
    const headers = {
      "CF-Access-Client-Id": TOKEN.client_id,
      "CF-Access-Client-Secret": TOKEN.client_secret,
    };
    expect((await ask(origin, { path: PATH, headers, json: SMALL })).status).toBe(200);
    expect((await ask(must(park.cards[1]).origin, { path: PATH, json: SMALL })).status).toBe(200);
  });

  it("can redirect to a login page instead", async () => {
    park.setToken({ ...TOKEN, deny: "login" });
    const reply = await ask(origin, { path: PATH, json: SMALL });
    expect([reply.status, header(reply, "location")]).toEqual([
      302,
      "https://access.example/cdn-cgi/access/login/card",
    ]);
  });
});

describe("the recorded heads", () => {
  it("have method, path and every header as received, with duplicates and original case", async () => {
    await ask(origin, {
      path: `${PATH}?a=1&a=2`,
      headers: { "X-Request-Id": "r1", Cookie: "c=1", "cf-ray": "7" },
      json: SMALL,
    });
    const head = must(park.heads("gpu-01-0")[0]);
    expect(head).toMatchObject({ method: "POST", path: `${PATH}?a=1&a=2` });
    expect(head.headers).toEqual(
      expect.arrayContaining([
        ["X-Request-Id", "r1"],
        ["Cookie", "c=1"],
        ["cf-ray", "7"],
      ]),
    );
    expect(park.heads("gpu-01-1")).toEqual([]);
  });

  it("are limited to the latest ones, and include those of unknown paths", async () => {
    for (let i = 0; i < HEADS_KEPT_MAX + 5; i += 5) {
      await Promise.all([0, 1, 2, 3, 4].map((k) => ask(origin, { method: "GET", path: `/nowhere/${i + k}` })));
    }
    const heads = park.heads("gpu-01-0");
    expect(heads).toHaveLength(HEADS_KEPT_MAX);
    expect(heads.some(({ path }) => path === "/nowhere/204")).toBe(true);
    expect(heads.some(({ path }) => path === "/nowhere/0")).toBe(false);
  });
});
