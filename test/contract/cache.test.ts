/** Which answers are stored, which requests hit, and what a hit costs. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture } from "./doorway.ts";
import { answerEcho, answerImage, listOrigin, Origin, valuesOf } from "./origin.ts";

const DEFAULTS = { steps: 1, negative_prompt: "", cfg_scale: 7.5, nested: { b: 1, a: 2 } };
const door = doorway({
  services: {
    plain: { kind: "image", route: "/plain/sdapi/v1/", cache: { enabled: false } },
    filled: { kind: "image", route: "/filled/sdapi/v1/", defaults: DEFAULTS },
    brief: { kind: "image", route: "/brief/sdapi/v1/", cache: { ttl_s: 1 } },
    versioned: { kind: "image", route: "/versioned/sdapi/v1/", model_version: "1" },
  },
});
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  origin.answering = answerEcho;
  await listOrigin(door, origin, "any", { kind: "http", route: "/any/" });
});
afterAll(() => origin.close());

const isHit = (answer: Answer) => /^portico; hit; ttl=\d+$/.test(expectOk(answer).header("cache-status") ?? "");
const text = (body: string, target = "/sdapi/v1/txt2img") =>
  door.ask(target, { body, headers: { "content-type": "application/json" } });
const at = (service: string, json: object) => door.ask(`/${service}/sdapi/v1/txt2img`, { json });

test("an image with an explicit seed >= 0 runs once and is then served byte for byte from the cache", async () => {
  const json = picture();
  const before = door.starts();
  const first = expectOk(await door.paint(json));
  expect(first.header("cache-status")).toBe("portico; fwd=miss; stored");
  const second = await door.paint(json);
  expect(isHit(second)).toBe(true);
  expect(second.body.equals(first.body)).toBe(true);
  expect(second.header("content-type")).toBe(first.header("content-type"));
  expect(door.starts()).toBe(before + 1);
});

test("seed 0 is an explicit seed", async () => {
  const json = picture({ seed: 0, prompt: `nought ${Date.now()}` });
  await door.paint(json);
  expect(isHit(await door.paint(json))).toBe(true);
});

test("a sound is cached by its text", async () => {
  const json = { text: `said once ${Date.now()}` };
  const first = expectOk(await door.speak(json));
  const second = await door.speak(json);
  expect(isHit(second)).toBe(true);
  expect(second.body.equals(first.body)).toBe(true);
  expect(second.header("content-type")).toBe(first.header("content-type"));
});

test("a streamed sound hits once it is complete", async () => {
  const json = { text: `streamed once ${Date.now()}`, stream: true };
  const first = expectOk(await door.speak(json));
  let second = await door.speak(json);
  for (let i = 0; i < 20 && !isHit(second); i++) second = await door.speak(json);
  expect(isHit(second)).toBe(true);
  expect(second.body.equals(first.body)).toBe(true);
});

describe("an image without an explicit integer seed >= 0 is not cacheable:", () => {
  const NONE = picture();
  delete NONE["seed"];
  const CASES: Record<string, object> = {
    "no seed": NONE,
    "-1": { ...NONE, seed: -1 },
    "-2": { ...NONE, seed: -2 },
    null: { ...NONE, seed: null },
  };
  for (const [what, json] of Object.entries(CASES)) {
    test(what, async () => {
      const answers = [await door.ask("/sdapi/v1/txt2img", { json }), await door.ask("/sdapi/v1/txt2img", { json })];
      for (const answer of answers) {
        if (answer.status === 200) expect(answer.header("cache-status")).toBe("portico; fwd=bypass");
        else expect(answer.status).toBe(422);
      }
    });
  }

  test("a fraction, a string, a boolean and a list are not integer seeds", async () => {
    for (const seed of [1.5, "1", true, [1]]) {
      const json = picture({ seed });
      await door.paint(json);
      expect((await door.paint(json)).header("cache-status") ?? "").not.toContain("hit");
    }
  });

  test("but its image is still a result", async () => {
    expect(linksOf(expectOk(await door.ask("/sdapi/v1/txt2img", { json: NONE })))).toHaveLength(1);
  });
});

test("a service of kind http, a service with its cache off and a read path are not cached", async () => {
  for (let i = 0; i < 2; i++) {
    expect(isHit(await door.ask("/any/x", { json: { seed: 1 } }))).toBe(false);
    expect(isHit(await at("plain", picture({ seed: 1 })))).toBe(false);
    expect(isHit(await door.ask("/sdapi/v1/sd-models"))).toBe(false);
  }
  expect(origin.seen).toHaveLength(2);
});

describe("the body is compared in its canonical form:", () => {
  const BASE = '{"prompt":"canon é","seed":4711,"width":32,"height":32,"steps":1,"cfg_scale":7.5}';
  const SAME: Record<string, string> = {
    "keys in another order": '{"cfg_scale":7.5,"steps":1,"height":32,"width":32,"seed":4711,"prompt":"canon é"}',
    "white space": ' {\n\t"prompt" : "canon é" , "seed":4711,"width":32,"height":32,"steps":1,"cfg_scale":7.5 }\r\n',
    "numbers spelt otherwise":
      '{"prompt":"canon é","seed":4711.0,"width":3.2e1,"height":320e-1,"steps":1.0,"cfg_scale":75e-1}',
    escapes: '{"prompt":"c\\u0061non \\u00e9","seed":4711,"width":32,"height":32,"steps":1,"cfg_scale":7.50}',
  };
  test("the first request runs", async () => expect(isHit(await text(BASE))).toBe(false));
  for (const [what, body] of Object.entries(SAME)) {
    test(`${what}: a hit`, async () => expect(isHit(await text(body))).toBe(true));
  }

  const OTHER: Record<string, string> = {
    "a composed and a decomposed letter": BASE.replace("é", "e\u0301"),
    "letters of another case": BASE.replace("canon", "Canon"),
    "a blank more in a text": BASE.replace("canon é", "canon é "),
    "a number as a text": BASE.replace('"cfg_scale":7.5', '"cfg_scale":"7.5"'),
    "one more field": BASE.replace("}", ',"tiling":false}'),
    "one more null": BASE.replace("}", ',"tiling":null}'),
    "another seed": BASE.replace("4711", "4712"),
  };
  for (const [what, body] of Object.entries(OTHER)) {
    test(`${what}: no hit`, async () => {
      const answer = await text(body);
      expect(answer.header("cache-status") ?? "").not.toContain("hit");
    });
  }

  test("lists are compared in order", async () => {
    const json = picture({ styles: ["a", "b"] });
    await door.paint(json);
    expect(isHit(await door.paint({ ...json, styles: ["b", "a"] }))).toBe(false);
  });
});

describe("a service's declared defaults are filled in, and nothing else:", () => {
  test("a request that states a default hits the answer to one that omits it", async () => {
    const json: Record<string, unknown> = picture();
    delete json["steps"];
    expect(isHit(await at("filled", json))).toBe(false);
    expect(isHit(await at("filled", { ...json, steps: 1 }))).toBe(true);
    expect(isHit(await at("filled", { ...json, ...DEFAULTS, nested: { a: 2, b: 1 } }))).toBe(true);
    expect(isHit(await at("filled", { ...json, steps: 2 }))).toBe(false);
    expect(isHit(await at("filled", { ...json, n_iter: 1 }))).toBe(false);
  });

  test("the origin receives the caller's body without the defaults", async () => {
    await listOrigin(door, origin, "bare", {
      kind: "image",
      route: "/bare/",
      defaults: DEFAULTS,
      cache: { enabled: true },
    });
    origin.seen.length = 0;
    origin.answering = answerImage;
    await door.ask("/bare/txt2img", { json: { seed: 1 } });
    origin.answering = answerEcho;
    expect(origin.taken().body.toString()).toBe('{"seed":1}');
  });

  test("a default seed does not make a request cacheable", async () => {
    await door.portico.admin("PUT", "/services/seeded", { kind: "image", route: "/seeded/", defaults: { seed: 5 } });
    await door.portico.admin("PUT", "/services/seeded/cards/bare-card", { origin: origin.url, slots: 8 });
    origin.answering = answerImage;
    for (let i = 0; i < 2; i++) {
      const answer = expectOk(await door.ask("/seeded/txt2img", { json: { prompt: "x" } }));
      expect(answer.header("cache-status")).toBe("portico; fwd=bypass");
    }
    origin.answering = answerEcho;
    origin.seen.length = 0;
  });
});

describe("a body in a content coding", () => {
  test("reaches the origin with its coding, and its answer is not served for the same bytes without one", async () => {
    const service = { kind: "http", route: "/coded/", cache: { enabled: true } };
    await listOrigin(door, origin, "coded", service);
    const ask = (coding: string | null) =>
      door.ask("/coded/run", {
        body: "coded",
        headers: { "content-type": "text/plain", ...(coding === null ? {} : { "content-encoding": coding }) },
      });
    for (const [coding, status, reached] of [
      ["gzip", "portico; fwd=bypass", ["gzip"]],
      [null, "portico; fwd=miss; stored", []],
      ["br", "portico; fwd=bypass", ["br"]],
    ] as const) {
      origin.seen.length = 0;
      expect(expectOk(await ask(coding)).header("cache-status")).toBe(status);
      expect(valuesOf(origin.taken(), "content-encoding")).toEqual(reached);
    }
    for (const coding of [null, "identity"]) expect(isHit(await ask(coding))).toBe(true);
  });
});

describe("the cache key includes", () => {
  test("the query", async () => {
    const json = picture();
    const ask = (query: string) => door.ask(`/sdapi/v1/txt2img${query}`, { json });
    expect(isHit(await ask(""))).toBe(false);
    expect(isHit(await ask("?a=1"))).toBe(false);
    expect(isHit(await ask("?a=1&a=2"))).toBe(false);
    expect(isHit(await ask("?a=2&a=1"))).toBe(false);
    expect(isHit(await ask("?a=1"))).toBe(true);
  });

  test("the service and the path", async () => {
    const json = picture();
    await door.paint(json);
    expect(isHit(await at("filled", json))).toBe(false);
  });

  test("the model_version", async () => {
    const json = picture();
    await at("versioned", json);
    expect(isHit(await at("versioned", json))).toBe(true);
    await door.portico.admin("PUT", "/services/versioned", { model_version: "2" });
    const start = performance.now();
    let answer = await at("versioned", json);
    while (isHit(answer) && performance.now() - start < 10_000) answer = await at("versioned", json);
    expect(isHit(answer)).toBe(false);
  });
});

test("an answer is served for ttl_s and then made again", async () => {
  const json = picture();
  const first = expectOk(await at("brief", json));
  expect(first.header("cache-status")).toBe("portico; fwd=miss; stored");
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  const before = door.starts();
  expect(isHit(await at("brief", json))).toBe(false);
  expect(door.starts()).toBe(before + 1);
});

test("a trailing dot or another Host does not find another tenant's answer", async () => {
  const json = picture();
  await door.paint(json);
  const { port } = new URL(door.portico.url);
  for (const host of [`127.0.0.1.:${port}`, `localhost:${port}`, "example.com"]) {
    const answer = expectOk(await door.paint(json, { key: await door.key(), headers: { host } }));
    expect(answer.header("cache-status") ?? "", host).not.toContain("hit");
  }
});
