/** A service's `dialects`: what an operator can say about calling its origin, and the effect. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RefusedError } from "../../local/admin.ts";
import { doorway } from "../contract/doorway.ts";
import { listOrigin, Origin, PNG } from "../contract/origin.ts";
import { more, openai, refused } from "./client.ts";

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
});
afterAll(() => origin.close());

const TASK = {
  path: "draw",
  body: "json",
  fields: [
    { from: "prompt", to: "ask.text" },
    { from: "n", to: "ask.count", default: 1 },
    { from: "quality", to: "preset", values: { high: "slow", low: "fast" } },
  ],
  fixed: { keep: false },
  results: "/out/0/picture",
  formats: ["png", "webp"],
} as const;
const PATHS = [{ method: "POST", path: "draw", as: "run" }];

test("an operator's mapping sets names, nesting, values, defaults, fixed fields and the result pointer", async () => {
  const service = { kind: "http", route: "/own/", paths: PATHS, dialects: { generate: TASK } };
  await listOrigin(door, origin, "own", service);
  origin.answering = (res) => {
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify({ out: [{ picture: PNG }] }));
  };
  const made = await openai(door).images.generate(
    more({ model: "own", prompt: "x", quality: "high" as const }, { keep: true, other: [1] }),
  );
  expect(made.data?.[0]?.b64_json).toBe(PNG);
  expect(made.data?.[0]?.url).toContain("/v1/results/");
  const { target, body } = origin.taken();
  expect(target).toBe("/own/draw");
  expect(JSON.parse(body.toString())).toEqual({
    ask: { text: "x", count: 1 },
    preset: "slow",
    keep: false,
    other: [1],
  });
});

test("a refused field is named as the caller wrote it, wherever the origin has it", async () => {
  await door.portico.admin("PUT", "/services/own", { bounds: { "ask.count": 2 } });
  expect((await refused(openai(door).images.generate({ model: "own", prompt: "x", n: 3 }))).param).toBe("n");
});

test("a form is sent to an origin that takes forms", async () => {
  const dialects = {
    speech: {
      path: "inference_sft",
      body: "multipart",
      fields: [
        { from: "input", to: "tts_text" },
        { from: "voice", to: "spk_id", values: { alloy: "default" }, default: "default" },
      ],
      fixed: {},
      results: null,
      formats: ["pcm"],
      sample_rate_hz: 22_050,
    },
  };
  await listOrigin(door, origin, "forms", { kind: "tts", route: "/forms/", dialects });
  origin.answering = (res) => res.end(Buffer.alloc(100));
  const answer = await openai(door).audio.speech.create({ model: "forms", input: "hello", voice: "alloy" });
  const wav = Buffer.from(await answer.arrayBuffer());
  expect([wav.toString("latin1", 0, 4), wav.readUInt32LE(24), wav.length]).toEqual(["RIFF", 22_050, 144]);
  const { headers, body } = origin.taken();
  const type = headers.find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";
  const form = await new Response(new Uint8Array(body), { headers: { "content-type": type } }).formData();
  expect([...form]).toEqual([
    ["tts_text", "hello"],
    ["spk_id", "default"],
  ]);
});

test("a task of the kind is removed by null, or by leaving its path out of `paths`", async () => {
  await listOrigin(door, origin, "bare", { kind: "image", route: "/bare/", dialects: { generate: null } });
  expect((await refused(openai(door).images.generate({ model: "bare", prompt: "x" }))).param).toBe("model");
  await listOrigin(door, origin, "unlisted", { kind: "image", route: "/unlisted/", paths: PATHS });
  expect((await refused(openai(door).images.generate({ model: "unlisted", prompt: "x" }))).param).toBe("model");
});

test.each([
  ["dialects.generate.path", { ...TASK, path: "elsewhere" }],
  ["dialects.generate.path", { ...TASK, path: "/draw" }],
  ["dialects.generate.fields.0.as", { ...TASK, fields: [{ from: "size", to: "w", as: "eval" }] }],
  ["dialects.generate.fields.0.to", { ...TASK, fields: [{ from: "size", to: "a b" }] }],
  ["dialects.generate.body", { ...TASK, body: "xml" }],
  ["dialects.generate.results", { ...TASK, results: "out" }],
  ["dialects.generate.formats.0", { ...TASK, formats: ["gif"] }],
  ["dialects.generate.code", { ...TASK, code: "return 1" }],
])("a mapping is validated when it is put: %s", async (param, generate) => {
  const put = door.portico.admin("PUT", "/services/never", {
    kind: "http",
    route: "/never/",
    paths: PATHS,
    dialects: { generate },
  });
  const error: unknown = await put.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RefusedError);
  expect(String(error)).toContain("400");
  expect(String(error)).toContain(param);
});

test("an unknown task is refused", async () => {
  const put = door.portico.admin("PUT", "/services/never", {
    kind: "http",
    route: "/never/",
    dialects: { dream: TASK },
  });
  await expect(put).rejects.toThrow("dialects");
});
