import { beforeAll, expect, test } from "vitest";
import { frontDoor } from "./front-door.ts";

const door = frontDoor();
const ORIGIN = "https://gpu-01.example.com:8443/card-0";
const TOKEN = /^ptc_[0-9A-Za-z]{40}$/;

beforeAll(async () => {
  await door.done("PUT", "/services/portrait", { kind: "image", route: "/sdapi/v1/" });
  await door.done("PUT", "/services/voice", { kind: "tts", route: "/voice/" });
});

const serviceVersion = async (id: string) => (await door.done("GET", `/services/${id}`)).version;

test("a new card is active and direct, with weight 1 and 2 slots, and is returned with its agent's token", async () => {
  const { status, json } = await door.admin("PUT", "/services/portrait/cards/new", { origin: ORIGIN });
  expect(status).toBe(201);
  expect(json).toMatchObject({
    id: "new",
    server: null,
    gpu: null,
    slots: 2,
    state: "active",
    listings: [{ service: "portrait", origin: ORIGIN, transport: "direct", weight: 1 }],
  });
  expect(json.token).toMatch(TOKEN);
});

test("a PUT merges listing and card; repeating it answers 200 without a token", async () => {
  const url = "/services/portrait/cards/merge";
  await door.done("PUT", url, { origin: ORIGIN, server: "gpu-01", gpu: 1, weight: 3 });
  const merged = await door.admin("PUT", url, { slots: 1, transport: "tunnel" });
  expect(merged.status).toBe(200);
  expect(merged.json).toMatchObject({
    server: "gpu-01",
    gpu: 1,
    slots: 1,
    listings: [{ origin: ORIGIN, transport: "tunnel", weight: 3 }],
  });
  const again = await door.admin("PUT", url, { slots: 1, transport: "tunnel" });
  expect([again.status, again.json]).toEqual([200, merged.json]);
  expect(again.json).not.toHaveProperty("token");
});

test("card fields are shared by all listings of the card; listing fields are not", async () => {
  await door.done("PUT", "/services/portrait/cards/both", { origin: ORIGIN, slots: 1, weight: 2 });
  const second = await door.admin("PUT", "/services/voice/cards/both", {
    origin: "https://gpu-02.example.com",
    state: "draining",
  });
  expect(second.status).toBe(201);
  expect(second.json).not.toHaveProperty("token");
  expect(await door.done("GET", "/cards/both")).toMatchObject({
    slots: 1,
    state: "draining",
    listings: [
      { service: "portrait", origin: ORIGIN, weight: 2 },
      { service: "voice", origin: "https://gpu-02.example.com", weight: 1 },
    ],
  });
});

test("several cards may have the same origin", async () => {
  for (const card of ["twin-a", "twin-b"]) {
    expect((await door.admin("PUT", `/services/portrait/cards/${card}`, { origin: ORIGIN })).status).toBe(201);
  }
});

test("an origin must be https and public, or, in local mode, on this machine", async () => {
  const refused = (origin: string) => door.refusal("PUT", "/services/portrait/cards/origin", { origin });
  const bad = [
    "gpu",
    "ftp://gpu.example.com",
    "http://gpu.example.com",
    "http://localhost:1",
    "https://localhost",
    "https://10.0.0.1",
    "https://192.168.1.4:8443",
    "https://169.254.169.254/latest",
    "https://[::1]",
    "https://gpu.internal",
    "https://gpu",
    "https://user:pass@gpu.example.com",
    "https://gpu.example.com/?a=b",
    "https://gpu.example.com/#a",
    "https://2130706433",
  ];
  for (const origin of bad) expect(await refused(origin), origin).toBe("400 invalid_field origin");
  expect(await door.refusal("PUT", "/services/portrait/cards/origin", {})).toBe("400 invalid_field origin");
  expect((await door.admin("GET", "/cards/origin")).status).toBe(404);
  expect((await door.admin("PUT", "/services/portrait/cards/origin", { origin: "http://127.0.0.1:7860" })).status).toBe(
    201,
  );
});

test("invalid ids, unknown fields and unknown services are refused", async () => {
  const put = (path: string, body: object) => door.refusal("PUT", path, body);
  expect(await put("/services/portrait/cards/Bad_Id", { origin: ORIGIN })).toBe("400 invalid_field card");
  expect(await put("/services/nothing/cards/c", { origin: ORIGIN })).toBe("404 not_found");
  expect(await put("/services/portrait/cards/c", { origin: ORIGIN, slot: 2 })).toBe("400 invalid_field slot");
  expect(await put("/services/portrait/cards/c", { origin: ORIGIN, slots: 0 })).toBe("400 invalid_field slots");
  expect(await put("/services/portrait/cards/c", { origin: ORIGIN, weight: 0 })).toBe("400 invalid_field weight");
  expect(await put("/services/portrait/cards/c", { origin: ORIGIN, state: "off" })).toBe("400 invalid_field state");
  expect(await door.refusal("PATCH", "/cards/c", { origin: ORIGIN })).toBe("400 invalid_field origin");
  expect(await door.refusal("PATCH", "/cards/nothing", { slots: 1 })).toBe("404 not_found");
});

test("changing a card raises the version of the card and of every service that lists it", async () => {
  await door.done("PUT", "/services/portrait/cards/bump", { origin: ORIGIN });
  await door.done("PUT", "/services/voice/cards/bump", { origin: ORIGIN });
  const card = await door.done("GET", "/cards/bump");
  const before = [await serviceVersion("portrait"), await serviceVersion("voice")];
  const patched = await door.done("PATCH", "/cards/bump", { state: "disabled" });
  expect(patched).toMatchObject({ state: "disabled", slots: 2 });
  expect(patched.version).toBeGreaterThan(card.version);
  expect(await serviceVersion("portrait")).toBeGreaterThan(before[0] ?? 0);
  expect(await serviceVersion("voice")).toBeGreaterThan(before[1] ?? 0);
});

test("changing a service raises the version of every card it lists, and of no other card", async () => {
  await door.done("PUT", "/services/portrait/cards/listed", { origin: ORIGIN });
  await door.done("PUT", "/services/voice/cards/other", { origin: ORIGIN });
  const version = async (id: string) => (await door.done("GET", `/cards/${id}`)).version;
  const before = [await version("listed"), await version("other")];
  await door.done("PUT", "/services/portrait", { breaker: { max_fails: 9 } });
  expect(await version("listed")).toBeGreaterThan(before[0] ?? 0);
  expect(await version("other")).toBe(before[1]);
});

test("the Card object gets each change of its listings at once", async () => {
  await door.done("PUT", "/services/portrait/cards/told", { origin: ORIGIN });
  const live = async () => (await door.done("GET", "/cards/told")).live;
  expect(await live()).toMatchObject({
    in_use: 0,
    gates: { portrait: { state: "closed", until_at: null, reason: null } },
    heartbeat: null,
  });
  await door.done("DELETE", "/services/portrait/cards/told");
  expect((await live())?.gates).toEqual({});
});

test("a card removed from one service stays listed in the others", async () => {
  await door.done("PUT", "/services/portrait/cards/out", { origin: ORIGIN });
  await door.done("PUT", "/services/voice/cards/out", { origin: ORIGIN });
  expect((await door.admin("DELETE", "/services/portrait/cards/out")).status).toBe(204);
  expect((await door.admin("DELETE", "/services/portrait/cards/out")).status).toBe(404);
  expect(await door.done("GET", "/cards/out")).toMatchObject({ listings: [{ service: "voice" }] });
  expect((await door.done("GET", "/services/portrait")).cards).not.toContain("out");
  const again = await door.admin("PUT", "/services/portrait/cards/out", { origin: ORIGIN });
  expect(again.status).toBe(201);
  expect(again.json).not.toHaveProperty("token");
});

test("concurrent PUTs of cards lose no listing", async () => {
  const calls = ["portrait", "voice"].flatMap((service) =>
    ["p1", "p2", "p3", "p4"].map((card) => door.admin("PUT", `/services/${service}/cards/${card}`, { origin: ORIGIN })),
  );
  const answers = await Promise.all(calls);
  expect(answers.map((answer) => answer.status)).toEqual(Array.from({ length: 8 }, () => 201));
  // Each card gets one token, although its two listings race.
  expect(answers.filter((answer) => answer.json.token !== undefined)).toHaveLength(4);
  expect((await door.done("GET", "/services/voice")).cards).toEqual(expect.arrayContaining(["p1", "p2", "p3", "p4"]));
});

test("a heartbeat is accepted only with the card's own token", async () => {
  const own = (await door.done("PUT", "/services/portrait/cards/beat", { origin: ORIGIN })).token;
  const other = (await door.done("PUT", "/services/portrait/cards/quiet", { origin: ORIGIN })).token;
  const beat = { gpu_memory_ratio: 0.71, gpu_utilization: 0.93, running: 2, at: "2020-01-01T00:00:00Z" };
  const from = Date.now();
  expect((await door.admin("POST", "/cards/beat/heartbeat", beat, { token: own })).status).toBe(204);
  const { heartbeat } = (await door.done("GET", "/cards/beat")).live ?? {};
  expect(heartbeat).toMatchObject({ gpu_memory_ratio: 0.71, gpu_utilization: 0.93, running: 2 });
  // The time is that of arrival, not that of the agent's clock.
  expect(Date.parse(heartbeat?.at)).toBeGreaterThanOrEqual(from);

  const refused = (token: string | null, card = "beat") =>
    door.refusal("POST", `/cards/${card}/heartbeat`, beat, { token });
  expect(await refused(null)).toBe("401 missing");
  expect(await refused(other)).toBe("401 unknown");
  expect(await refused(own, "quiet")).toBe("401 unknown");
  expect(await refused(own, "nothing")).toBe("401 unknown");
  expect(await refused("ptc_short")).toBe("401 malformed");
  expect(await door.refusal("POST", "/cards/beat/heartbeat", beat)).toBe("401 malformed");
  expect(await door.refusal("POST", "/cards/beat/heartbeat", { gpu_memory_ratio: 2 }, { token: own })).toBe(
    "400 invalid_field gpu_memory_ratio",
  );
  expect((await door.done("GET", "/cards/quiet")).live).toMatchObject({ heartbeat: null });
});

test("after a token is replaced, only the new one works", async () => {
  const old = (await door.done("PUT", "/services/portrait/cards/token", { origin: ORIGIN })).token;
  const made = await door.done("POST", "/cards/token/token");
  expect(made).toEqual({ id: "token", token: expect.stringMatching(TOKEN) });
  expect(await door.refusal("POST", "/cards/token/heartbeat", {}, { token: old })).toBe("401 unknown");
  expect((await door.admin("POST", "/cards/token/heartbeat", {}, { token: made.token })).status).toBe(204);
  expect(await door.refusal("POST", "/cards/nothing/token")).toBe("404 not_found");
});

test("only a keyed hash of a card's token is stored, and the API shows neither", async () => {
  const token = (await door.done("PUT", "/services/portrait/cards/secret", { origin: ORIGIN })).token;
  const [row] = await door.rows("SELECT * FROM cards WHERE id = 'secret'");
  expect(row?.token_hash).toMatch(/^[0-9a-f]{64}$/);
  expect(JSON.stringify(row)).not.toContain(token);
  const told = [
    await door.admin("GET", "/cards/secret"),
    await door.admin("GET", "/cards"),
    await door.admin("GET", "/audit"),
  ];
  for (const { text } of told) {
    expect(text).not.toContain(token);
    expect(text).not.toContain(String(row?.token_hash));
  }
});

test("an unlisted card can be deleted with its token and created again under the same id", async () => {
  const url = "/services/portrait/cards/once";
  const old = (await door.done("PUT", url, { origin: ORIGIN, server: "gpu-09", slots: 1 })).token;
  expect(await door.refusal("DELETE", "/cards/once")).toBe("409 card_listed");
  await door.done("DELETE", url);
  expect((await door.admin("DELETE", "/cards/once")).status).toBe(204);
  expect((await door.admin("GET", "/cards/once")).status).toBe(404);
  expect(await door.refusal("DELETE", "/cards/once")).toBe("404 not_found");
  expect(await door.refusal("POST", "/cards/once/heartbeat", {}, { token: old })).toBe("401 unknown");
  const [change] = (await door.done("GET", "/audit?target=once")).data;
  const before = { server: "gpu-09", gpu: null, slots: 1, state: "active" };
  expect(change).toMatchObject({ action: "card.delete", target: "once", before, after: null });

  const made = await door.admin("PUT", url, { origin: ORIGIN });
  expect([made.status, made.json.token]).toEqual([201, expect.stringMatching(TOKEN)]);
  expect(made.json.token).not.toBe(old);
  expect(made.json).toMatchObject({ server: null, slots: 2 });
  expect((await door.done("GET", "/cards/once")).live.gates).toHaveProperty("portrait");
});

test("a re-created card gets its configuration even if the deleted card's version was ahead of the clock", async () => {
  const url = "/services/portrait/cards/ahead";
  await door.done("PUT", url, { origin: ORIGIN });
  const ahead = Date.now() + 3_600_000;
  await door.rows("UPDATE cards SET version = ? WHERE id = 'ahead'", ahead);
  await door.done("DELETE", url);
  expect((await door.admin("DELETE", "/cards/ahead")).status).toBe(204);
  const made = await door.done("PUT", url, { origin: ORIGIN });
  expect(made.version).toBeGreaterThan(ahead);
  expect((await door.done("GET", "/cards/ahead")).live.gates).toHaveProperty("portrait");
});
