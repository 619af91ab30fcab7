import { expect, test } from "vitest";
import { frontDoor } from "./front-door.ts";

const door = frontDoor();

test("a new service gets the defaults of its kind", async () => {
  const { status, json } = await door.admin("PUT", "/services/defaults", { kind: "image", route: "/defaults/" });
  expect(status).toBe(201);
  expect(json).toMatchObject({
    id: "defaults",
    kind: "image",
    route: "/defaults/",
    model_version: null,
    queue: { max: 200, timeout_s: 60 },
    timeouts: { read_s: 300, run_s: 86_400 },
    retry: { tries: 3, timeout_s: 30 },
    breaker: { max_fails: 3, fail_timeout_s: 30 },
    drain: { probe: null, max_s: 60 },
    max_body_mb: 100,
    cache: { enabled: true, ttl_s: 86400, shared: false },
    defaults: {},
    bounds: { width: 2048, height: 2048, steps: 150, batch_size: 8, n_iter: 4 },
    results: { keep_days: 30 },
    abandon: "finish",
    paused: false,
    cards: [],
  });
  expect(json.paths).toContainEqual({ method: "POST", path: "txt2img", as: "run" });
  expect((await door.done("PUT", "/services/defaults-http", { kind: "http", route: "/h/" })).cache).toMatchObject({
    enabled: false,
  });
});

test("a PUT merges fields, also inside groups", async () => {
  await door.done("PUT", "/services/merge", {
    kind: "image",
    route: "/merge/",
    queue: { max: 7 },
    bounds: { width: 512 },
  });
  const merged = await door.done("PUT", "/services/merge", { queue: { timeout_s: 9 }, model_version: "v2" });
  expect(merged).toMatchObject({
    kind: "image",
    route: "/merge/",
    queue: { max: 7, timeout_s: 9 },
    bounds: { width: 512 },
    model_version: "v2",
  });
  const again = await door.done("PUT", "/services/merge", { cache: { ttl_s: 60 } });
  expect(again).toMatchObject({
    queue: { max: 7, timeout_s: 9 },
    model_version: "v2",
    cache: { enabled: true, ttl_s: 60 },
  });
  expect((await door.done("PUT", "/services/merge", { model_version: null })).model_version).toBeNull();
});

test("bounds and defaults merge by field, null removes a field, and unset bounds keep the kind's values", async () => {
  const made = await door.done("PUT", "/services/bounded", {
    kind: "image",
    route: "/bounded/",
    defaults: { steps: 20 },
  });
  expect(made).toMatchObject({ bounds: { width: 2048, height: 2048, steps: 150, batch_size: 8, n_iter: 4 } });
  const changed = await door.done("PUT", "/services/bounded", {
    bounds: { width: 4096, n_iter: null },
    defaults: { sampler_name: "Euler", steps: null },
  });
  const { bounds, defaults } = changed as unknown as Record<string, unknown>;
  expect(bounds).toEqual({ width: 4096, height: 2048, steps: 150, batch_size: 8 });
  expect(defaults).toEqual({ sampler_name: "Euler" });
});

test("repeating a PUT changes nothing and answers 200", async () => {
  const body = { kind: "tts", route: "/twice/", retry: { tries: 2 } };
  expect((await door.admin("PUT", "/services/twice", body)).status).toBe(201);
  const first = await door.admin("PUT", "/services/twice", body);
  const second = await door.admin("PUT", "/services/twice", body);
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(second.json).toEqual(first.json);
  expect((await door.done("GET", "/audit?target=twice")).data).toHaveLength(1);
});

test("a service's version grows with every change", async () => {
  const made = await door.done("PUT", "/services/version", { kind: "http", route: "/version/" });
  let version = made.version;
  for (let max = 1; max <= 5; max++) {
    const changed = await door.done("PUT", "/services/version", { queue: { max } });
    expect(changed.version).toBeGreaterThan(version);
    version = changed.version;
  }
  const paused = await door.done("POST", "/services/version/pause");
  expect(paused).toMatchObject({ paused: true });
  expect(paused.version).toBeGreaterThan(version);
});

test("an unknown field is refused and named by its path", async () => {
  const refused = (body: object) => door.refusal("PUT", "/services/unknown", { kind: "http", route: "/u/", ...body });
  expect(await refused({ colour: "red" })).toBe("400 invalid_field colour");
  expect(await refused({ queue: { maximum: 3 } })).toBe("400 invalid_field queue.maximum");
  expect(await refused({ paths: [{ method: "GET", path: "a", as: "read", extra: 1 }] })).toBe(
    "400 invalid_field paths.0.extra",
  );
  expect(await refused({ drain: { probe: { path: "/p", busy: "/n", more: 1 } } })).toBe(
    "400 invalid_field drain.probe.more",
  );
  expect((await door.admin("GET", "/services/unknown")).status).toBe(404);
});

test("a value out of range or of the wrong type is refused and named by its path", async () => {
  const wrong: [param: string, body: object][] = [
    ["queue.max", { queue: { max: -1 } }],
    ["queue.max", { queue: { max: "5" } }],
    ["retry.tries", { retry: { tries: 0 } }],
    ["abandon", { abandon: "shrug" }],
    ["bounds.width", { bounds: { width: "big" } }],
    ["paths.0.path", { paths: [{ method: "POST", path: "/x", as: "run" }] }],
    ["kind", { kind: "video" }],
  ];
  for (const [param, body] of wrong) {
    const put = { kind: "http", route: "/values/", ...body };
    expect(await door.refusal("PUT", "/services/values", put)).toBe(`400 invalid_field ${param}`);
  }
});

test("creating a service requires kind and route; the kind cannot change afterwards", async () => {
  expect(await door.refusal("PUT", "/services/needed", { route: "/needed/" })).toBe("400 invalid_field kind");
  expect(await door.refusal("PUT", "/services/needed", { kind: "tts" })).toBe("400 invalid_field route");
  await door.done("PUT", "/services/needed", { kind: "tts", route: "/needed/" });
  expect(await door.refusal("PUT", "/services/needed", { kind: "image" })).toBe("400 invalid_field kind");
  expect(await door.done("PUT", "/services/needed", { kind: "tts", route: "/moved/" })).toMatchObject({
    route: "/moved/",
  });
});

test("a route that is taken, malformed or reserved is refused", async () => {
  await door.done("PUT", "/services/first", { kind: "http", route: "/taken/" });
  const own = [
    "/admin/",
    "/v1/",
    "/v1/images/",
    "/replicate/v1/",
    "/fal/",
    "/health/",
    "/ready/",
    "/cluster/status/",
    "/metrics/",
  ];
  const more = [
    "/autoscale/",
    "/openapi.json/",
    "/docs/",
    "/console/",
    "/.well-known/",
    "/.well-known/acme-challenge/",
  ];
  const malformed = ["taken", "/open", "open/", "//", "/a//b/", "/a%2fb/", "/a b/", "/../", "/a/../b/", "/./", "/a?b/"];
  for (const route of ["/taken/", ...own, ...more, ...malformed]) {
    expect(await door.refusal("PUT", "/services/second", { kind: "http", route }), route).toBe(
      "400 invalid_field route",
    );
  }
  expect((await door.admin("PUT", "/services/second", { kind: "http", route: "/v1beta/" })).status).toBe(201);
  expect(await door.refusal("PUT", "/services/second", { route: "/taken/" })).toBe("400 invalid_field route");
  expect((await door.admin("PUT", "/services/second", { route: "/taken/below/" })).status).toBe(200);
});

test("a malformed id is refused with 400 on creation and with 404 elsewhere", async () => {
  for (const id of ["Portrait", "a%20b", "-a", "a".repeat(64), "a%2Fb"]) {
    const refused = await door.refusal("PUT", `/services/${id}`, { kind: "http", route: "/id/" });
    // An escaped slash is refused before it reaches the admin API.
    expect(refused, id).toBe(id === "a%2Fb" ? "400 bad_path" : "400 invalid_field id");
  }
  expect(await door.refusal("GET", "/services/Portrait")).toBe("404 not_found");
  expect(await door.refusal("DELETE", "/services/nothing")).toBe("404 not_found");
  expect(await door.refusal("POST", "/services/nothing/pause")).toBe("404 not_found");
});

test("pause and resume return the service and are idempotent", async () => {
  await door.done("PUT", "/services/rest", { kind: "http", route: "/rest/" });
  for (const [call, paused] of [
    ["pause", true],
    ["pause", true],
    ["resume", false],
    ["resume", false],
  ] as const) {
    expect(await door.done("POST", `/services/rest/${call}`)).toMatchObject({ id: "rest", paused });
  }
  const actions = (await door.done("GET", "/audit?target=rest")).data.map((row) => row.action);
  expect(actions).toEqual(["service.resume", "service.pause", "service.put"]);
  await door.done("POST", "/services/rest/pause");
  expect(await door.done("PUT", "/services/rest", { queue: { max: 3 } })).toMatchObject({ paused: true });
});

test("deleting a service removes its listings and keeps its cards", async () => {
  await door.done("PUT", "/services/leaving", { kind: "http", route: "/leaving/" });
  await door.done("PUT", "/services/leaving/cards/stays", { origin: "https://gpu.example.com/" });
  expect((await door.admin("DELETE", "/services/leaving")).status).toBe(204);
  expect((await door.admin("GET", "/services/leaving")).status).toBe(404);
  expect(await door.done("GET", "/cards/stays")).toMatchObject({ id: "stays", listings: [] });
  const again = await door.admin("PUT", "/services/leaving", { kind: "http", route: "/leaving/" });
  expect([again.status, again.json.cards]).toEqual([201, []]);
});

test("concurrent changes of one service succeed or get a retryable 409, and no change is lost", async () => {
  await door.done("PUT", "/services/crowd", { kind: "http", route: "/crowd/" });
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, i) => door.admin("PUT", "/services/crowd", { bounds: { [`n${i}`]: i } })),
  );
  const conflicts = answers.filter((answer) => answer.status === 409);
  for (const { headers, json } of conflicts) {
    expect(json.error).toMatchObject({ code: "conflict", retryable: true });
    expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
  }
  const done = answers.filter((answer) => answer.status === 200);
  expect(done.length + conflicts.length).toBe(8);
  expect(done.length).toBeGreaterThan(0);
  // The log has one row for each accepted change, and each starts from the result of the one before.
  const log = (await door.done("GET", "/audit?target=crowd")).data;
  expect(log).toHaveLength(done.length + 1);
  for (let i = 0; i + 1 < log.length; i++) expect(log[i]?.before).toEqual(log[i + 1]?.after);
});

test("a price has one of three forms, is replaced as a whole, and defaults to 1 per result", async () => {
  const put = (body: object) => door.done("PUT", "/services/priced", body);
  expect(await put({ kind: "image", route: "/priced/" })).toHaveProperty("price", { flat: 1, hits: false });
  const product = { product: ["width", "steps"], per: 1_024 };
  expect(await put({ price: { ...product, hits: true } })).toHaveProperty("price", { ...product, hits: true });
  expect(await put({ price: { characters: ["text"], per: 100 } })).toHaveProperty("price", {
    characters: ["text"],
    per: 100,
    hits: false,
  });
  expect(await put({ model_version: "2" })).toHaveProperty("price.per", 100);
  const wrong = [
    null,
    5,
    {},
    { flat: -1 },
    { flat: 1, per: 2 },
    { product: [], per: 1 },
    { product: ["a.b"], per: 1 },
    { product: ["a"], per: 0 },
    { product: ["a"] },
    { characters: ["a"], per: 1, product: ["b"] },
  ];
  for (const price of wrong) {
    const refused = await door.refusal("PUT", "/services/priced", { price });
    expect(refused, JSON.stringify(price)).toMatch(/^400 invalid_field price(\.|$)/);
  }
  expect(await door.refusal("PUT", "/services/priced", { price: { flat: -1 } })).toBe("400 invalid_field price.flat");
});

test("a service that is too large is refused, and its largest field is named", async () => {
  const defaults = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`field${i}`, "x".repeat(1000)]));
  expect(await door.refusal("PUT", "/services/long", { kind: "http", route: "/long/", defaults })).toBe(
    "400 invalid_field defaults",
  );
});
